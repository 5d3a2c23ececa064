"""Reductions of rows to one number each.

    y_R = ⊕_C x_RC    ⊕: sum, max, min (NaN where there is one), sum of squares, sum of magnitudes, log-sum-exp

R rows, C columns, block by block of columns; partial results are combined in the type that the LOAD hook gives. What is
done with the result (a mean's division, a root) belongs to the STORE hook. `KIND` chooses; an empty row gives the
neutral element.
"""

# Parameters of device code are Triton's to type, and its stubs know no tuples, hooks or numbers as arguments.
# pyright: reportMissingParameterType=false, reportArgumentType=false, reportCallIssue=false
# pyright: reportOperatorIssue=false, reportAssignmentType=false
from __future__ import annotations

import torch
import triton
import triton.language as tl

from .case import Build, case, operand
from .rows import load_axis, over_rows, split, store_row

KINDS = ("sum", "max", "min", "sum_square", "l1", "logsumexp")


@triton.jit
def reduce_kernel(
    sources,
    sinks,
    rows,
    cols,
    KIND: tl.constexpr,
    LOAD: tl.constexpr,
    STORE: tl.constexpr,
    ROWS: tl.constexpr,
    BLOCK: tl.constexpr,
    WHOLE: tl.constexpr,
):
    """Each program ROWS rows, BLOCK columns at a time."""
    row = tl.program_id(0).to(tl.int64) * ROWS + tl.arange(0, ROWS)
    col = tl.arange(0, BLOCK)[None, :]
    at = row[:, None]
    mask = (at < rows) & (col < cols)
    x = LOAD(at, col, mask, sources)
    NEUTRAL: tl.constexpr = (
        float("-inf") if KIND == "max" or KIND == "logsumexp" else (float("inf") if KIND == "min" else 0)
    )
    if KIND == "sum_square":
        x = x * x
    if KIND == "l1":
        x = tl.abs(x)
    x = tl.where(mask, x, NEUTRAL)
    if KIND == "max" or KIND == "min":
        total = tl.max(x, 1) if KIND == "max" else tl.min(x, 1)
        spoiled = tl.sum((x != x).to(tl.int32), 1)
        for start in range(BLOCK, cols, BLOCK):
            mask = (at < rows) & (start + col < cols)
            x = tl.where(mask, LOAD(at, start + col, mask, sources), NEUTRAL)
            total = tl.maximum(total, tl.max(x, 1)) if KIND == "max" else tl.minimum(total, tl.min(x, 1))
            spoiled += tl.sum((x != x).to(tl.int32), 1)
        total = tl.where(spoiled > 0, float("nan"), total)
    elif KIND == "logsumexp":
        peak = tl.max(x, 1)
        shift = tl.where(tl.abs(peak) == float("inf"), 0.0, peak)
        total = tl.sum(tl.exp(x - shift[:, None]), 1)
        for start in range(BLOCK, cols, BLOCK):
            mask = (at < rows) & (start + col < cols)
            x = tl.where(mask, LOAD(at, start + col, mask, sources), NEUTRAL)
            higher = tl.maximum(peak, tl.max(x, 1))
            moved = tl.where(tl.abs(higher) == float("inf"), 0.0, higher)
            total = total * tl.exp(shift - moved) + tl.sum(tl.exp(x - moved[:, None]), 1)
            peak, shift = higher, moved
        total = tl.log(total) + shift
    else:
        total = tl.sum(x, 1)
        for start in range(BLOCK, cols, BLOCK):
            mask = (at < rows) & (start + col < cols)
            x = LOAD(at, start + col, mask, sources)
            if KIND == "sum_square":
                x = x * x
            if KIND == "l1":
                x = tl.abs(x)
            total += tl.sum(tl.where(mask, x, 0), 1)
    STORE(total, row, row < rows, sinks)


def reduce(
    x: torch.Tensor, axis: int = -1, *, kind: str = "sum", out: torch.Tensor | None = None, block: int | None = None
) -> torch.Tensor:
    """Reduce along `axis`, which goes; a result of the type of x. Raises ValueError for a kind that is none."""
    if kind not in KINDS:
        raise ValueError(f"{kind!r} is none of {', '.join(KINDS)}")
    shape = list(x.shape)
    del shape[axis]
    y = torch.empty(shape, dtype=x.dtype, device=x.device) if out is None else out
    if not x.shape[axis]:
        return y.fill_({"max": -torch.inf, "min": torch.inf, "logsumexp": -torch.inf}.get(kind, 0))
    x, rows, cols, inner = split(x, axis)
    if not rows:
        return y
    hooks = {"LOAD": load_axis, "STORE": store_row}
    over_rows(reduce_kernel, (x, inner, cols), (y,), (rows, cols), block=block, KIND=kind, **hooks)
    return y


def supports(x: torch.Tensor, axis: int = -1, **attributes: object) -> str | None:
    """Why not, or None."""
    return None if x.is_floating_point() and x.dim() else f"a reduction of {x.dtype} with rank {x.dim()}"


def reference(x: torch.Tensor, axis: int = -1, *, kind: str = "sum", block: int | None = None) -> torch.Tensor:
    """In torch."""
    if kind in ("max", "min") and not x.shape[axis]:
        shape = [*x.shape]
        del shape[axis]
        return x.new_full(shape, -torch.inf if kind == "max" else torch.inf)
    return {
        "sum": lambda: x.sum(axis),
        "max": lambda: x.amax(axis),
        "min": lambda: x.amin(axis),
        "sum_square": lambda: (x * x).sum(axis),
        "l1": lambda: x.abs().sum(axis),
        "logsumexp": lambda: x.logsumexp(axis),
    }[kind]()


launch = reduce

CASES = (
    *(case(f"{kind} of odd rows", "f32[5,37]", kind=kind) for kind in KINDS),
    *(case(f"{kind} of long rows", "f32[3,75]", kind=kind, block=16) for kind in KINDS),
    *(case(f"{kind} of special values", operand("f32[9,7]", special=True), kind=kind) for kind in KINDS),
    *(case(f"{kind} over nothing", "f32[3,0]", kind=kind) for kind in KINDS),
    case("an inner axis", "f16[3,7,5]", axis=1),
    case("double", "f64[4,9]", axis=0),
    case("strided", operand("f32[4,6]", "strided")),
    case("unaligned", operand("bf16[4,6]", "shifted"), kind="max"),
    case("no rows", "f32[0,4]"),
    case("one element", "f32[1,1]"),
)
BUILDS = tuple(
    Build(
        f"reduce, {kind}",
        reduce_kernel,
        {"sources": ("*fp32", "i32", "i32"), "sinks": ("*fp32",), "rows": "i32", "cols": "i32"},
        {"KIND": kind, "LOAD": load_axis, "STORE": store_row, "ROWS": 4, "BLOCK": 1024, "WHOLE": False},
    )
    for kind in ("sum", "max", "logsumexp")
)
