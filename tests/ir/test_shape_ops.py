"""Type rules and values of the ops that place elements, with symbolic extents; torch and NumPy are the witnesses."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from dragoman.ir.builder import trace
from dragoman.ir.interpreter import evaluate_type, run
from dragoman.ir.types import parse_type
from tests.ir.one_op import KNOWN, apply, dim, infer, refusal

RANDOM = np.random.default_rng()


@pytest.fixture(autouse=True)
def each_test_draws_the_same_numbers() -> None:
    RANDOM.bit_generator.state = np.random.default_rng(7).bit_generator.state


def dims(*texts: str) -> tuple[Any, ...]:
    return tuple(dim(t) for t in texts)


# ---- types ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("x", "shape", "result"),
    [
        ("f32[b,s,768]", ("b", "s", "12", "64"), "f32[b,s,12,64]"),
        ("f32[b,s,12,64]", ("b*s", "768"), "f32[b*s,768]"),
        ("i64[2*s,3]", ("6*s",), "i64[6*s]"),
        ("f16[b,2*floordiv(h, 2)]", ("b", "floordiv(h, 2)", "2"), "f16[b,floordiv(h, 2),2]"),
        ("bool[b,1]", ("b",), "bool[b]"),
        ("f32[z,0]", ("0", "s"), "f32[0,s]"),
        ("f32[s + 1,b]", ("b*s + b",), "f32[b*s + b]"),
    ],
)
def test_a_reshape_keeps_the_count_for_every_value_of_the_symbols(x: str, shape: tuple[str, ...], result: str) -> None:
    assert infer("reshape", x, shape=dims(*shape)) == result


def test_a_reshape_to_another_count_is_refused_with_both_counts() -> None:
    assert refusal("reshape", "f32[2,3]", shape=(4, 2)) == (
        "reshape(f32[2,3]) {shape=(4, 2)}: a reshape keeps the number of elements: [2,3] has 6, [4,2] has 8"
    )
    message = refusal("reshape", "f32[b,s,768]", shape=dims("b", "s", "12", "32"))
    assert "[b,s,768] has 768*b*s, [b,s,12,32] has 384*b*s" in message
    # Equal where b = s, and for even h only: not for every value.
    assert "b*s, [b,b] has b*b" in refusal("reshape", "f32[b,s]", shape=dims("b", "b"))
    assert "has h, [floordiv(h, 2),2]" in refusal("reshape", "f32[h]", shape=dims("floordiv(h, 2)", "2"))
    assert "the extent -1 in [2,-1] is negative" in refusal("reshape", "f32[4]", shape=(2, -1))


def test_axes_that_do_not_exist_or_repeat_are_refused() -> None:
    assert "perm has a repeated axis" in refusal("transpose", "f32[2,3]", perm=(0, 0))
    assert "perm (0,) has 1 axes, the operand 2" in refusal("transpose", "f32[2,3]", perm=(0,))
    assert "perm=2 is out of range for rank 2" in refusal("transpose", "f32[2,3]", perm=(0, 2))
    assert "axes=-3 is out of range for rank 2" in refusal("flip", "f32[2,3]", axes=(-3,))
    assert "axes has a repeated axis" in refusal("squeeze", "f32[1,3]", axes=(0, -2))
    assert "axes has a repeated axis" in refusal("unsqueeze", "f32[1,3]", axes=(0, -4))
    assert "axis=2 is out of range for rank 2" in refusal("concat", "f32[2,3]", axis=2)
    assert infer("transpose", "f32[b,s,3]", perm=(2, 0, 1)) == "f32[3,b,s]"
    assert infer("flip", "f32[b,s]", axes=(0, 1)) == "f32[b,s]"


def test_broadcast_to_stretches_ones_only() -> None:
    assert infer("broadcast_to", "f32[1,s]", shape=dims("b", "h", "s")) == "f32[b,h,s]"
    assert infer("broadcast_to", "f32[]", shape=dims("b")) == "f32[b]"
    assert infer("broadcast_to", "f32[h]", shape=dims("2*h - h")) == "f32[h]"
    assert "[b,3] does not broadcast to [s,3]: b against s" in refusal("broadcast_to", "f32[b,3]", shape=dims("s", "3"))
    assert "[2,3] does not broadcast to [3]: it has more axes" in refusal("broadcast_to", "f32[2,3]", shape=(3,))
    assert "[3] does not broadcast to [1]: 3 against 1" in refusal("broadcast_to", "f32[3]", shape=(1,))


def test_concat_sums_symbols_along_its_axis() -> None:
    assert infer("concat", "f32[b,s]", "f32[b,1]", "f32[b,2*s]", axis=1) == "f32[b,3*s + 1]"
    assert infer("concat", "i64[b]", "i64[s]", axis=-1) == "i64[b + s]"
    message = refusal("concat", "f32[b,s]", "f32[h,s]", axis=1)
    assert "operands 0 and 1 differ at axis 0: b against h" in message
    assert "operand 1 has rank 1, operand 0 rank 2" in refusal("concat", "f32[2,2]", "f32[2]", axis=0)
    assert "operands have dtypes f32 and f16" in refusal("concat", "f32[2]", "f16[2]", axis=0)
    assert "at least one operand is needed" in refusal("concat", axis=0)


def test_stack_wants_equal_shapes() -> None:
    assert infer("stack", "f32[b,s]", "f32[b,s]", "f32[b,s]", axis=1) == "f32[b,3,s]"
    assert infer("stack", "f32[b,s]", axis=-1) == "f32[b,s,1]"
    assert "operands 0 and 1 differ in shape: [b] and [s]" in refusal("stack", "f32[b]", "f32[s]", axis=0)


@pytest.mark.parametrize(
    ("start", "stop", "step", "extent"),
    [
        ("0", "s", 1, "s"),
        ("1", "s", 1, "s - 1"),
        ("0", "s", 2, "floordiv(s + 1, 2)"),
        ("h - 8", "h", 1, "8"),
        ("s - h", "s", 4, "floordiv(h + 3, 4)"),
        ("3", "3", 1, "0"),
    ],
)
def test_a_slice_is_as_long_as_its_bounds_say(start: str, stop: str, step: int, extent: str) -> None:
    x = f"f32[2,{'h' if stop == 'h' else '512' if stop == '3' else 's'}]"
    attributes = {"axes": (1,), "starts": dims(start), "stops": dims(stop), "steps": (step,)}
    assert infer("slice", x, **attributes) == f"f32[2,{extent}]"


def test_a_slice_that_no_value_of_the_symbols_allows_is_refused() -> None:
    def message(start: str, stop: str, step: int = 1) -> str:
        return refusal("slice", "f32[h,4]", axes=(0,), starts=dims(start), stops=dims(stop), steps=(step,))

    assert "0:h + 1:1 along axis 0 of extent h: the stop lies beyond the end" in message("0", "h + 1")
    assert "5:4:1 along axis 0 of extent h: the stop lies before the start" in message("5", "4")
    assert "-1:h:1 along axis 0 of extent h: the start is negative" in message("-1", "h")
    assert "the step must be at least 1" in message("0", "h", 0)
    assert "axes, starts, stops and steps differ in number" in refusal(
        "slice", "f32[4]", axes=(0,), starts=(0, 1), stops=(2,)
    )


def test_a_slice_without_steps_is_the_one_with_steps_of_one() -> None:
    def sliced(b: Any, x: Any) -> Any:
        return b.slice(x, axes=(0,), starts=(1,), stops=(3,)), b.slice(
            x, axes=(0,), starts=(1,), stops=(3,), steps=(1,)
        )

    first, second = trace(sliced, parse_type("f32[4]")).nodes
    assert first.op == second.op
    assert "slice(%x0) {axes=(0), starts=(1), stops=(3), steps=(1)}" in str(first.graph)


def test_pad_adds_symbolic_counts() -> None:
    assert infer("pad", "f32[b,s]", padding=((0, 0), dims("1", "2"))) == "f32[b,s + 3]"
    padding = (dims("0", "16*floordiv(h + 15, 16) - h"),)
    assert infer("pad", "f32[h]", padding=padding) == "f32[16*floordiv(h + 15, 16)]"
    assert "padding is given for 1 axes, the operand has 2" in refusal("pad", "f32[2,2]", padding=((1, 1),))
    assert "it is negative; slice instead" in refusal("pad", "f32[2]", padding=((-1, 0),))
    assert "mode='mirror' is none of constant, reflect" in refusal("pad", "f32[2]", padding=((0, 0),), mode="mirror")
    assert "padding by 3 along axis 0 of extent 3: reflect needs less" in refusal(
        "pad", "f32[3]", padding=((0, 3),), mode="reflect"
    )
    assert "wrap needs at most the extent" in refusal("pad", "f32[3]", padding=((4, 0),), mode="wrap")
    assert "there is no edge" in refusal("pad", "f32[0]", padding=((1, 0),), mode="edge")


def test_a_pad_value_must_be_one_of_the_dtype() -> None:
    assert infer("pad", "i8[2]", padding=((1, 0),), value=-128) == "i8[3]"
    for dtype, value in (("i8", 128), ("u4", -1), ("i64", 0.5), ("bool", 2)):
        message = refusal("pad", f"{dtype}[2]", padding=((1, 0),), value=value)
        assert f"value={float(value)} is not of dtype {dtype}" in message


def test_symbols_inside_padding_reach_the_values() -> None:
    def padded(b: Any, x: Any) -> Any:
        return b.pad(x, padding=((0, 0), (0, dim("4*floordiv(s + 3, 4) - s"))), value=-1.0)

    graph = trace(padded, parse_type("f32[b,s]", KNOWN))
    for s in (1, 4, 7):
        x = RANDOM.normal(size=(2, s))
        (result,) = run(graph, x)
        assert result.shape == evaluate_type(graph.outputs[0].type, {"b": 2, "s": s})
        assert np.array_equal(result, np.pad(x, ((0, 0), (0, -s % 4)), constant_values=-1))


def test_split_sizes_add_up_for_every_value_of_the_symbols() -> None:
    assert infer("split", "f32[b,3*s]", axis=1, sizes=dims("s", "2*s")) == "f32[b,s] f32[b,2*s]"
    assert infer("split", "f32[s,2]", axis=-2, sizes=dims("1", "s - 1")) == "f32[1,2] f32[s - 1,2]"
    message = refusal("split", "f32[b,s]", axis=1, sizes=dims("s", "1"))
    assert "sizes [s,1] add up to s + 1, axis 1 has extent s" in message
    assert "the size -1 is negative" in refusal("split", "f32[3]", axis=0, sizes=(4, -1))


def test_squeeze_drops_known_ones_only() -> None:
    assert infer("squeeze", "f32[b,1,s,1]", axes=(-1, 1)) == "f32[b,s]"
    assert infer("unsqueeze", "f32[b,s]", axes=(0, -1)) == "f32[1,b,s,1]"
    assert "axis 0 has extent b, not 1" in refusal("squeeze", "f32[b,1]", axes=(0,))


def test_repeats_and_blocks_scale_symbols() -> None:
    assert infer("tile", "f32[b,3]", repeats=dims("2", "s")) == "f32[2*b,3*s]"
    assert infer("repeat_interleave", "f32[b,s]", repeats=4, axis=1) == "f32[b,4*s]"
    assert infer("repeat_interleave", "f32[b,s]", repeats=dim("h"), axis=0) == "f32[b*h,s]"
    assert "2 repeats for an operand of rank 1" in refusal("tile", "f32[2]", repeats=(1, 2))
    assert "the repeat -2 is negative" in refusal("repeat_interleave", "f32[2]", repeats=-2, axis=0)


def test_depth_and_space_scale_symbols() -> None:
    assert infer("depth_to_space", "f32[b,8,h,s]", block=2) == "f32[b,2,2*h,2*s]"
    assert infer("depth_to_space", "f32[4*b,h,s]", block=2, mode="crd") == "f32[b,2*h,2*s]"
    assert infer("space_to_depth", "f32[b,3,2*h,4*s]", block=2) == "f32[b,12,h,2*s]"
    assert "6 channels are not a multiple of 2·2" in refusal("depth_to_space", "f32[1,6,2,2]", block=2)
    assert "b channels are not a multiple" in refusal("depth_to_space", "f32[1,b,2,2]", block=2)
    assert "the extent h is not a multiple of 2" in refusal("space_to_depth", "f32[1,3,h,2]", block=2)
    assert "mode='rcd' is neither 'dcr' nor 'crd'" in refusal("space_to_depth", "f32[1,3,2,2]", block=2, mode="rcd")
    assert "rank 2; channels, rows and columns are needed" in refusal("depth_to_space", "f32[4,2]", block=2)


def test_a_diagonal_is_as_long_as_both_sides_allow() -> None:
    assert infer("diagonal", "f32[s,s]") == "f32[s]"
    assert infer("diagonal", "f32[b,s,s + 2]", offset=2, axis1=1, axis2=2) == "f32[b,s]"
    assert infer("diagonal", "f32[8,h]", offset=-3) == "f32[5]"
    assert infer("diagonal", "f32[3,4]", offset=9) == "f32[0]"
    assert "axis1 and axis2 are both 1" in refusal("diagonal", "f32[2,2]", axis1=1, axis2=-1)


def test_triangle_and_roll_keep_the_type() -> None:
    assert infer("triangle", "f32[b,s,h]", upper=True, diagonal=dim("h - s")) == "f32[b,s,h]"
    assert infer("roll", "f32[b,s]", shifts=(3, -1), axes=(1, 0)) == "f32[b,s]"
    assert infer("roll", "f32[b,s]", shifts=dims("s + 2"), axes=(1,)) == "f32[b,s]"
    assert "rank 1; a matrix is needed" in refusal("triangle", "f32[s]", upper=True)
    assert "2 shifts for 1 axes" in refusal("roll", "f32[2]", shifts=(1, 2), axes=(0,))


def test_a_symbolic_program_of_movement_runs_at_every_size() -> None:
    """Heads split off, moved, repeated, rolled and merged again, as attention with grouped heads does."""

    def program(b: Any, x: Any) -> Any:
        heads = b.transpose(b.reshape(x, shape=dims("b", "s", "4", "3")), perm=(0, 2, 1, 3))
        one, three = b.split(heads, axis=1, sizes=(1, 3))
        repeated = b.repeat_interleave(b.concat(three, one, axis=1), repeats=2, axis=1)
        rolled = b.roll(repeated, shifts=(2,), axes=(2,))
        return b.triangle(b.reshape(rolled, shape=dims("8*b", "s", "3")), upper=False, diagonal=dim("s - 2"))

    graph = trace(program, parse_type("f32[b,s,12]", KNOWN))
    for b, s in ((1, 1), (2, 5), (3, 2)):
        x = RANDOM.normal(size=(b, s, 12))
        heads = x.reshape(b, s, 4, 3).transpose(0, 2, 1, 3)[:, [1, 2, 3, 0]]
        expected = np.tril(np.roll(heads.repeat(2, 1), 2, 2).reshape(8 * b, s, 3), s - 2)
        assert np.array_equal(run(graph, x)[0], expected)


# ---- values against torch and NumPy -----------------------------------------------------------------------


@pytest.mark.parametrize("mode", ["constant", "reflect", "edge", "wrap"])
@pytest.mark.parametrize("padding", [((0, 0), (1, 2), (3, 1)), ((0, 0), (0, 0), (0, 3)), ((0, 0), (2, 2), (2, 0))])
def test_pad_agrees_with_torch_and_numpy(mode: str, padding: tuple[tuple[int, int], ...]) -> None:
    torch = pytest.importorskip("torch")
    x = RANDOM.normal(size=(2, 4, 5))
    value = 1.25 if mode == "constant" else 0.0
    ours = apply("pad", x, padding=padding, mode=mode, value=value)
    options = {"constant_values": value} if mode == "constant" else {}
    assert np.array_equal(ours, np.pad(x, padding, mode=mode, **options))
    named = {"edge": "replicate", "wrap": "circular"}.get(mode, mode)
    flat = (*padding[2], *padding[1])
    theirs = torch.nn.functional.pad(torch.from_numpy(x)[None], flat, mode=named, value=value if options else None)
    assert np.array_equal(ours, theirs[0].numpy())


def test_pad_fills_with_infinity_and_with_integers() -> None:
    assert apply("pad", np.array([1.0]), padding=((1, 0),), value=-np.inf).tolist() == [-np.inf, 1.0]
    filled = apply("pad", np.array([1, 2], np.int8), padding=((0, 2),), value=-128)
    assert filled.dtype == np.int8
    assert filled.tolist() == [1, 2, -128, -128]
    assert apply("pad", np.array([False]), padding=((1, 1),), value=1).tolist() == [True, False, True]


@pytest.mark.parametrize("diagonal", [-4, -1, 0, 1, 2, 7])
@pytest.mark.parametrize("shape", [(3, 5), (2, 4, 3), (1, 1)])
def test_triangles_agree_with_torch(shape: tuple[int, ...], diagonal: int) -> None:
    torch = pytest.importorskip("torch")
    x = RANDOM.normal(size=shape)
    x.flat[0] = np.nan
    for upper, theirs in ((True, torch.triu), (False, torch.tril)):
        ours = apply("triangle", x, upper=upper, diagonal=diagonal)
        assert np.array_equal(ours, theirs(torch.from_numpy(x), diagonal).numpy(), equal_nan=True)


@pytest.mark.parametrize(("offset", "axis1", "axis2"), [(0, 0, 1), (1, 0, 1), (-2, 1, 2), (1, 2, 0), (9, 0, 1)])
def test_diagonals_agree_with_torch(offset: int, axis1: int, axis2: int) -> None:
    torch = pytest.importorskip("torch")
    x = RANDOM.normal(size=(3, 5, 4))
    ours = apply("diagonal", x, offset=offset, axis1=axis1, axis2=axis2)
    assert np.array_equal(ours, torch.diagonal(torch.from_numpy(x), offset, axis1, axis2).numpy())


@pytest.mark.parametrize(
    ("shifts", "axes"), [((1,), (0,)), ((-2, 3), (0, 1)), ((11,), (1,)), ((1, 1), (1, 1)), ((0,), (0,))]
)
def test_rolls_agree_with_torch(shifts: tuple[int, ...], axes: tuple[int, ...]) -> None:
    torch = pytest.importorskip("torch")
    x = RANDOM.normal(size=(4, 5))
    assert np.array_equal(
        apply("roll", x, shifts=shifts, axes=axes), torch.roll(torch.from_numpy(x), shifts, axes).numpy()
    )


@pytest.mark.parametrize("shape", [(2, 18, 2, 3), (9, 4, 2)])
def test_pixel_shuffle_is_depth_to_space_by_columns(shape: tuple[int, ...]) -> None:
    torch = pytest.importorskip("torch")
    x = RANDOM.normal(size=shape)
    shuffled = apply("depth_to_space", x, block=3, mode="crd")
    assert np.array_equal(shuffled, torch.pixel_shuffle(torch.from_numpy(x), 3).numpy())
    assert np.array_equal(apply("space_to_depth", shuffled, block=3, mode="crd"), x)
    assert np.array_equal(torch.pixel_unshuffle(torch.from_numpy(shuffled), 3).numpy(), x)


def test_depth_to_space_by_rows_is_onnx_s_example() -> None:
    # The worked example of ONNX's DepthToSpace, mode DCR: channels 0, 2, 4, 6 make the first plane.
    x = np.arange(8.0).reshape(1, 8, 1, 1) * 10 + np.array([[[[0, 1, 2]]]])
    ours = apply("depth_to_space", x, block=2)
    assert ours[0, 0].tolist() == [[0, 20, 1, 21, 2, 22], [40, 60, 41, 61, 42, 62]]
    assert ours[0, 1].tolist() == [[10, 30, 11, 31, 12, 32], [50, 70, 51, 71, 52, 72]]
    assert np.array_equal(apply("space_to_depth", ours, block=2), x)


@pytest.mark.parametrize("mode", ["DCR", "CRD"])
def test_depth_to_space_agrees_with_onnx_s_reference(mode: str) -> None:
    pytest.importorskip("onnx")
    from onnx import TensorProto, helper
    from onnx.reference import ReferenceEvaluator

    x = RANDOM.normal(size=(2, 8, 3, 2)).astype(np.float32)
    node = helper.make_node("DepthToSpace", ["x"], ["y"], blocksize=2, mode=mode)
    info = [helper.make_tensor_value_info(n, TensorProto.FLOAT, None) for n in "xy"]
    (theirs,) = ReferenceEvaluator(helper.make_model(helper.make_graph([node], "", info[:1], info[1:]))).run(
        None, {"x": x}
    )
    assert np.array_equal(apply("depth_to_space", x, block=2, mode=mode.lower()), theirs)


def test_repeats_agree_with_torch() -> None:
    torch = pytest.importorskip("torch")
    x = RANDOM.normal(size=(2, 3, 4))
    given = torch.from_numpy(x)
    for axis in (0, 1, -1):
        ours = apply("repeat_interleave", x, repeats=3, axis=axis)
        assert np.array_equal(ours, torch.repeat_interleave(given, 3, axis).numpy())
    assert np.array_equal(apply("tile", x, repeats=(2, 1, 3)), given.repeat(2, 1, 3).numpy())


def test_places_follow_torch() -> None:
    torch = pytest.importorskip("torch")
    x = RANDOM.normal(size=(4, 6, 2))
    given = torch.from_numpy(x)
    ours = apply("slice", x, axes=(0, 1), starts=(1, 2), stops=(4, 6), steps=(2, 3))
    assert np.array_equal(ours, given[1:4:2, 2:6:3].numpy())
    assert np.array_equal(apply("flip", x, axes=(0, 2)), torch.flip(given, (0, 2)).numpy())
    assert np.array_equal(apply("transpose", x, perm=(2, 0, 1)), given.permute(2, 0, 1).numpy())
    assert np.array_equal(apply("stack", x, x + 1, axis=-2), torch.stack((given, given + 1), -2).numpy())
    for ours, theirs in zip(apply("split", x, axis=1, sizes=(1, 3, 2)), torch.split(given, (1, 3, 2), 1), strict=True):
        assert np.array_equal(ours, theirs.numpy())
