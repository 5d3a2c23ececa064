"""What `jax.export` serialised is read from its file: StableHLO with symbolic dims, and nothing that runs code."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import jax
import numpy as np
import pytest
from jax import export
from jax import numpy as jnp

import dragoman
from dragoman.frontends.jax.stablehlo.load import import_artefact
from dragoman.ir.errors import ImportRefused, Unsupported, UsageError
from dragoman.ir.interpreter import run
from tests.frontends.jax import models as m
from tests.frontends.jax.models import normal, tokens

KEY = jax.random.key(0)


def written(path: Path, function: Any, *types: tuple[str, Any], **settings: Any) -> Path:
    """A function exported on types such as ("b, 4", float32)."""
    scope = export.SymbolicScope(settings.pop("constraints", ()))
    given = [jax.ShapeDtypeStruct(export.symbolic_shape(f"({s},)", scope=scope), d) for s, d in types]
    path.write_bytes(export.export(jax.jit(function), **settings)(*given).serialize())
    return path


def assert_same(path: Path, *arrays: Any) -> None:
    """Our interpreter gives in double what JAX gives for the artefact, to the rounding of single precision."""
    found = import_artefact(path)
    for ours, theirs in zip(run(found.imported.graph, *arrays), found.runner.run(arrays), strict=True):
        assert ours.shape == theirs.shape
        np.testing.assert_allclose(ours, theirs, rtol=2e-5, atol=2e-5)


def test_an_artefact_is_converted_and_verified_at_other_sizes_than_it_was_exported_at(tmp_path: Path) -> None:
    params = m.mlp_params(5, 8, 3)
    path = written(tmp_path / "mlp", lambda x: m.mlp(params, x), ("batch, 5", jnp.float32))
    report = dragoman.convert(path, tmp_path / "mlp.onnx")
    assert report.verdict is not None
    assert report.verdict.holds
    graph = dragoman.load(path).graph
    assert str(graph.inputs[0].type) == "f32[batch,5]"
    assert [v.name for v in graph.inputs] == ["args.0"]


def test_a_convolutional_network_with_norms_pooling_and_resizing(tmp_path: Path) -> None:
    net = m.UNet()
    variables = net.init(KEY, normal(1, 8, 8, 3), normal(1))
    types = ("batch, 8, 8, 3", jnp.float32), ("batch", jnp.float32)
    path = written(tmp_path / "unet", lambda x, t: net.apply(variables, x, t), *types)
    assert_same(path, normal(2, 8, 8, 3), normal(2, seed=1))


def test_a_transformer_keeps_its_dynamic_length_and_its_modules(tmp_path: Path) -> None:
    net = m.Encoder(depth=1)
    variables = net.init(KEY, tokens(1, 4))
    bounded = {"constraints": ["length <= 64"]}
    path = written(tmp_path / "encoder", lambda ids: net.apply(variables, ids), ("batch, length", jnp.int32), **bounded)
    assert_same(path, tokens(2, 7))
    assert_same(path, tokens(1, 1))
    lines = {n.provenance.module: n.provenance.line for n in import_artefact(path).imported.graph}
    assert any("Encoder" in module and "LayerNorm_0" in module for module in lines)
    assert any(line.startswith("models.py:") for line in lines.values())


def test_a_custom_call_outside_of_the_list_is_refused_by_its_name(tmp_path: Path) -> None:
    path = written(tmp_path / "eigen", jnp.linalg.eigvalsh, ("3, 3", jnp.float32))
    with pytest.raises(ImportRefused, match=r"the custom call 'lapack_\w+' runs code that is not in the file"):
        import_artefact(path)


def test_an_operation_without_translation_is_refused_with_its_line(tmp_path: Path) -> None:
    path = written(tmp_path / "loop", m.collatz_like, ("3, 4", jnp.float32))
    with pytest.raises(ImportRefused, match=r"stablehlo.while[\s\S]*models.py:\d+"):
        import_artefact(path)


def test_an_artefact_for_another_platform_is_refused(tmp_path: Path) -> None:
    path = written(tmp_path / "tpu", jnp.sin, ("3", jnp.float32), platforms=["tpu"])
    with pytest.raises(Unsupported, match=r"was exported for tpu: export it with platforms=\('cpu',\)"):
        import_artefact(path)


def test_an_artefact_of_an_incompatible_version_is_refused_with_one_message(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = written(tmp_path / "sine", jnp.sin, ("3", jnp.float32))
    monkeypatch.setattr(export, "minimum_supported_calling_convention_version", 1000)
    with pytest.raises(Unsupported, match="calling convention .* made by an incompatible version of JAX"):
        import_artefact(path)


def test_a_damaged_artefact_is_refused_with_one_message(tmp_path: Path) -> None:
    path = written(tmp_path / "sine", jnp.sin, ("3", jnp.float32))
    content = bytearray(path.read_bytes())
    content[0:4] = b"\xff\xff\xff\x7f"
    path.write_bytes(content)
    with pytest.raises(Unsupported, match="damaged or was made by an incompatible version"):
        dragoman.load(path)


def test_dims_of_an_artefact_cannot_be_named_anew(tmp_path: Path) -> None:
    path = written(tmp_path / "sine", jnp.sin, ("3", jnp.float32))
    with pytest.raises(UsageError, match="the dynamic dims that it was exported with"):
        dragoman.load(path, dynamic={"args.0": {0: "n"}})
