"""Writing: the same bytes each time, external data in its place, and the old file until the new one is whole."""

from __future__ import annotations

import errno
import os
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np
import onnx
import pytest

from dragoman.backends.onnx import Session, Staging, check, check_destination, save, to_model_proto, wire, write
from dragoman.ir.builder import Builder
from dragoman.ir.errors import Malformed, OutputError, UsageError
from dragoman.ir.graph import Graph
from dragoman.ir.types import F32, TensorType, dtype_of, parse_type
from dragoman.ir.weights import ArrayWeight, ComputedWeight, FileWeight

RANDOM = np.random.default_rng(7)


def model(seed: int = 0, width: int = 600) -> Graph:
    """Two layers: weights large enough to be outside, biases small enough to stay inside."""
    random = np.random.default_rng(seed)
    graph = Graph("model")
    x = graph.add_input(parse_type("f32[b,8]"), "x")
    b = Builder(graph)
    for index, (out, given) in enumerate(((width, 8), (4, width))):
        w = graph.add_weight(f"l{index}.weight", ArrayWeight(random.standard_normal((out, given), np.float32)))
        bias = graph.add_weight(f"l{index}.bias", ArrayWeight(random.standard_normal(out, np.float32)))
        x = b.relu(b.linear(x, w, bias))
    graph.set_outputs([x], ["y"])
    return graph


INPUT = RANDOM.standard_normal((3, 8), np.float32)


def result(path: Path) -> Any:
    return Session(path, optimise=False).run([INPUT])[0]


def expected(seed: int = 0) -> Any:
    return Session(to_model_proto(model(seed)), optimise=False).run([INPUT])[0]


def names(folder: Path) -> list[str]:
    return sorted(p.name for p in folder.iterdir())


# ---- what is in the files ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("external", [False, True])
def test_a_saved_model_is_valid_and_runs(tmp_path: Path, external: bool) -> None:
    saved = save(model(), tmp_path / "m.onnx", external=external)
    check(saved.path)
    assert np.array_equal(result(saved.path), expected())
    assert (saved.opset, saved.nodes, saved.weight_bytes) == (20, 4, 4 * (600 * 8 + 600 + 4 * 600 + 4))
    assert saved.file_bytes == sum(p.stat().st_size for p in tmp_path.iterdir())


@pytest.mark.parametrize("external", [False, True])
def test_saving_again_gives_the_same_bytes(tmp_path: Path, external: bool) -> None:
    contents: list[dict[str, bytes]] = []
    for folder in ("a", "b"):
        (tmp_path / folder).mkdir()
        save(model(), tmp_path / folder / "m.onnx", external=external)
        contents.append({p.name: p.read_bytes() for p in (tmp_path / folder).iterdir()})
    assert contents[0] == contents[1]


def test_an_embedded_file_is_what_protobuf_would_have_written(tmp_path: Path) -> None:
    saved = save(model(), tmp_path / "m.onnx", external=False)
    assert onnx.load(str(saved.path)) == to_model_proto(model())


def test_external_data_is_aligned_and_small_weights_stay_inside(tmp_path: Path) -> None:
    saved = save(model(width=40_000), tmp_path / "m.onnx", external=True)
    assert saved.data is not None
    assert re.fullmatch(r"m-[0-9a-f]{16}\.data", saved.data.name)
    proto = onnx.load(str(saved.path), load_external_data=False)
    places = {
        t.name: {e.key: e.value for e in t.external_data} for t in proto.graph.initializer if len(t.external_data)
    }
    assert places == {
        "l0.weight": {"location": saved.data.name, "offset": "0", "length": "1280000"},
        "l0.bias": {"location": saved.data.name, "offset": "1282048", "length": "160000"},
        "l1.weight": {"location": saved.data.name, "offset": "1445888", "length": "640000"},
    }
    assert all(int(p["offset"]) % 4096 == 0 for p in places.values())
    loaded = onnx.load(str(saved.path))
    for name, value in model(width=40_000).weights.items():
        stored = next(t for t in loaded.graph.initializer if t.name == name)
        assert np.array_equal(onnx.numpy_helper.to_array(stored), value.weight.array())  # type: ignore[union-attr]


def test_large_tensors_begin_at_what_windows_can_map(tmp_path: Path) -> None:
    graph = Graph()
    x = graph.add_input(parse_type("f32[]"), "x")
    values = [graph.add_weight(n, ArrayWeight(np.ones(s, np.float32))) for n, s in (("a", 1025), ("b", 1 << 18))]
    graph.set_outputs([Builder(graph).add(v, x) for v in values])
    saved = save(graph, tmp_path / "m.onnx", external=True)
    with wire.mapped(saved.path) as data:
        _, found = wire.scan(data)
    assert [(f.name, f.placement.offset) for f in found if f.placement] == [("a", 0), ("b", 65536)]


