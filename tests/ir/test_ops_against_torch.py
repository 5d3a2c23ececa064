"""The references of pointwise ops against torch in double, edge values included."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import pytest

from dragoman.ir.arithmetic import NATIVE
from dragoman.ir.types import BOOL, parse_dtype
from tests.ir.torch_witness import agree, apply

torch = pytest.importorskip("torch")
F = torch.nn.functional

NAN, INF = float("nan"), float("inf")
EDGES = np.array(
    [
        *(NAN, INF, -INF, 0.0, -0.0, 1.0, -1.0, 0.5, -0.5, 1.5, 2.5, -1.5, -2.5, 3.0, 0.499999, 19.9, 20.1, -20.1),
        *(1e-5, -1e-5, 1e-300, -1e-300, 1e300, -1e300, 88.0, -88.0, 700.0, -700.0, 1e16, 2.0**53 + 2),
    ]
)
RANDOM = np.random.default_rng(7)
NORMAL = RANDOM.standard_normal(200) * 3
REALS = np.concatenate([EDGES, NORMAL])


def tensor(x: Any) -> Any:
    return torch.from_numpy(np.ascontiguousarray(x))


def named(cases: Sequence[tuple[Any, ...]]) -> Any:
    """Parametrises over (op, attributes, …), identified by op and attributes."""
    ids = [f"{c[0]}-{'-'.join(f'{k}={v}' for k, v in c[1].items())}".rstrip("-") for c in cases]
    return pytest.mark.parametrize("case", cases, ids=ids)


# ---- functions of one operand -------------------------------------------------------------------------------

UNARY: list[tuple[str, dict[str, Any], Callable[[Any], Any]]] = [
    ("neg", {}, torch.neg),
    ("abs", {}, torch.abs),
    ("floor", {}, torch.floor),
    ("ceil", {}, torch.ceil),
    ("round", {}, torch.round),
    ("trunc", {}, torch.trunc),
    ("reciprocal", {}, torch.reciprocal),
    ("square", {}, torch.square),
    ("exp", {}, torch.exp),
    ("log", {}, torch.log),
    ("sqrt", {}, torch.sqrt),
    ("rsqrt", {}, torch.rsqrt),
    ("expm1", {}, torch.expm1),
    ("log1p", {}, torch.log1p),
    ("log2", {}, torch.log2),
    ("log10", {}, torch.log10),
    ("sigmoid", {}, torch.sigmoid),
    ("asin", {}, torch.asin),
    ("acos", {}, torch.acos),
    ("atan", {}, torch.atan),
    ("sinh", {}, torch.sinh),
    ("cosh", {}, torch.cosh),
    ("tanh", {}, torch.tanh),
    ("asinh", {}, torch.asinh),
    ("acosh", {}, torch.acosh),
    ("atanh", {}, torch.atanh),
    ("erf", {}, torch.erf),
    ("erfc", {}, torch.erfc),
    ("erfinv", {}, torch.erfinv),
    ("isnan", {}, torch.isnan),
    ("isinf", {}, torch.isinf),
    ("isinf", {"negative": False}, torch.isposinf),
    ("isinf", {"positive": False}, torch.isneginf),
    ("isfinite", {}, torch.isfinite),
    ("clip", {"low": -0.5, "high": 2.0}, lambda x: torch.clamp(x, -0.5, 2.0)),
    ("clip", {"low": 0.25}, lambda x: torch.clamp(x, min=0.25)),
    ("clip", {"high": 0.25}, lambda x: torch.clamp(x, max=0.25)),
    ("clip", {"low": 1.0, "high": -1.0}, lambda x: torch.clamp(x, 1.0, -1.0)),
    ("nan_to_num", {"positive": 7.0, "negative": -8.0}, lambda x: torch.nan_to_num(x, 0.0, 7.0, -8.0)),
    ("nan_to_num", {"nan": 2.0, "positive": 7.0, "negative": 9.0}, lambda x: torch.nan_to_num(x, 2.0, 7.0, 9.0)),
    ("relu", {}, torch.relu),
    ("leaky_relu", {}, F.leaky_relu),
    ("leaky_relu", {"alpha": 0.2}, lambda x: F.leaky_relu(x, 0.2)),
    ("elu", {}, F.elu),
    ("elu", {"alpha": 0.7}, lambda x: F.elu(x, 0.7)),
    ("selu", {}, F.selu),
    ("celu", {}, F.celu),
    ("celu", {"alpha": 0.6}, lambda x: F.celu(x, 0.6)),
    ("silu", {}, F.silu),
    ("mish", {}, F.mish),
    ("softplus", {}, F.softplus),
    ("softplus", {"beta": 2.0, "threshold": 3.0}, lambda x: F.softplus(x, 2.0, 3.0)),
    ("softplus", {"threshold": None}, lambda x: torch.logaddexp(x, torch.zeros_like(x))),
    ("softsign", {}, F.softsign),
    ("hard_sigmoid", {}, F.hardsigmoid),
    ("hard_swish", {}, F.hardswish),
    ("log_sigmoid", {}, F.logsigmoid),
    ("tanh_shrink", {}, F.tanhshrink),
    ("soft_shrink", {}, F.softshrink),
    ("soft_shrink", {"alpha": 1.5}, lambda x: F.softshrink(x, 1.5)),
    ("hard_shrink", {}, F.hardshrink),
    ("hard_shrink", {"alpha": 1.5}, lambda x: F.hardshrink(x, 1.5)),
    ("threshold", {"threshold": 0.5, "value": -3.0}, lambda x: F.threshold(x, 0.5, -3.0)),
    ("gelu", {}, F.gelu),
    ("gelu", {"approximate": "tanh"}, lambda x: F.gelu(x, approximate="tanh")),
    ("quick_gelu", {}, lambda x: x * torch.sigmoid(1.702 * x)),
]

UNSIGNED_ZERO = {"clip", "relu", "erfinv", "hard_sigmoid", "soft_shrink"}
"""Ops whose zero has a sign by chance: of equal operands in a maximum, or the library's."""


