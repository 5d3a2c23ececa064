"""Files that were made to do harm, or are broken: refused with the reason, quickly, and nothing outside is opened."""

from __future__ import annotations

import os
from contextlib import suppress
from pathlib import Path

import numpy as np
import onnx
import onnx.helper
import pytest

from dragoman.frontends.onnx import import_file, import_model
from dragoman.ir.errors import DragomanError, Malformed, OverBudget, UnsafeInput
from tests.frontends.onnx.models import graph, imported, model, node


def with_external(folder: Path, location: str, **entries: str) -> Path:
    """A model in `folder` whose weight f32[4] lies at a location."""
    proto = model([node("y = Add(x, w)")], {"x": "f32[4]"}, {"y": "f32[4]"}, {"w": np.zeros(4, np.float32)})
    tensor = proto.graph.initializer[0]
    tensor.ClearField("raw_data")
    tensor.data_location = onnx.TensorProto.EXTERNAL
    for key, value in {"location": location, **entries}.items():
        tensor.external_data.add(key=key, value=value)
    folder.mkdir(exist_ok=True)
    (folder / "m.onnx").write_bytes(proto.SerializeToString())
    return folder / "m.onnx"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "secret").write_bytes(bytes(64))
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / "w.bin").write_bytes(np.arange(8, dtype=np.float32).tobytes())
    return tmp_path / "in"


def test_external_data_beside_the_model_is_read_where_it_lies(folder: Path) -> None:
    found = import_file(with_external(folder, "w.bin", offset="16", length="16")).graph
    weight = found.weights["w"].weight
    assert weight is not None
    np.testing.assert_array_equal(weight.array(), [4, 5, 6, 7])


@pytest.mark.parametrize(
    "location",
    ["../secret", "a/../../secret", "/etc/passwd", "C:\\x", "\\\\host\\x", "w\0.bin", "", ".", "*/_ORT_MEM_ADDR_/*"],
)
def test_data_outside_the_models_folder_is_refused(folder: Path, location: str) -> None:
    with pytest.raises(UnsafeInput, match="'w'"):
        import_file(with_external(folder, location))


def test_links_are_not_followed(folder: Path) -> None:
    (folder / "soft").symlink_to(folder.parent / "secret")
    (folder / "sub").symlink_to(folder.parent, target_is_directory=True)
    os.link(folder.parent / "secret", folder / "hard")
    for location in ("soft", "sub/secret", "hard"):
        with pytest.raises(UnsafeInput):
            import_file(with_external(folder, location))


def test_what_is_no_regular_file_is_refused_without_waiting(folder: Path) -> None:
    os.mkfifo(folder / "pipe")
    (folder / "directory").mkdir()
    for location in ("pipe", "directory"):
        with pytest.raises(UnsafeInput):
            import_file(with_external(folder, location))


@pytest.mark.parametrize(
    "entries",
    [
        {"length": "-1"},
        {"length": str(2**50)},
        {"offset": "40"},
        {"offset": "24"},
        {"length": "12"},
        {"__class__": "x"},
        {"offset": "1e3"},
        {"offset": "9" * 30},
    ],
    ids=str,
)
def test_offsets_lengths_and_keys_that_cannot_be_are_malformed(folder: Path, entries: dict[str, str]) -> None:
    with pytest.raises(Malformed):
        import_file(with_external(folder, "w.bin", **entries))


def test_a_model_in_memory_has_no_folder_to_read_from(folder: Path) -> None:
    proto = onnx.load(str(with_external(folder, "w.bin")), load_external_data=False)
    with pytest.raises(UnsafeInput, match="without a folder"):
        import_model(proto)


def test_a_sparse_weight_is_checked_as_well(folder: Path) -> None:
    proto = onnx.load(str(with_external(folder, "../secret")), load_external_data=False)
    values = proto.graph.initializer[0]
    places = onnx.helper.make_tensor("places", 7, [4], [0, 1, 2, 3])
    proto.graph.sparse_initializer.add(values=values, indices=places, dims=[4])
    del proto.graph.initializer[:]
    (folder / "m.onnx").write_bytes(proto.SerializeToString())
    with pytest.raises(UnsafeInput):
        import_file(folder / "m.onnx")


@pytest.mark.parametrize("dims", [[1_000_000], [2**32, 2**32], [-1], [0, 2**62]], ids=str)
def test_dims_that_the_bytes_do_not_fill_are_malformed(dims: list[int]) -> None:
    proto = model([node("y = Add(x, w)")], {"x": "f32[1]"}, {"y": "f32[1]"}, {"w": np.zeros(1, np.float32)})
    tensor = proto.graph.initializer[0]
    del tensor.dims[:]
    tensor.dims.extend(dims)
    with pytest.raises(Malformed, match="'w'"):
        import_model(proto)


def test_functions_that_double_level_by_level_are_counted_before_they_are_written_out() -> None:
    opset = [onnx.helper.make_opsetid("", 21), onnx.helper.make_opsetid("own", 1)]
    proto = model([node("y = own.F25(x)")], {"x": "f32[1]"}, {"y": "f32[1]"}, own=1)
    for level in range(26):
        body = (
            [node("y = Relu(x)")] if not level else [node(f"a = own.F{level - 1}(x)"), node(f"y = own.F{level - 1}(a)")]
        )
        proto.functions.append(onnx.helper.make_function("own", f"F{level}", ["x"], ["y"], body, opset))
    with pytest.raises(OverBudget, match="nodes once its functions are written out"):
        import_model(proto)