@pytest.mark.parametrize(
    "values",
    [
        np.arange(6, dtype=np.float32).reshape(2, 3),
        np.arange(40_000_000 // 4, dtype=np.int32).reshape(5, -1).T,
        np.arange(24, dtype=np.float64).reshape(2, 3, 4).transpose(2, 0, 1),
        np.arange(24, dtype=np.int16).reshape(4, 6)[::2, ::-3],
        np.arange(12, dtype=">i4").reshape(3, 4),
        np.array(5.0, np.float16),
        np.zeros((0, 4), np.float32),
        np.broadcast_to(np.float32(3), (7, 5)),
        np.array([[1, -2, 3]], ml_dtypes.int4),
        np.array([1.5, -2.0], ml_dtypes.bfloat16),
        np.array([True, False]),
        np.asfortranarray(np.arange(30, dtype=np.complex64).reshape(5, 6)),
    ],
    ids=lambda a: f"{a.dtype}{a.shape}",
)
def test_a_weight_is_streamed_row_by_row_whatever_its_layout(values: Any) -> None:
    out = bytearray()
    wire.stream(ArrayWeight(values), out.extend)
    assert bytes(out) == bytes(to_raw(values))


def to_raw(values: Any) -> bytes:
    if dtype_of(values).bits == 4:
        nibbles = [int(v) & 15 for v in values.reshape(-1)] + [0] * (values.size % 2)
        return bytes(a | b << 4 for a, b in zip(nibbles[::2], nibbles[1::2], strict=True))
    return np.ascontiguousarray(values).astype(values.dtype.newbyteorder("<")).tobytes()


def test_pieces_of_a_large_weight_are_small(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(wire, "CHUNK", 1000)
    values = np.arange(5000, dtype=np.int32).reshape(50, 100).T
    sizes: list[int] = []
    out = bytearray()
    wire.stream(ArrayWeight(values), lambda piece: (sizes.append(piece.nbytes), out.extend(piece)))
    assert max(sizes) <= 1000
    assert bytes(out) == values.copy().tobytes()


def test_a_weight_that_gives_other_bytes_than_it_declares_is_refused(tmp_path: Path) -> None:
    graph = Graph()
    lying = ComputedWeight(F32, (2000,), lambda: np.zeros(2000, np.float32))
    object.__setattr__(lying, "compute", lambda: np.zeros(1999, np.float32))
    w = graph.add_weight("w", lying)
    graph.set_outputs([Builder(graph).exp(w)])
    with pytest.raises(Malformed, match="declared f32"):
        save(graph, tmp_path / "m.onnx")
    assert names(tmp_path) == []


# ---- external data by size -----------------------------------------------------------------------------------------


def test_weights_move_outside_above_the_threshold(tmp_path: Path) -> None:
    assert save(model(), tmp_path / "a.onnx", threshold=10_000).data is not None
    assert save(model(), tmp_path / "b.onnx").data is None


def sparse(tmp_path: Path, count: int, extent: int) -> Graph:
    """A model whose weights are holes in a sparse file: gibibytes that take neither disk nor memory."""
    hole = tmp_path / "hole"
    with hole.open("wb") as file:
        file.truncate(extent)
    graph = Graph()
    x = graph.add_input(parse_type("u8[]"), "x")
    b = Builder(graph)
    for index in range(count):
        x = b.take(
            graph.add_weight(f"w{index}", FileWeight(hole, 0, dtype_of(np.uint8), (extent,))),
            b.cast(x, dtype=dtype_of(np.int64)),
            axis=0,
        )
    graph.set_outputs([x])
    return graph


def test_a_model_of_2_gib_goes_outside_by_itself(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    graph = sparse(tmp_path, 3, 700 << 20)
    written: list[int] = []
    # The bytes themselves are not written here: what is decided, placed and referred to is the same.
    monkeypatch.setattr(wire, "pieces", lambda values, dtype: iter(()))
    monkeypatch.setattr(wire, "stream", lambda weight, put, mappings=None: written.append(weight.nbytes))
    monkeypatch.setattr(write, "_check_written", lambda *_: None)
    monkeypatch.setattr(write.Staging, "_check_room", lambda *_: None)  # nor does the disk need room for them
    with Staging(tmp_path / "m.onnx") as staging:
        saved = staging.write(graph)
        assert saved.data is not None
        proto = onnx.load(str(saved.path), load_external_data=False)
    assert written == [700 << 20] * 3
    offsets = [next(e.value for e in t.external_data if e.key == "offset") for t in proto.graph.initializer]
    assert offsets == ["0", str(700 << 20), str(1400 << 20)]


def test_more_than_protobuf_holds_cannot_be_embedded(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="do not fit into one ONNX file"):
        save(sparse(tmp_path, 3, 700 << 20), tmp_path / "m.onnx", external=False)
    assert names(tmp_path) == ["hole"]


# ---- where a model may be written ----------------------------------------------------------------------------------


def test_an_impossible_destination_is_refused_with_what_to_do(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("x")
    os.mkfifo(tmp_path / "pipe")
    for path, message in (
        (tmp_path, "is a folder: name a file in it"),
        (tmp_path / "absent" / "m.onnx", "is not a folder: create it first"),
        (tmp_path / "file" / "m.onnx", "is not a folder: create it first"),
        (tmp_path / "file", "exists: choose another name"),
        (tmp_path / "pipe", "is neither a file nor a folder"),
    ):
        with pytest.raises(OutputError, match=message):
            check_destination(path)
        with pytest.raises(OutputError, match=message):
            save(model(), path)
    assert (tmp_path / "file").read_text() == "x"


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_a_folder_without_permission_is_refused(tmp_path: Path) -> None:
    tmp_path.chmod(0o500)
    with pytest.raises(OutputError, match="cannot be written to: change its permissions"):
        save(model(), tmp_path / "m.onnx")


def test_a_disk_that_is_too_small_is_noticed_before_anything_is_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    usage = type("Usage", (), {"free": 1000})
    monkeypatch.setattr(write.shutil, "disk_usage", lambda _: usage)
    with pytest.raises(OutputError, match="has 1,000 bytes left where"):
        save(model(), tmp_path / "m.onnx")
    assert names(tmp_path) == []


def test_overwriting_replaces_model_and_weights_and_removes_what_only_the_old_one_used(tmp_path: Path) -> None:
    (tmp_path / "m-0123456789abcdef.data").write_bytes(b"not referred to")
    (tmp_path / "other.data").write_bytes(b"somebody else's")
    old = save(model(0), tmp_path / "m.onnx", external=True)
    new = save(model(1), tmp_path / "m.onnx", external=True, overwrite=True)
    assert old.data is not None
    assert new.data is not None
    assert names(tmp_path) == sorted(["m-0123456789abcdef.data", "m.onnx", new.data.name, "other.data"])
    assert np.array_equal(result(new.path), expected(1))
    save(model(2), tmp_path / "m.onnx", external=False, overwrite=True)
    assert names(tmp_path) == ["m-0123456789abcdef.data", "m.onnx", "other.data"]


def test_overwriting_with_the_same_model_keeps_its_weights(tmp_path: Path) -> None:
    save(model(), tmp_path / "m.onnx", external=True)
    saved = save(model(), tmp_path / "m.onnx", external=True, overwrite=True)
    assert np.array_equal(result(saved.path), expected())


def test_what_is_no_model_may_be_overwritten_too(tmp_path: Path) -> None:
    for content in (b"", b"hello", os.urandom(5000)):
        (tmp_path / "m.onnx").write_bytes(content)
        saved = save(model(), tmp_path / "m.onnx", overwrite=True)
        assert np.array_equal(result(saved.path), expected())


# ---- interruptions -------------------------------------------------------------------------------------------------


STAGES: dict[str, tuple[Any, str]] = {
    "while weights are written": (write, "_write_all"),
    "while the model is written": (wire, "write_model"),
    "while it is read back": (wire, "scan"),
    "while it is synced": (write, "_sync"),
}
ERRORS: dict[str, BaseException] = {
    "disk full": OSError(errno.ENOSPC, "No space left on device"),
    "no permission": OSError(errno.EACCES, "Permission denied"),
    "interrupt": KeyboardInterrupt(),
}


def failing(error: BaseException, after: int, function: Callable[..., Any]) -> Callable[..., Any]:
    """The function, which raises at its call number `after`."""
    calls = 0

    def fail(*arguments: Any) -> Any:
        nonlocal calls
        calls += 1
        if calls > after:
            raise error
        return function(*arguments)

    return fail


@pytest.mark.parametrize("error", ERRORS)
@pytest.mark.parametrize(
    ("stage", "external"), [(s, e) for s in STAGES for e in (False, True) if e or s != "while weights are written"]
)
def test_a_failure_leaves_the_old_model_and_nothing_else(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, stage: str, error: str, external: bool
) -> None:
    path = tmp_path / "m.onnx"
    save(model(0), path, external=True)
    before = {p.name: p.read_bytes() for p in tmp_path.iterdir()}
    module, name = STAGES[stage]
    for after in range(20):
        with monkeypatch.context() as patch:
            patch.setattr(module, name, failing(ERRORS[error], after, getattr(module, name)))
            failure = outcome(lambda: save(model(1), path, external=external, overwrite=True))
        after_it = {p.name: p.read_bytes() for p in tmp_path.iterdir()}
        if failure is None or after_it != before:
            break
        assert MESSAGES[error] in failure
    # A folder that cannot be synced is no failure; an interrupt there comes too late to matter.
    assert failure is None or (stage, error) == ("while it is synced", "interrupt"), (failure, after, list(after_it))
    assert np.array_equal(result(path), expected(1)), (after, list(after_it))
    assert len(set(after_it) - set(before)) == int(external)


MESSAGES = {
    "disk full": "m.onnx was not written: the disk or quota",
    "no permission": "cannot be written to; change its permissions",
    "interrupt": "interrupted",
}


def outcome(action: Callable[[], Any]) -> str | None:
    """The message of what went wrong, or None."""
    try:
        action()
    except OutputError as error:
        return str(error)
    except KeyboardInterrupt:
        return "interrupted"
    return None


@pytest.mark.parametrize("renames", [0, 1])
def test_a_failed_rename_leaves_the_old_model_and_nothing_else(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, renames: int
) -> None:
    path = tmp_path / "m.onnx"
    save(model(0), path, external=True)
    before = {p.name: p.read_bytes() for p in tmp_path.iterdir()}
    with Staging(path, overwrite=True) as staging:
        staging.write(model(1), external=True)
        with monkeypatch.context() as patch:
            patch.setattr(Path, "replace", failing(OSError(errno.EACCES, "no"), renames, Path.replace))
            with pytest.raises(OutputError, match="cannot be written to"):
                staging.publish()
    assert {p.name: p.read_bytes() for p in tmp_path.iterdir()} == before


def test_an_interrupt_just_after_the_model_was_renamed_keeps_its_weights(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "m.onnx"
    replace = Path.replace

    def interrupted(self: Path, target: Path) -> Path:
        done = replace(self, target)
        if target == path:
            raise KeyboardInterrupt
        return done

    monkeypatch.setattr(Path, "replace", interrupted)
    with pytest.raises(KeyboardInterrupt):
        save(model(), path, external=True)
    assert np.array_equal(result(path), expected())


def test_a_full_disk_is_told_by_the_system_itself(tmp_path: Path) -> None:
    if not Path("/dev/full").exists():
        pytest.skip("there is no /dev/full")
    with Path("/dev/full").open("wb", buffering=0) as full, pytest.raises(OSError, match="No space left"):
        write._write_all(full.fileno(), memoryview(b"x"))


def test_a_file_that_does_not_read_back_is_not_published(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    original = wire.write_model

    def torn(out: Any, *arguments: Any) -> None:
        original(out, *arguments)
        out.truncate(out.tell() - 100)

    monkeypatch.setattr(wire, "write_model", torn)
    with pytest.raises(OutputError, match="does not read back"):
        save(model(), tmp_path / "m.onnx")
    assert names(tmp_path) == []


def test_a_staged_model_can_be_run_before_it_is_published_and_vanishes_otherwise(tmp_path: Path) -> None:
    with Staging(tmp_path / "m.onnx") as staging:
        saved = staging.write(model(), external=True)
        assert np.array_equal(result(saved.path), expected())
        assert not (tmp_path / "m.onnx").exists()
    assert names(tmp_path) == []


# ---- reading back --------------------------------------------------------------------------------------------------


def test_scan_finds_each_weight_without_reading_it(tmp_path: Path) -> None:
    saved = save(model(), tmp_path / "m.onnx", external=False)
    graph, found = wire.scan(saved.path.read_bytes())
    assert [(f.name, f.dims, f.inside) for f in found] == [
        ("l0.weight", (600, 8), 19200),
        ("l0.bias", (600,), 2400),
        ("l1.weight", (4, 600), 9600),
        ("l1.bias", (4,), 16),
    ]
    assert [node.op_type for node in graph.node] == ["Gemm", "Relu", "Gemm", "Relu"]


def test_a_torn_or_foreign_file_is_malformed_wherever_it_ends(tmp_path: Path) -> None:
    content = save(model(width=3), tmp_path / "m.onnx", external=False).path.read_bytes()
    whole = wire.scan(content)[1]
    for end in range(1, len(content)):
        try:
            found = wire.scan(content[:end])[1]
        except Malformed:
            continue
        assert len(found) < len(whole)
    with pytest.raises(Malformed):
        wire.scan(b"\xff" * 40)


def test_a_type_of_the_graph_is_unchanged_by_saving(tmp_path: Path) -> None:
    graph = model()
    save(graph, tmp_path / "m.onnx")
    assert graph.weights["l0.bias"].type == TensorType(F32, (600,))