@named(UNARY)
def test_a_function_is_torchs_on_ordinary_and_edge_values(case: tuple[str, dict[str, Any], Any]) -> None:
    name, attributes, theirs = case
    agree(apply(name, REALS, **attributes), theirs(tensor(REALS)), zeros=name not in UNSIGNED_ZERO)


@pytest.mark.parametrize("name", ["sin", "cos", "tan"])
def test_trigonometric_functions_are_torchs_where_the_argument_is_reduced_exactly(name: str) -> None:
    x = np.concatenate([NORMAL, [NAN, INF, -INF, 0.0, -0.0, 1e5, -1e5]])
    agree(apply(name, x), getattr(torch, name)(tensor(x)), zeros=True)


def test_exp2_is_torchs_up_to_the_rounding_of_the_scaled_argument() -> None:
    x = np.concatenate([NORMAL, [NAN, INF, -INF, 0.0, -0.0, 1000.0, -1000.0, 2000.0]])
    agree(apply("exp2", x), torch.exp2(tensor(x)), absolute=0)


@pytest.mark.parametrize("name", ["lgamma", "digamma"])
def test_gamma_functions_are_torchs(name: str) -> None:
    x = np.concatenate([np.abs(NORMAL) + 0.01, [NAN, INF, 1.0, 2.0, 0.5, 1e10, -0.5, -1.5, 0.0]])
    agree(apply(name, x), getattr(torch, name)(tensor(x)), absolute=1e-14)


def test_the_sign_is_torchs_and_nan_has_none() -> None:
    x = REALS[1:]
    agree(apply("sign", x), torch.sign(tensor(x)))
    assert np.isnan(apply("sign", np.array([NAN]))).all()
    integers = np.array([-128, -1, 0, 1, 127], np.int8)
    agree(apply("sign", integers), torch.sign(tensor(integers)))


def test_rounding_goes_to_the_even_neighbour() -> None:
    halves = np.array([-3.5, -2.5, -1.5, -0.5, 0.5, 1.5, 2.5, 3.5, 0.49999999999999994, 4503599627370497.5])
    np.testing.assert_array_equal(
        apply("round", halves), [-4.0, -2.0, -2.0, -0.0, 0.0, 2.0, 2.0, 4.0, 0.0, 4503599627370498.0]
    )


# ---- functions of two operands ------------------------------------------------------------------------------

PAIRS = [(a, b) for a in (NAN, INF, -INF, 0.0, -0.0, 1.0, -1.0, 2.5, -2.5, 1e300, -3.0) for b in EDGES[:16]]
LEFT = np.concatenate([[a for a, _ in PAIRS], NORMAL])
RIGHT = np.concatenate([[b for _, b in PAIRS], RANDOM.permutation(NORMAL)])

