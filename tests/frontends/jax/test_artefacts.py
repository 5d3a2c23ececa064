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
    shapes = [export.symbolic_shape(f"({s},)" if s else "()", scope=scope) for s, _ in types]
    given = [jax.ShapeDtypeStruct(s, d) for s, (_, d) in zip(shapes, types, strict=True)]
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


def test_loops_and_conditions_are_regions_and_what_a_loop_hands_on_is_no_state(tmp_path: Path) -> None:
    path = written(tmp_path / "loop", m.collatz_like, ("batch, 4", jnp.float32))
    assert_same(path, normal(3, 4))
    assert_same(path, 50 * np.abs(normal(2, 4)))

    table = np.arange(12, dtype=np.float32).reshape(3, 4)

    def held(x: Any, y: Any, n: Any) -> Any:
        def body(s: Any) -> Any:
            return s[0] + 1, s[1] * 0.5 + table @ s[2], s[2]

        return jax.lax.while_loop(lambda s: s[0] < n, body, (0, x, y))[1]

    path = written(tmp_path / "held", held, ("3", jnp.float32), ("4", jnp.float32), ("", jnp.int32))
    assert_same(path, normal(3), normal(4), np.array(4, np.int32))
    (loop,) = [n for n in import_artefact(path).imported.graph if n.op.name == "while_loop"]
    assert len(loop.results) == 2


def test_a_scan_over_a_dynamic_length_in_a_dynamic_batch(tmp_path: Path) -> None:
    weights = normal(4, 4, seed=2)

    def rnn(xs: Any) -> Any:
        def step(h: Any, x: Any) -> Any:
            h = jnp.tanh(h @ weights + x)
            return h, h.sum(-1)

        return jax.lax.scan(step, jnp.zeros((xs.shape[1], 4)), xs)

    path = written(tmp_path / "scan", rnn, ("length, batch, 4", jnp.float32))
    assert_same(path, normal(5, 2, 4))
    assert_same(path, normal(1, 3, 4))


def test_branches_by_number_take_what_they_close_over(tmp_path: Path) -> None:
    def chosen(i: Any, x: Any) -> Any:
        return jax.lax.switch(i, [lambda a: a + x.sum(), lambda a: a * 2, lambda a: -a], x)

    path = written(tmp_path / "switch", chosen, ("", jnp.int32), ("batch, 3", jnp.float32))
    for which in (-1, 0, 1, 2, 7):
        assert_same(path, np.array(which, np.int32), normal(2, 3))


FUNCTIONS: dict[str, tuple[Any, tuple[Any, ...]]] = {
    "sort by two keys": (lambda x, i: jax.lax.sort((i, x), num_keys=2), (normal(3, 6), tokens(3, 6))),
    "argmax": (lambda x: (jnp.argmax(x, 1), jnp.argmin(x, 0)), (normal(3, 6),)),
    "top k": (lambda x: jax.lax.top_k(x, 2), (normal(3, 6),)),
    "add at places": (lambda x, i: jnp.zeros((5, 6)).at[i[:, 0] % 7 - 1].add(x), (normal(3, 6), tokens(3, 6))),
    "set at places": (lambda x, i: x.at[:, i[0, :2] % 6].set(0.5), (normal(3, 6), tokens(3, 6))),
    "running sums": (lambda x: (jnp.cumsum(x, 1), jax.lax.cummax(x, 0, reverse=True)), (normal(3, 6),)),
    "gradient of pooling": (
        jax.grad(lambda x: (jax.lax.reduce_window(x, -jnp.inf, jax.lax.max, (2, 2), (2, 2), "VALID") ** 2).sum()),
        (normal(4, 6),),
    ),
    "reduced by a function": (
        lambda x: jax.lax.reduce(x, 1.0, lambda a, b: a * b + 0.0, (1,)),
        (normal(3, 6),),
    ),
    "fourier": (lambda x: jnp.abs(jnp.fft.rfft(x)), (normal(3, 6),)),
    "complex constants": (lambda x: (x * np.array([1 + 2j, 3 - 1j, 0, 1j, 5, 2], np.complex64)).real, (normal(3, 6),)),
    "bits": (lambda x: jax.lax.bitcast_convert_type(x, jnp.int32), (normal(3, 6),)),
    "cholesky": (lambda x: jnp.linalg.cholesky(x @ x.T + 3 * jnp.eye(3)), (normal(3, 6),)),
    "solve": (lambda x: jnp.linalg.solve(x[:, :3] + 4 * jnp.eye(3), x), (normal(3, 6),)),
    "singular values": (lambda x: jnp.linalg.svd(x, compute_uv=False), (normal(3, 6),)),
    "eigenvalues": (lambda x: jnp.linalg.eigvalsh(x @ x.T), (normal(3, 6),)),
}


@pytest.mark.parametrize("name", FUNCTIONS)
def test_operations_with_regions_and_custom_calls_of_lapack_are_read(name: str, tmp_path: Path) -> None:
    function, arrays = FUNCTIONS[name]
    path = tmp_path / "f"
    path.write_bytes(export.export(jax.jit(function))(*arrays).serialize())
    assert_same(path, *arrays)


def test_a_custom_call_outside_of_the_list_is_refused_by_its_name(tmp_path: Path) -> None:
    path = written(tmp_path / "qr", lambda x: jnp.linalg.qr(x)[0], ("3, 3", jnp.float32))
    with pytest.raises(ImportRefused, match=r"the custom call 'lapack_\w+' runs code that is not in the file"):
        import_artefact(path)


def test_an_operation_without_translation_is_refused_with_its_line(tmp_path: Path) -> None:
    def bits(key: Any) -> Any:
        return jax.lax.rng_bit_generator(key, (3,))[1]

    path = written(tmp_path / "random", bits, ("4", jnp.uint32))
    with pytest.raises(ImportRefused, match=r"stablehlo.rng_bit_generator[\s\S]*test_artefacts.py:\d+"):
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
