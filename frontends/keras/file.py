"""Keras files: an archive of a configuration and weights, read by Keras once every layer in it is known to be its own.

Refuses what could run code or open files: `Lambda`, `TFSMLayer`, `TorchModuleWrapper` and the like, functions, modules
other than Keras' own. `trust` lets them pass.
"""

from __future__ import annotations

import json
import zipfile
from pathlib import Path
from typing import Any

from dragoman.frontends.tensorflow_import import load_tensorflow
from dragoman.ir.errors import Malformed, OverBudget, UnsafeInput, Unsupported

_ADVICE = " If you made this file or trust who did, say so with --trust"
_MOST_CONFIG = 64 << 20  # bytes
_RUN_CODE = {
    "Lambda": "runs Python code from the file",
    "TFSMLayer": "loads a SavedModel from a path that the file names",
    "TorchModuleWrapper": "unpickles a module of PyTorch",
    "JaxLayer": "runs functions from the file",
    "FlaxLayer": "runs functions from the file",
    "__lambda__": "runs Python code from the file",
    "function": "names a function to import",
}
_OWN = ("keras", "builtins")
_FILES = ("vocabulary", "idf_weights", "filepath")  # what layers read from a path if it is given as text


def read_archive(path: Path, trust: bool = False) -> Any:
    """The model. Raises UnsafeInput, Malformed, Unsupported for a Keras 2 file."""
    try:
        with zipfile.ZipFile(path) as archive:
            info = archive.getinfo("config.json")
            if info.file_size > _MOST_CONFIG:
                raise OverBudget(f"{path}: its configuration has {info.file_size} bytes")
            config = json.loads(archive.read("config.json"))
            metadata = json.loads(archive.read("metadata.json"))
    except (zipfile.BadZipFile, KeyError, ValueError, OSError, RecursionError, NotImplementedError) as error:
        raise Malformed(f"{path}: a damaged Keras file: {error}") from None
    version = str(metadata.get("keras_version", "")) if isinstance(metadata, dict) else ""
    if version.startswith(("1.", "2.")):
        raise Unsupported(f"{path} was written by Keras {version}: load it there and save its weights for Keras 3")
    if not trust:
        check_config(config, str(path))
    load_tensorflow()
    import keras

    try:
        return keras.saving.load_model(path, compile=False, safe_mode=not trust)
    except Exception as error:  # Keras' loader fails in many ways; each means that the file is not what it says
        said = str(error).strip().splitlines() or [""]
        raise Malformed(f"{path}: Keras cannot load it: {type(error).__name__}: {said[0][:300]}") from error


def check_config(config: Any, path: str) -> None:
    """Raise UnsafeInput for the first object in a configuration that is not Keras' own, or that runs code."""
    stack = [(config, "")]
    while stack:
        found, where = stack.pop()
        if isinstance(found, list):
            stack.extend((x, where) for x in found)
        if not isinstance(found, dict):
            continue
        name, inner = found.get("class_name"), found.get("config")
        if isinstance(inner, dict) and isinstance(inner.get("name"), str):
            where = f"{where}.{inner['name']}" if where else inner["name"]
        if isinstance(name, str):
            _check_class(name, found, where, path)
        for key in _FILES:
            if isinstance(found.get(key), str):
                raise UnsafeInput(f"{path}: {where or name} reads the file {found[key]!r}, named by {key!r}.{_ADVICE}")
        stack.extend((x, where) for x in found.values())


def _check_class(name: str, found: dict[str, Any], where: str, path: str) -> None:
    at = f" ({where})" if where else ""
    if name in _RUN_CODE:
        raise UnsafeInput(f"{path}: {name}{at} {_RUN_CODE[name]}.{_ADVICE}")
    module = found.get("module")
    if isinstance(module, str) and module.partition(".")[0] not in _OWN:
        raise UnsafeInput(f"{path}: {module}.{name}{at} is no class of Keras.{_ADVICE}")
    if found.get("registered_name") and ">" in str(found["registered_name"]):
        raise UnsafeInput(f"{path}: {found['registered_name']}{at} is no class of Keras.{_ADVICE}")
