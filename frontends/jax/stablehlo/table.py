"""Operations of StableHLO as primitives of JAX: the name of each and the parameters as an equation has them.

Refuses what has no primitive here; regions and shapes that are computed are the reader's.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from types import SimpleNamespace
from typing import Any

import numpy as np

from dragoman.ir.errors import Unsupported

Params = dict[str, Any]
Reader = Callable[[Any], tuple[str, Params]]

# Operations whose primitive has no parameters that matter.
PLAIN = {
    "add": "add",
    "subtract": "sub",
    "multiply": "mul",
    "divide": "div",
    "remainder": "rem",
    "maximum": "max",
    "minimum": "min",
    "power": "pow",
    "atan2": "atan2",
    "and": "and",
    "or": "or",
    "xor": "xor",
    "not": "not",
    "negate": "neg",
    "abs": "abs",
    "sign": "sign",
    "exponential": "exp",
    "exponential_minus_one": "expm1",
    "log": "log",
    "log_plus_one": "log1p",
    "logistic": "logistic",
    "tanh": "tanh",
    "tan": "tan",
    "sine": "sin",
    "cosine": "cos",
    "sqrt": "sqrt",
    "rsqrt": "rsqrt",
    "cbrt": "cbrt",
    "floor": "floor",
    "ceil": "ceil",
    "is_finite": "is_finite",
    "popcnt": "population_count",
    "count_leading_zeros": "clz",
    "shift_left": "shift_left",
    "shift_right_logical": "shift_right_logical",
    "shift_right_arithmetic": "shift_right_arithmetic",
    "clamp": "clamp",
    "real": "real",
    "imag": "imag",
    "complex": "complex",
    "dynamic_update_slice": "dynamic_update_slice",
    "chlo.erf": "erf",
    "chlo.erfc": "erfc",
    "chlo.erf_inv": "erf_inv",
    "chlo.square": "square",
    "chlo.tan": "tan",
    "chlo.sinh": "sinh",
    "chlo.cosh": "cosh",
    "chlo.asin": "asin",
    "chlo.acos": "acos",
    "chlo.atan": "atan",
    "chlo.asinh": "asinh",
    "chlo.acosh": "acosh",
    "chlo.atanh": "atanh",
    "chlo.lgamma": "lgamma",
    "chlo.digamma": "digamma",
}
# Reducers of windows that hold all elements so far.
RUNNING = {
    "stablehlo.add": "cumsum",
    "stablehlo.multiply": "cumprod",
    "stablehlo.maximum": "cummax",
    "stablehlo.minimum": "cummin",
}
SCATTERS = {
    "stablehlo.add": "scatter-add",
    "stablehlo.subtract": "scatter-sub",
    "stablehlo.multiply": "scatter-mul",
    "stablehlo.maximum": "scatter-max",
    "stablehlo.minimum": "scatter-min",
}
_COMPARISONS = {"EQ": "eq", "NE": "ne", "LT": "lt", "LE": "le", "GT": "gt", "GE": "ge"}
_TOTAL = {"eq": "eq_to", "lt": "lt_to", "le": "le_to"}
REDUCTIONS = {
    "stablehlo.add": "reduce_sum",
    "stablehlo.multiply": "reduce_prod",
    "stablehlo.maximum": "reduce_max",
    "stablehlo.minimum": "reduce_min",
    "stablehlo.and": "reduce_and",
    "stablehlo.or": "reduce_or",
}
WINDOWS = {
    "stablehlo.add": "reduce_window_sum",
    "stablehlo.maximum": "reduce_window_max",
    "stablehlo.minimum": "reduce_window_min",
}


def attribute(operation: Any, name: str) -> Any:
    """An attribute, None where there is none."""
    return operation.attributes[name] if name in operation.attributes else None  # noqa: SIM401 -- it has no get


def numbers(operation: Any, name: str, default: Sequence[int] = ()) -> tuple[int, ...]:
    """An attribute that lists integers."""
    found = attribute(operation, name)
    return tuple(default) if found is None else tuple(int(n) for n in found)


def number(operation: Any, name: str) -> int:
    """An attribute that is an integer."""
    return int(re.findall(r"-?\d+", str(attribute(operation, name)))[0])


def number_in(text: str, name: str, default: int | None = None) -> int:
    """`name = 2` in the text of an attribute."""
    found = re.search(rf"\b{name} = (-?\d+)", text)
    if found is None and default is not None:
        return default
    if found is None:
        raise Unsupported(f"{name} is not among {text}")
    return int(found[1])


def symbol(operation: Any, name: str) -> str:
    """The function that an attribute names; empty where there is no such attribute."""
    found = attribute(operation, name)
    return "" if found is None else str(found).removeprefix("@").strip('"')


def _listed(text: str, name: str) -> tuple[int, ...]:
    """`name = [1, 2]` in the text of an attribute."""
    found = re.search(rf"\b{name} = \[([\d, ]*)\]", text)
    return tuple(int(n) for n in found[1].split(",") if n.strip()) if found else ()


def direction(o: Any) -> str:
    """The primitive that a comparison is."""
    return _COMPARISONS[re.findall(r"[A-Z]{2}", str(attribute(o, "comparison_direction")))[-1]]


def _compare(o: Any) -> tuple[str, Params]:
    total = "TOTALORDER" in str(attribute(o, "compare_type"))
    name = direction(o)
    if total and name not in _TOTAL:
        raise Unsupported(f"a comparison {name} in total order")
    return (_TOTAL[name] if total else name), {}


def _dot(o: Any) -> tuple[str, Params]:
    text = str(attribute(o, "dot_dimension_numbers"))
    contracting = _listed(text, "lhs_contracting_dimensions"), _listed(text, "rhs_contracting_dimensions")
    batching = _listed(text, "lhs_batching_dimensions"), _listed(text, "rhs_batching_dimensions")
    return "dot_general", {"dimension_numbers": (contracting, batching)}


def _axes_of(layout: str) -> tuple[int, ...]:
    """`b, 0, 1, f` as JAX has it: the axes of batch, features and space."""
    names = [n.strip() for n in layout.split(",")]
    leading = [names.index(n) for n in ("b", "f") if n in names] or [names.index(n) for n in ("o", "i")]
    space = sorted((n for n in names if n.isdigit()), key=int)
    return (*leading, *(names.index(n) for n in space))


def _convolution(o: Any) -> tuple[str, Params]:
    lhs, rhs, out = re.findall(r"\[([^\]]*)\]", str(attribute(o, "dimension_numbers")))[:3]
    rank = len(lhs.split(",")) - 2
    padding = attribute(o, "padding")
    widths = np.array(padding).reshape(-1, 2) if padding is not None else np.zeros((rank, 2), np.int64)
    return "conv_general_dilated", {
        "window_strides": numbers(o, "window_strides", (1,) * rank),
        "padding": [(int(low), int(high)) for low, high in widths],
        "lhs_dilation": numbers(o, "lhs_dilation", (1,) * rank),
        "rhs_dilation": numbers(o, "rhs_dilation", (1,) * rank),
        "dimension_numbers": tuple(_axes_of(each) for each in (lhs, rhs, out)),
        "feature_group_count": number(o, "feature_group_count"),
        "batch_group_count": number(o, "batch_group_count"),
    }


def gather_params(o: Any, sizes: Sequence[Any]) -> Params:
    """The parameters of a gather whose windows have these sizes. XLA moves what sticks out inside."""
    text = str(attribute(o, "dimension_numbers"))
    return {
        "dimension_numbers": SimpleNamespace(
            offset_dims=_listed(text, "offset_dims"),
            collapsed_slice_dims=_listed(text, "collapsed_slice_dims"),
            start_index_map=_listed(text, "start_index_map"),
            operand_batching_dims=_listed(text, "operand_batching_dims"),
            start_indices_batching_dims=_listed(text, "start_indices_batching_dims"),
        ),
        "slice_sizes": tuple(sizes),
        "mode": "CLIP",
        "fill_value": None,
    }


def scatter_params(o: Any) -> Params:
    """The parameters of a scatter. XLA leaves out what sticks out."""
    text = str(attribute(o, "scatter_dimension_numbers"))
    return {
        "dimension_numbers": SimpleNamespace(
            update_window_dims=_listed(text, "update_window_dims"),
            inserted_window_dims=_listed(text, "inserted_window_dims"),
            scatter_dims_to_operand_dims=_listed(text, "scatter_dims_to_operand_dims"),
            operand_batching_dims=_listed(text, "input_batching_dims"),
            scatter_indices_batching_dims=_listed(text, "scatter_indices_batching_dims"),
        ),
        "mode": "FILL_OR_DROP",
    }


def window_params(o: Any) -> Params:
    """The geometry of a reduction over windows."""
    dims = numbers(o, "window_dimensions")
    ones = (1,) * len(dims)
    padding = attribute(o, "padding")
    widths = np.array(padding).reshape(-1, 2) if padding is not None else np.zeros((len(dims), 2), np.int64)
    return {
        "window_dimensions": dims,
        "window_strides": numbers(o, "window_strides", ones),
        "padding": [(int(low), int(high)) for low, high in widths],
        "base_dilation": numbers(o, "base_dilations", ones),
        "window_dilation": numbers(o, "window_dilations", ones),
    }


def _pad(o: Any) -> tuple[str, Params]:
    widths = (numbers(o, n) for n in ("edge_padding_low", "edge_padding_high", "interior_padding"))
    return "pad", {"padding_config": tuple(zip(*widths, strict=True))}


def _slice(o: Any) -> tuple[str, Params]:
    names = ("start_indices", "limit_indices", "strides")
    return "slice", {name: numbers(o, name) for name in names}


def _reads(primitive: str, **named: str) -> Reader:
    """A primitive whose parameters are lists of integers under other names."""
    return lambda o: (primitive, {ours: numbers(o, theirs) for ours, theirs in named.items()})


def _fft(o: Any) -> tuple[str, Params]:
    kind = re.findall(r"I?R?FFT", str(attribute(o, "fft_type")))[-1]
    kinds = ("FFT", "IFFT", "RFFT", "IRFFT")
    return "fft", {"fft_type": kinds.index(kind), "fft_lengths": numbers(o, "fft_length")}


def _is(o: Any, name: str) -> bool:
    return str(attribute(o, name)) == "true"


def _triangular_solve(o: Any) -> tuple[str, Params]:
    how = re.findall(r"[A-Z_]{5,}", str(attribute(o, "transpose_a")))[-1]
    return "triangular_solve", {
        "left_side": _is(o, "left_side"),
        "lower": _is(o, "lower"),
        "unit_diagonal": _is(o, "unit_diagonal"),
        "transpose_a": how in ("TRANSPOSE", "ADJOINT"),
        "conjugate_a": how == "ADJOINT",
    }


def _reduce_precision(o: Any) -> tuple[str, Params]:
    return "reduce_precision", {n: number(o, n) for n in ("exponent_bits", "mantissa_bits")}


READERS: dict[str, Reader] = {
    "fft": _fft,
    "triangular_solve": _triangular_solve,
    "reduce_precision": _reduce_precision,
    "compare": _compare,
    "dot_general": _dot,
    "convolution": _convolution,
    "pad": _pad,
    "slice": _slice,
    "transpose": _reads("transpose", permutation="permutation"),
    "reverse": _reads("rev", dimensions="dimensions"),
    "concatenate": lambda o: ("concatenate", {"dimension": number(o, "dimension")}),
    "round_nearest_even": lambda o: ("round", {"rounding_method": 1}),
    "round_nearest_afz": lambda o: ("round", {"rounding_method": 0}),
    "dynamic_slice": _reads("dynamic_slice", slice_sizes="slice_sizes"),
}