BINARY: list[tuple[str, dict[str, Any], Callable[[Any, Any], Any]]] = [
    ("add", {}, torch.add),
    ("sub", {}, torch.sub),
    ("mul", {}, torch.mul),
    ("div", {}, torch.div),
    ("remainder", {}, torch.remainder),
    ("fmod", {}, torch.fmod),
    ("floor_divide", {}, torch.floor_divide),
    ("power", {}, torch.pow),
    ("maximum", {}, torch.maximum),
    ("minimum", {}, torch.minimum),
    ("atan2", {}, torch.atan2),
    ("equal", {}, torch.eq),
    ("not_equal", {}, torch.ne),
    ("less", {}, torch.lt),
    ("less_equal", {}, torch.le),
    ("greater", {}, torch.gt),
    ("greater_equal", {}, torch.ge),
]


@named(BINARY)
def test_a_function_of_two_operands_is_torchs_on_all_pairs_of_edge_values(
    case: tuple[str, dict[str, Any], Any],
) -> None:
    name, _, theirs = case
    agree(apply(name, LEFT, RIGHT), theirs(tensor(LEFT), tensor(RIGHT)))


def test_atan2_knows_the_signs_of_zeros() -> None:
    y, x = np.array([0.0, -0.0, 0.0, -0.0]), np.array([0.0, 0.0, -0.0, -0.0])
    np.testing.assert_array_equal(apply("atan2", y, x), [0.0, -0.0, np.pi, -np.pi])
    agree(apply("atan2", y, x), torch.atan2(tensor(y), tensor(x)), zeros=True)


def test_hypot_is_torchs_on_finite_numbers() -> None:
    x, y = NORMAL, RANDOM.permutation(NORMAL)
    agree(apply("hypot", x, y), torch.hypot(tensor(x), tensor(y)))


def test_operands_broadcast_as_torchs_do() -> None:
    x, y = RANDOM.standard_normal((4, 1, 3)), RANDOM.standard_normal((2, 1))
    agree(apply("sub", x, y), tensor(x) - tensor(y))
    agree(apply("less", x, y), tensor(x) < tensor(y))


INTEGERS = {
    "i8": np.array([-128, -127, -7, -3, -2, -1, 0, 1, 2, 3, 7, 100, 127], np.int8),
    "u8": np.array([0, 1, 2, 3, 7, 128, 200, 255], np.uint8),
    "i32": np.array([-(2**31), -7, -3, -1, 0, 1, 3, 7, 2**31 - 1], np.int32),
    "i64": np.array([-(2**63), -7, -3, -1, 0, 1, 3, 7, 2**63 - 1], np.int64),
}


def integer_pairs(dtype: str, right: Callable[[Any], Any] = lambda b: b == b) -> tuple[Any, Any]:
    values = INTEGERS[dtype]
    left, second = np.meshgrid(values, values[right(values)], indexing="ij")
    return left.reshape(-1), second.reshape(-1)


@pytest.mark.parametrize("dtype", INTEGERS)
@pytest.mark.parametrize("name", ["add", "sub", "mul", "maximum", "minimum", "less", "equal"])
def test_integers_wrap_and_compare_as_torchs_do(name: str, dtype: str) -> None:
    x, y = integer_pairs(dtype)
    theirs = {"less": torch.lt, "equal": torch.eq}.get(name) or getattr(torch, name)
    agree(apply(name, x, y), theirs(tensor(x), tensor(y)))
    assert apply("add", x, y).dtype == x.dtype


@pytest.mark.parametrize("dtype", INTEGERS)
@pytest.mark.parametrize(
    ("name", "theirs"),
    [
        ("div", lambda x, y: torch.div(x, y, rounding_mode="trunc")),
        ("floor_divide", torch.floor_divide),
        ("remainder", torch.remainder),
        ("fmod", torch.fmod),
    ],
)
def test_integers_divide_with_torchs_signs(name: str, theirs: Any, dtype: str) -> None:
    x, y = integer_pairs(dtype, lambda b: b != 0)
    overflows = (x == np.iinfo(x.dtype).min) & (y == -1) if x.dtype.kind == "i" else np.zeros(len(x), bool)
    agree(apply(name, x[~overflows], y[~overflows]), theirs(tensor(x[~overflows]), tensor(y[~overflows])))


def test_integer_division_by_zero_gives_zero() -> None:
    x = np.array([-5, 0, 5], np.int32)
    for name in ("div", "floor_divide", "remainder", "fmod"):
        np.testing.assert_array_equal(apply(name, x, np.zeros(3, np.int32)), [0, 0, 0])


def test_division_of_integers_truncates_and_that_of_floats_by_a_tenth_floors_the_exact_quotient() -> None:
    np.testing.assert_array_equal(apply("div", np.array([-7, 7]), np.array([2, -2])), [-3, -3])
    np.testing.assert_array_equal(apply("floor_divide", np.array([-7, 7]), np.array([2, -2])), [-4, -4])
    np.testing.assert_array_equal(apply("floor_divide", np.array([1.0]), np.array([0.1])), [9.0])


