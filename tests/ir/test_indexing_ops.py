"""Type rules and values of the ops at computed places and of sorting; torch and ONNX's reference are the witnesses."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from dragoman.ir.arithmetic import NATIVE
from dragoman.ir.builder import trace
from dragoman.ir.errors import UsageError
from dragoman.ir.field import FIELD
from dragoman.ir.interpreter import run
from dragoman.ir.parser import parse
from dragoman.ir.types import BOOL, F16, F32, I64, parse_type
from dragoman.ir.verify import verify
from tests.ir.one_op import KNOWN, apply, dim, infer, refusal

RANDOM = np.random.default_rng()


@pytest.fixture(autouse=True)
def each_test_draws_the_same_numbers() -> None:
    RANDOM.bit_generator.state = np.random.default_rng(11).bit_generator.state


def onnx_reference(operator: str, *arrays: Any, outputs: int = 1, **attributes: Any) -> list[Any]:
    pytest.importorskip("onnx")
    from onnx import helper
    from onnx.reference import ReferenceEvaluator

    names = [f"x{i}" for i in range(len(arrays))]
    results = [f"y{i}" for i in range(outputs)]
    node = helper.make_node(operator, names, results, **attributes)
    inputs = [
        helper.make_tensor_value_info(n, helper.np_dtype_to_tensor_dtype(a.dtype), a.shape)
        for n, a in zip(names, arrays, strict=True)
    ]
    graph = helper.make_graph([node], "", inputs, [helper.make_tensor_value_info(r, 1, None) for r in results])
    return list(ReferenceEvaluator(helper.make_model(graph)).run(None, dict(zip(names, arrays, strict=True))))


# ---- types ----------------------------------------------------------------------------------------------


def test_take_puts_the_axes_of_the_indices_in_place_of_its_own() -> None:
    assert infer("take", "f32[1000,64]", "i64[b,s]", axis=0) == "f32[b,s,64]"
    assert infer("take", "f32[b,s,h]", "i32[]", axis=1) == "f32[b,h]"
    assert infer("take", "f32[b,s]", "i64[h,2]", axis=-1) == "f32[b,h,2]"
    assert "indices have dtype f32, not an integer one" in refusal("take", "f32[2]", "f32[1]", axis=0)
    assert "axis=1 is out of range for rank 1" in refusal("take", "f32[2]", "i64[1]", axis=1)


def test_take_along_axis_allows_fewer_indices_off_its_axis_but_not_more() -> None:
    assert infer("take_along_axis", "f32[b,s,4]", "i64[b,h,2]", axis=1) == "f32[b,h,2]"
    message = refusal("take_along_axis", "f32[2,s]", "i64[3,1]", axis=1)
    assert "indices have extent 3 at axis 0, more than 2; only axis 1 may be longer" in message
    assert "indices have rank 1, the operand 2" in refusal("take_along_axis", "f32[2,2]", "i64[2]", axis=1)


def test_gather_nd_keeps_batch_index_and_remaining_axes() -> None:
    assert infer("gather_nd", "f32[s,h,4]", "i64[b,2]") == "f32[b,4]"
    assert infer("gather_nd", "f32[b,s,h]", "i64[b,7,1]", batch_dims=1) == "f32[b,7,h]"
    assert infer("gather_nd", "f32[s]", "i64[1]") == "f32[]"
    assert "indices name 3 axes after 1 batch axes, the operand has 3" in refusal(
        "gather_nd", "f32[2,3,4]", "i64[2,3]", batch_dims=1
    )
    assert "the last extent of the indices is s" in refusal("gather_nd", "f32[2]", "i64[2,s]")
    assert "batch axis 0 has extent b in the operand, s in the indices" in refusal(
        "gather_nd", "f32[b,3]", "i64[s,1]", batch_dims=1
    )
    assert "batch_dims=1 with indices of rank 1" in refusal("gather_nd", "f32[2,3]", "i64[1]", batch_dims=1)


def test_scatters_keep_the_type_and_check_the_updates() -> None:
    assert infer("scatter_elements", "f32[b,s]", "i64[b,h]", "f32[b,h]", axis=1, reduction="add") == "f32[b,s]"
    assert infer("scatter_nd", "f32[b,s,4]", "i64[h,1]", "f32[h,s,4]") == "f32[b,s,4]"
    assert "updates have shape [2,2], the indices [2,1]" in refusal(
        "scatter_elements", "f32[2,3]", "i64[2,1]", "f32[2,2]", axis=1
    )
    assert "updates have shape [2,3], not [2,4]" in refusal("scatter_nd", "f32[3,4]", "i64[2,1]", "f32[2,3]")
    assert "indices name 2 axes, the operand has 1" in refusal("scatter_nd", "f32[3]", "i64[2,2]", "f32[2]")
    assert "operands have dtypes f32 and f64" in refusal("scatter_nd", "f32[3]", "i64[2,1]", "f64[2]")
    assert "reduction='mean' is none of none, add" in refusal(
        "scatter_nd", "f32[3]", "i64[2,1]", "f32[2]", reduction="mean"
    )
    assert "reduction='add' of bool" in refusal("scatter_nd", "bool[3]", "i64[2,1]", "bool[2]", reduction="add")


def test_topk_and_sort_give_values_and_places() -> None:
    assert infer("topk", "f32[b,s]", k=dim("s"), axis=1) == "f32[b,s] i64[b,s]"
    assert infer("topk", "f16[b,100]", k=5, axis=-1) == "f16[b,5] i64[b,5]"
    assert infer("sort", "i32[b,s]", axis=0) == "i32[b,s] i64[b,s]"
    assert "k=5 of 4 elements along axis 0" in refusal("topk", "f32[4]", k=5, axis=0)
    assert "k=s + 1 of s elements" in refusal("topk", "f32[s]", k=dim("s + 1"), axis=0)
    assert "c64 has no order here" in refusal("sort", "c64[4]", axis=0)


def test_one_hot_inserts_its_depth() -> None:
    assert infer("one_hot", "i64[b,s]", depth=10, dtype=F32) == "f32[b,s,10]"
    assert infer("one_hot", "i32[b,s]", depth=dim("h"), dtype=BOOL, axis=1) == "bool[b,h,s]"
    assert infer("one_hot", "u8[]", depth=4, dtype=F16, axis=0) == "f16[4]"
    assert "indices have dtype f32" in refusal("one_hot", "f32[2]", depth=3, dtype=F32)


def test_nonzero_has_a_size_that_only_the_data_tells() -> None:
    assert infer("nonzero", "bool[b,s]", size=dim("z")) == "i64[2,z]"
    assert "a scalar has no places" in refusal("nonzero", "bool[]", size=1)


def test_blocks_at_dynamic_places_fit_inside() -> None:
    assert infer("dynamic_slice", "f32[b,s,4]", "i64[3]", sizes=(1, dim("s"), 2)) == "f32[1,s,2]"
    assert infer("dynamic_update_slice", "f32[b,s,4]", "f32[b,1,4]", "i32[3]") == "f32[b,s,4]"
    assert infer("dynamic_update_slice", "f32[b,s]", "f32[1,1]", "i32[2]") == "f32[b,s]"
    assert "starts have shape [2], not [1]" in refusal("dynamic_slice", "f32[4]", "i64[2]", sizes=(1,))
    assert "a block of extent 5 does not fit axis 0 of extent 4" in refusal(
        "dynamic_slice", "f32[4]", "i64[1]", sizes=(5,)
    )
    assert "the block has rank 1, the operand 2" in refusal("dynamic_update_slice", "f32[4,4]", "f32[2]", "i64[2]")


# ---- reading --------------------------------------------------------------------------------------------


def test_negative_indices_count_from_the_end() -> None:
    x = np.arange(12.0).reshape(3, 4)
    assert apply("take", x, np.array([-1, 0, -4]), axis=1).tolist() == [[3, 0, 0], [7, 4, 4], [11, 8, 8]]
    assert apply("take_along_axis", x, np.array([[-1], [-2], [1]]), axis=1).tolist() == [[3], [6], [9]]
    assert apply("gather_nd", x, np.array([[-1, -1], [0, -2]])).tolist() == [11, 2]
    scattered = apply("scatter_elements", np.zeros(3), np.array([-1, -3]), np.array([5.0, 7.0]), axis=0)
    assert scattered.tolist() == [7, 0, 5]
    assert apply("scatter_nd", np.zeros((2, 2)), np.array([[-1, -2]]), np.array([3.0])).tolist() == [[0, 0], [3, 0]]


@pytest.mark.parametrize("index", [3, -4, 2**40])
@pytest.mark.parametrize("name", ["take", "take_along_axis", "gather_nd", "scatter_elements", "scatter_nd"])
def test_an_index_out_of_range_ends_the_run_with_its_axis_and_extent(name: str, index: int) -> None:
    x, indices = np.zeros((2, 3)), np.array([[0, index], [1, 0]])
    operands: dict[str, Any] = {
        "take": ((x, indices), {"axis": 1}),
        "take_along_axis": ((x, indices), {"axis": 1}),
        "gather_nd": ((x, indices), {}),
        "scatter_elements": ((x, indices, np.zeros((2, 2))), {"axis": 1}),
        "scatter_nd": ((x, indices, np.zeros(2)), {}),
    }
    arrays, attributes = operands[name]
    with pytest.raises(UsageError, match=rf"index {index} is out of range for axis 1 of extent 3"):
        apply(name, *arrays, **attributes)


def test_gathers_agree_with_torch() -> None:
    torch = pytest.importorskip("torch")
    x = RANDOM.normal(size=(3, 4, 5))
    for axis in range(3):
        shape = [2, 3, 4]
        shape[axis] = 7
        indices = RANDOM.integers(0, x.shape[axis], shape)
        ours = apply("take_along_axis", x, indices, axis=axis)
        assert np.array_equal(ours, torch.gather(torch.from_numpy(x), axis, torch.from_numpy(indices)).numpy())
    table, tokens = RANDOM.normal(size=(10, 6)), RANDOM.integers(0, 10, (2, 3))
    theirs = torch.nn.functional.embedding(torch.from_numpy(tokens), torch.from_numpy(table))
    assert np.array_equal(apply("take", table, tokens, axis=0), theirs.numpy())


@pytest.mark.parametrize(
    ("x", "indices", "batch"),
    [((3, 4, 5), (2, 6, 2), 0), ((3, 4, 5), (3, 6, 1), 1), ((3, 4, 5), (3, 4, 2, 1), 2), ((3, 4), (3, 2), 0)],
)
def test_gather_nd_agrees_with_onnx_s_reference(x: tuple[int, ...], indices: tuple[int, ...], batch: int) -> None:
    data, places = RANDOM.normal(size=x), RANDOM.integers(-3, 3, indices)
    (theirs,) = onnx_reference("GatherND", data, places, batch_dims=batch)
    assert np.array_equal(apply("gather_nd", data, places, batch_dims=batch), theirs)


def test_nonzero_lists_places_in_order_and_checks_its_size() -> None:
    torch = pytest.importorskip("torch")
    x = np.where(RANDOM.random((3, 4, 2)) < 0.5, 0.0, RANDOM.normal(size=(3, 4, 2)))
    x[0, 0, 0] = np.nan
    count = int(np.count_nonzero(x))
    ours = apply("nonzero", x, size=count)
    assert ours.dtype == np.int64
    assert np.array_equal(ours, torch.nonzero(torch.from_numpy(x)).numpy().T)
    with pytest.raises(UsageError, match=rf"nonzero found {count} places where the model says {count + 1}"):
        apply("nonzero", x, size=count + 1)


def test_a_masked_selection_binds_its_size_when_it_runs() -> None:
    def program(b: Any, x: Any, mask: Any) -> Any:
        return b.gather_nd(x, b.transpose(b.nonzero(mask, size=dim("z")), perm=(1, 0)))

    graph = trace(program, parse_type("f32[b,3]", KNOWN), parse_type("bool[b,3]", KNOWN))
    assert str(graph.outputs[0].type) == "f32[z]"
    verify(graph)  # z is a size that nonzero tells
    assert str(parse(str(graph))) == str(graph)
    for b in (1, 3):
        x, mask = RANDOM.normal(size=(b, 3)), RANDOM.random((b, 3)) < 0.6
        assert np.array_equal(run(graph, x, mask)[0], x[mask])


# ---- writing --------------------------------------------------------------------------------------------

TORCH_REDUCTIONS = {"add": "sum", "mul": "prod", "max": "amax", "min": "amin"}


@pytest.mark.parametrize("reduction", ["add", "mul", "max", "min"])
@pytest.mark.parametrize("axis", [0, 1])
def test_scatter_reductions_with_duplicates_agree_with_torch(axis: int, reduction: str) -> None:
    torch = pytest.importorskip("torch")
    x, updates = RANDOM.normal(size=(4, 5)), RANDOM.normal(size=(3, 4))
    indices = RANDOM.integers(0, 3, (3, 4))
    ours = apply("scatter_elements", x, indices, updates, axis=axis, reduction=reduction)
    operands = (axis, torch.from_numpy(indices), torch.from_numpy(updates), TORCH_REDUCTIONS[reduction])
    theirs = torch.from_numpy(x).scatter_reduce(*operands, include_self=True)
    np.testing.assert_allclose(ours, theirs.numpy(), rtol=1e-14)
    assert not np.array_equal(ours, x)


def test_a_scatter_without_duplicates_agrees_with_torch() -> None:
    torch = pytest.importorskip("torch")
    x, updates = RANDOM.normal(size=(4, 6)), RANDOM.normal(size=(3, 4))
    indices = np.argsort(RANDOM.random((3, 6)), axis=1)[:, :4]
    ours = apply("scatter_elements", x, indices, updates, axis=1)
    theirs = torch.from_numpy(x).scatter(1, torch.from_numpy(indices), torch.from_numpy(updates))
    assert np.array_equal(ours, theirs.numpy())


def test_where_updates_meet_the_last_one_stays() -> None:
    ours = apply("scatter_elements", np.zeros(3), np.array([1, 1, 1]), np.array([5.0, 6.0, 7.0]), axis=0)
    assert ours.tolist() == [0, 7, 0]
    ours = apply("scatter_nd", np.zeros((2, 2)), np.array([[0], [0]]), np.array([[1.0, 2.0], [3.0, 4.0]]))
    assert ours.tolist() == [[3, 4], [0, 0]]


@pytest.mark.parametrize("reduction", ["none", "add", "mul", "max", "min"])
def test_scatter_nd_agrees_with_onnx_s_reference(reduction: str) -> None:
    x, updates = RANDOM.normal(size=(4, 3, 2)), RANDOM.normal(size=(5, 2))
    indices = np.stack([RANDOM.integers(0, 4, 5), RANDOM.integers(0, 3, 5)], -1)
    indices[3] = indices[0]
    (theirs,) = onnx_reference("ScatterND", x, indices, updates, reduction=reduction)
    ours = apply("scatter_nd", x, indices, updates, reduction=reduction)
    np.testing.assert_allclose(ours, theirs, rtol=1e-14)


def test_an_operand_is_not_changed_by_a_scatter() -> None:
    x = np.zeros(3)
    apply("scatter_elements", x, np.array([1]), np.array([5.0]), axis=0)
    apply("dynamic_update_slice", x, np.array([5.0]), np.array([0]))
    assert x.tolist() == [0, 0, 0]


@pytest.mark.parametrize("reduction", ["add", "mul", "max", "min"])
def test_scatter_in_the_field_agrees_with_one_update_after_the_other(reduction: str) -> None:
    x, updates, places = RANDOM.normal(size=4), RANDOM.normal(size=9), RANDOM.integers(0, 4, 9)
    ours = apply("scatter_elements", x, places, updates, axis=0, reduction=reduction, arithmetic=FIELD)
    expected = [FIELD.embed(np.array([v]), F32) for v in x]
    combine = {"add": lambda a, b: a + b, "mul": lambda a, b: a * b, "max": FIELD.maximum, "min": FIELD.minimum}
    for place, update in zip(places, updates, strict=True):
        expected[place] = combine[reduction](expected[place], FIELD.embed(np.array([update]), F32))
    assert ours.levels[0].tolist() == [e.levels[0].item() for e in expected]


@pytest.mark.parametrize("starts", [(0, 0), (1, 2), (3, 4), (-1, 7), (9, -9)])
def test_dynamic_slices_stay_inside(starts: tuple[int, int]) -> None:
    x, update = RANDOM.normal(size=(4, 6)), RANDOM.normal(size=(2, 3))
    row, column = min(max(starts[0], 0), 2), min(max(starts[1], 0), 3)
    ours = apply("dynamic_slice", x, np.array(starts), sizes=(2, 3))
    assert np.array_equal(ours, x[row : row + 2, column : column + 3])
    written = apply("dynamic_update_slice", x, update, np.array(starts))
    assert np.array_equal(written[row : row + 2, column : column + 3], update)
    written[row : row + 2, column : column + 3] = x[row : row + 2, column : column + 3]
    assert np.array_equal(written, x)


def test_dynamic_slices_agree_with_their_decompositions_at_symbolic_sizes() -> None:
    def program(b: Any, x: Any, update: Any, starts: Any) -> Any:
        one = trace_free(b, "dynamic_update_slice", x, update, starts)
        two = trace_free(b, "dynamic_slice", x, starts, sizes=(dim("b"), 1, 2))
        whole = b.dynamic_update_slice(x, update, starts)
        return one, whole, two, b.dynamic_slice(x, starts, sizes=(dim("b"), 1, 2))

    def trace_free(b: Any, name: str, *operands: Any, **attributes: Any) -> Any:
        from dragoman.ir.op import REGISTRY

        return REGISTRY[name](**attributes).decompose(b, *operands)

    types = ("f32[b,s,2]", "f32[b,1,2]", "i64[3]")
    graph = trace(program, *(parse_type(t, KNOWN) for t in types))
    for b, s, at in ((1, 1, 0), (2, 5, 3), (3, 4, 99), (2, 3, -2)):
        x, update = RANDOM.normal(size=(b, s, 2)), RANDOM.normal(size=(b, 1, 2))
        one, whole, two, cut = run(graph, x, update, np.array([5, at, -1]))
        assert np.array_equal(one, whole)
        assert np.array_equal(two, cut)
        assert np.array_equal(whole[:, min(max(at, 0), s - 1)], update[:, 0])


# ---- order ----------------------------------------------------------------------------------------------


def test_equal_elements_keep_their_order_both_ways() -> None:
    x = np.array([2.0, 1.0, 2.0, 0.0, 1.0, 2.0])
    assert apply("topk", x, k=4, axis=0)[1].tolist() == [0, 2, 5, 1]
    assert apply("topk", x, k=4, axis=0, largest=False)[1].tolist() == [3, 1, 4, 0]
    assert apply("sort", x, axis=0)[1].tolist() == [3, 1, 4, 0, 2, 5]
    assert apply("sort", x, axis=0, descending=True)[1].tolist() == [0, 2, 5, 1, 4, 3]
    assert apply("sort", np.array([0.0, -0.0, 0.0]), axis=0)[1].tolist() == [0, 1, 2]


@pytest.mark.parametrize("descending", [False, True])
def test_nan_is_above_all_numbers_as_in_torch(descending: bool) -> None:
    torch = pytest.importorskip("torch")
    x = np.array([[1.0, np.nan, np.inf, -np.inf, 1.0, np.nan, 0.0], [np.nan, 3.0, 3.0, -0.0, 0.0, 2.0, np.inf]])
    values, places = apply("sort", x, axis=1, descending=descending)
    theirs = torch.sort(torch.from_numpy(x), dim=1, descending=descending, stable=True)
    assert np.array_equal(values, theirs.values.numpy(), equal_nan=True)
    assert np.array_equal(places, theirs.indices.numpy())
    best, where = apply("topk", x, k=3, axis=1, largest=descending)
    assert np.array_equal(best, torch.topk(torch.from_numpy(x), 3, 1, descending).values.numpy(), equal_nan=True)
    assert np.array_equal(where, places[:, :3])


@pytest.mark.parametrize("largest", [False, True])
def test_topk_ties_follow_onnx_s_reference(largest: bool) -> None:
    x = RANDOM.integers(0, 3, (4, 8)).astype(np.float32)
    values, places = onnx_reference("TopK", x, np.array([5]), outputs=2, axis=1, largest=int(largest))
    ours = apply("topk", x, k=5, axis=1, largest=largest)
    assert np.array_equal(ours[0], values)
    assert np.array_equal(ours[1], places)


def test_integers_and_halves_sort_along_any_axis() -> None:
    torch = pytest.importorskip("torch")
    for x in (RANDOM.integers(-128, 128, (5, 4)).astype(np.int8), RANDOM.normal(size=(5, 4)).astype(np.float16)):
        for axis in (0, 1):
            values, places = apply("sort", x, axis=axis, descending=True, arithmetic=NATIVE)
            theirs = torch.sort(torch.from_numpy(x), dim=axis, descending=True, stable=True)
            assert values.dtype == x.dtype
            assert np.array_equal(values, theirs.values.numpy())
            assert np.array_equal(places, theirs.indices.numpy())
    assert apply("sort", np.array([200, 3, 255], np.uint8), axis=0, descending=True)[0].tolist() == [255, 200, 3]


def test_the_field_sorts_values_and_places_alike() -> None:
    x = RANDOM.normal(size=(3, 6))
    values, places = apply("sort", x, axis=1, arithmetic=FIELD)
    picked = apply("take_along_axis", x, places, axis=1, arithmetic=FIELD)
    assert np.array_equal(values.levels[0], picked.levels[0])
    assert sorted(places[0].tolist()) == list(range(6))


# ---- one-hot --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("axis", [0, 1, 2, -1, -2])
def test_one_hot_puts_ones_along_its_axis(axis: int) -> None:
    torch = pytest.importorskip("torch")
    indices = RANDOM.integers(0, 5, (2, 3))
    theirs = torch.nn.functional.one_hot(torch.from_numpy(indices), 5).movedim(-1, axis)
    ours = apply("one_hot", indices, depth=5, dtype=I64, axis=axis)
    assert ours.dtype == np.int64
    assert np.array_equal(ours, theirs.numpy())


def test_one_hot_wraps_negative_indices_and_ignores_those_out_of_range_as_onnx_does() -> None:
    indices = np.array([0, -1, 2, 3, -3, -4, 100])
    ours = apply("one_hot", indices, depth=3, dtype=F32)
    assert ours.argmax(-1)[:3].tolist() == [0, 2, 2]
    assert ours.sum(-1).tolist() == [1, 1, 1, 0, 1, 0, 0]
    # The reference evaluator wraps every index; those in −depth…depth−1 are what the specification defines.
    inside = np.array([0, -1, 2, -3])
    (theirs,) = onnx_reference("OneHot", inside, np.array(3), np.array([0, 1], np.float32))
    assert np.array_equal(apply("one_hot", inside, depth=3, dtype=F32), theirs)


def test_one_hot_of_narrow_indices_reaches_every_depth() -> None:
    ours = apply("one_hot", np.array([255, 7], np.uint8), depth=300, dtype=BOOL)
    assert np.argwhere(ours).tolist() == [[0, 255], [1, 7]]
