"""Keras files whose configuration would run code are refused before Keras looks at them."""

from __future__ import annotations

import json
import zipfile
from pathlib import Path
from typing import Any

import pytest

from dragoman.ir.errors import Malformed, UnsafeInput, Unsupported
from tests.frontends.keras.present import with_keras

pytestmark = with_keras


def archive(path: Path, layer: dict[str, Any], version: str = "3.15.0") -> Path:
    config = {"class_name": "Sequential", "module": "keras", "config": {"name": "net", "layers": [layer]}}
    with zipfile.ZipFile(path, "w") as file:
        file.writestr("config.json", json.dumps(config))
        file.writestr("metadata.json", json.dumps({"keras_version": version}))
        file.writestr("model.weights.h5", b"")
    return path


@pytest.mark.parametrize(
    ("layer", "said"),
    [
        ({"class_name": "Lambda", "module": "keras.layers", "config": {"name": "odd"}}, r"Lambda \(net.odd\)"),
        ({"class_name": "TFSMLayer", "module": "keras.layers", "config": {"filepath": "/tmp/x"}}, "TFSMLayer"),
        (
            {"class_name": "StringLookup", "module": "keras.layers", "config": {"vocabulary": "/etc/passwd"}},
            "reads the file '/etc/passwd'",
        ),
        ({"class_name": "system", "module": "os", "config": {}}, "os.system"),
        (
            {
                "class_name": "TimeDistributed",
                "module": "keras.layers",
                "config": {"layer": {"class_name": "Lambda", "module": "keras.layers", "config": {}}},
            },
            "Lambda",
        ),
        ({"class_name": "Mine", "module": None, "registered_name": "pkg>Mine", "config": {}}, "pkg>Mine"),
    ],
)
def test_a_layer_that_could_run_code_is_refused_by_name(tmp_path: Path, layer: dict[str, Any], said: str) -> None:
    from dragoman.frontends.keras.file import read_archive

    with pytest.raises(UnsafeInput, match=said):
        read_archive(archive(tmp_path / "m.keras", layer))


def test_a_file_of_keras_2_is_refused_with_its_version(tmp_path: Path) -> None:
    from dragoman.frontends.keras.file import read_archive

    with pytest.raises(Unsupported, match="Keras 2.15"):
        read_archive(archive(tmp_path / "m.keras", {"class_name": "Dense", "module": "keras.layers"}, "2.15.0"))


def test_an_archive_whose_configuration_is_no_json_is_malformed(tmp_path: Path) -> None:
    from dragoman.frontends.keras.file import read_archive

    path = tmp_path / "m.keras"
    with zipfile.ZipFile(path, "w") as file:
        file.writestr("config.json", "{")
        file.writestr("metadata.json", "{}")
    with pytest.raises(Malformed, match="damaged"):
        read_archive(path)