def test_integer_powers_are_torchs_negative_exponents_included() -> None:
    base, exponent = np.meshgrid(np.arange(-4, 5), np.arange(-3, 6), indexing="ij")
    kept = (base != 0) | (exponent >= 0)
    base, exponent = base[kept], exponent[kept]
    agree(apply("power", base, exponent), torch.pow(tensor(base), tensor(exponent)))


@pytest.mark.parametrize("dtype", INTEGERS)
@pytest.mark.parametrize("name", ["bitwise_and", "bitwise_or", "bitwise_xor"])
def test_bits_are_torchs(name: str, dtype: str) -> None:
    x, y = integer_pairs(dtype)
    agree(apply(name, x, y), getattr(torch, name)(tensor(x), tensor(y)))
    agree(apply("bitwise_not", x), torch.bitwise_not(tensor(x)))


@pytest.mark.parametrize("dtype", INTEGERS)
@pytest.mark.parametrize("name", ["left", "right"])
def test_shifts_are_torchs_outside_of_the_width_too(name: str, dtype: str) -> None:
    x = INTEGERS[dtype]
    places = np.array([0, 1, 3, 7, 8, 31, 32, 63, 64, 100]).astype(x.dtype)
    x, y = (a.reshape(-1) for a in np.meshgrid(x, places, indexing="ij"))
    theirs = getattr(torch, f"bitwise_{name}_shift")(tensor(x), tensor(y))
    agree(apply(f"shift_{name}", x, y), theirs)


def test_logic_is_torchs() -> None:
    x, y = np.array([False, False, True, True]), np.array([False, True, False, True])
    for name in ("logical_and", "logical_or", "logical_xor"):
        agree(apply(name, x, y), getattr(torch, name)(tensor(x), tensor(y)))
    agree(apply("logical_not", x), torch.logical_not(tensor(x)))


def test_where_takes_nothing_from_the_side_not_chosen() -> None:
    condition, x = np.array([[True], [False]]), np.array([1.0, NAN, INF])
    agree(apply("where", condition, x, np.array(2.0)), torch.where(tensor(condition), tensor(x), torch.tensor(2.0)))


CASTS = [("f32", torch.float32), ("i64", torch.int64), ("i8", torch.int8), ("bool", torch.bool), ("f16", torch.float16)]


@pytest.mark.parametrize(("dtype", "theirs"), CASTS, ids=[d for d, _ in CASTS])
def test_casts_of_numbers_in_range_are_torchs(dtype: str, theirs: Any) -> None:
    x = np.array([-2.7, -1.0, -0.5, -0.0, 0.0, 0.3, 1.9, 100.6], np.float64)
    result = apply("cast", x, dtype=parse_dtype(dtype), arithmetic=NATIVE)
    np.testing.assert_array_equal(result, tensor(x).to(theirs).numpy())
    assert result.dtype == parse_dtype(dtype).numpy
    integers = np.array([-3, 0, 1, 300], np.int64)
    agree(
        apply("cast", integers, dtype=parse_dtype(dtype), arithmetic=NATIVE).astype(float),
        tensor(integers).to(theirs).double(),
    )


def test_a_cast_to_bool_asks_for_zero_and_nan_is_none() -> None:
    np.testing.assert_array_equal(apply("cast", np.array([NAN, 0.0, -0.0, 1e-300]), dtype=BOOL), [1, 0, 0, 1])


@pytest.mark.parametrize("shape", [(2, 3), (2, 3, 4), (2, 3, 4, 2)])
def test_prelu_has_a_slope_per_channel(shape: tuple[int, ...]) -> None:
    x, slope = RANDOM.standard_normal(shape), np.array([0.1, -0.3, 2.0])
    aligned = slope.reshape(3, *[1] * (len(shape) - 2))
    agree(apply("prelu", x, aligned), F.prelu(tensor(x), tensor(slope)))


@pytest.mark.parametrize("axis", [0, 1, -1])
def test_glu_gates_with_the_second_half(axis: int) -> None:
    x = RANDOM.standard_normal((4, 6, 2))
    agree(apply("glu", x, axis=axis), F.glu(tensor(x), axis))


def test_thresholded_relu_keeps_what_is_above_alpha() -> None:
    x = np.array([-1.0, 0.3, 1.0, 1.0000001, NAN])
    np.testing.assert_array_equal(apply("thresholded_relu", x), [0.0, 0.0, 0.0, 1.0000001, 0.0])