def test_a_function_that_calls_itself_is_malformed_through_a_branch_too() -> None:
    opset = [onnx.helper.make_opsetid("", 21), onnx.helper.make_opsetid("own", 1)]
    branch = graph([node("r = own.B(x)")], {}, {"r": "f32[1]"})
    bodies = {
        "A": [node("c = Constant()", value_int=1), node("y = If(c)", then_branch=branch, else_branch=branch)],
        "B": [node("y = own.A(x)")],
    }
    proto = model([node("y = own.A(x)")], {"x": "f32[1]"}, {"y": "f32[1]"}, own=1)
    for name, body in bodies.items():
        proto.functions.append(onnx.helper.make_function("own", name, ["x"], ["y"], body, opset))
    with pytest.raises(Malformed, match="calls itself"):
        import_model(proto)


def chain(depth: int) -> onnx.ModelProto:
    inner = graph([node("r = Relu(x)")], {}, {"r": "f32[1]"})
    for level in range(depth):
        other = graph([node(f"s{level} = Neg(x)")], {}, {f"s{level}": "f32[1]"})
        inner = graph([node(f"r{level} = If(c)", then_branch=inner, else_branch=other)], {}, {f"r{level}": "f32[1]"})
    nodes = [node("y = If(c)", then_branch=inner, else_branch=graph([node("q = Neg(x)")], {}, {"q": "f32[1]"}))]
    return model(nodes, {"x": "f32[1]", "c": "bool[]"}, {"y": "f32[1]"})


def test_sub_graphs_are_read_to_a_depth_that_models_never_have(monkeypatch: pytest.MonkeyPatch) -> None:
    proto = chain(24)
    imported(proto)
    monkeypatch.setattr("dragoman.frontends.onnx.structure.MAX_DEPTH", 20)
    with pytest.raises(Malformed, match="nested more than"):
        import_model(proto)


@pytest.mark.parametrize(
    ("nodes", "complaint"),
    [
        (["a = Relu(b)", "b = Relu(a)", "y = Neg(a)"], "cycle"),
        (["y = Relu(x)", "y = Neg(x)"], "defines 'y' twice"),
        (["x = Relu(x)", "y = Neg(x)"], "defines 'x' twice"),
        (["y = Relu(z)"], "uses 'z', which nothing defines"),
        (["z = Relu(x)"], "gives the output 'y'"),
        (["y = Relu()"], "lacks its input 0"),
    ],
)
def test_broken_graphs_are_malformed_naming_the_node(nodes: list[str], complaint: str) -> None:
    with pytest.raises(Malformed, match=complaint):
        import_model(model([node(n) for n in nodes], {"x": "f32[1]"}, {"y": "f32[1]"}))


def test_nodes_out_of_order_are_put_in_order() -> None:
    found = imported(model([node("y = Neg(a)"), node("a = Relu(x)")], {"x": "f32[1]"}, {"y": "f32[1]"}))
    assert [n.op.name for n in found] == ["relu", "neg"]


def test_a_name_shadowed_in_a_sub_graph_is_malformed() -> None:
    branch = graph([node("x = Relu(a)")], {}, {"x": "f32[1]"})
    other = graph([node("z = Relu(a)")], {}, {"z": "f32[1]"})
    nodes = [node("a = Neg(x)"), node("y = If(c)", then_branch=branch, else_branch=other)]
    with pytest.raises(Malformed, match="'x'"):
        import_model(model(nodes, {"x": "f32[1]", "c": "bool[]"}, {"y": "f32[1]"}))


def test_loops_and_fills_beyond_all_bounds_are_read_without_being_run() -> None:
    body = graph(
        [node("v_out = Add(v, v)"), node("c_out = Identity(c)")],
        {"i": "i64[]", "c": "bool[]", "v": "f32[1]"},
        {"c_out": "bool[]", "v_out": "f32[1]"},
    )
    weights = {"n": np.array(2**62), "big": np.array([2**38])}
    nodes = [node("y = Loop(n, _, x)", body=body), node("f = ConstantOfShape(big)"), node("z = ReduceSum(f)")]
    found = imported(model(nodes, {"x": "f32[1]"}, {"y": "f32[1]", "z": "f32[1]"}, weights))
    assert "scan" in [n.op.name for n in found]


@pytest.mark.parametrize("name", ["\x1b[31m", "a\nb", "'\"", "\u202e", "x" * 100_000, "'''"], ids=ascii)
def test_any_name_is_carried_or_refused_and_shown_safely(name: str) -> None:
    proto = model([], {name: "f32[n]"}, {"y": "f32[n]"})
    proto.graph.node.append(onnx.helper.make_node("Relu", [name], ["y"]))
    found = imported(proto)
    assert found.inputs[0].name == name
    proto.graph.node.append(onnx.helper.make_node("Nope", [name], ["z"], name=name))
    with pytest.raises(DragomanError) as refused:
        import_model(proto)
    assert "\x1b" not in str(refused.value)
    assert "\u202e" not in str(refused.value)


def test_a_file_cut_or_changed_anywhere_is_read_rightly_or_refused() -> None:
    nodes = [node("a = MatMul(x, w)"), node("b = Reshape(a, s)"), node("y = Softmax(b)", axis=-1)]
    weights = {"w": np.ones((3, 4), np.float32), "s": np.array([2, -1])}
    raw = model(nodes, {"x": "f32[n,3]"}, {"y": "f32[2,m]"}, weights).SerializeToString()
    random = np.random.default_rng(0)
    cut = [raw[: len(raw) * i // 100] for i in range(100)]
    flipped = []
    for _ in range(400):
        changed = bytearray(raw)
        changed[random.integers(len(raw))] ^= int(random.integers(1, 256))
        flipped.append(bytes(changed))
    for data in (*cut, *flipped):
        proto = onnx.ModelProto()
        try:
            proto.ParseFromString(data)
        except Exception:  # protobuf's own DecodeError
            continue
        with suppress(DragomanError):
            import_model(proto)
