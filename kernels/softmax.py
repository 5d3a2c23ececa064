"""Softmax and its logarithm along an axis.

    y_RC = exp(x_RC − max_C x) / Σ_C exp(x_RC − max_C x)          log: x − max − log Σ exp(x − max)

R rows, C columns. A row that fits a tile is read once; a longer one twice, its maximum and sum updated block by block
(Milakov and Gimelshein 2018, arXiv:1805.02867). Half precision is computed in f32. A row of −∞ alone, or with NaN or
+∞ in it, gives NaN.
"""

# Parameters of device code are Triton's to type, and its stubs know no tuples, hooks or numbers as arguments.
# pyright: reportMissingParameterType=false, reportArgumentType=false, reportCallIssue=false
# pyright: reportOperatorIssue=false, reportAssignmentType=false
from __future__ import annotations

import torch
import triton
import triton.language as tl

from .case import Build, case, operand
from .rows import load_axis, over_rows, split, store_axis


@triton.jit
def softmax_kernel(
    sources,
    sinks,
    rows,
    cols,
    LOG: tl.constexpr,
    LOAD: tl.constexpr,
    STORE: tl.constexpr,
    ROWS: tl.constexpr,
    BLOCK: tl.constexpr,
    WHOLE: tl.constexpr,
):
    """Each program ROWS rows; WHOLE if BLOCK holds all columns."""
    row = (tl.program_id(0).to(tl.int64) * ROWS + tl.arange(0, ROWS))[:, None]
    col = tl.arange(0, BLOCK)[None, :]
    if WHOLE:
        mask = (row < rows) & (col < cols)
        x = tl.where(col < cols, LOAD(row, col, mask, sources), float("-inf"))
        x = x - tl.max(x, 1)[:, None]
        raised = tl.exp(x)
        total = tl.sum(raised, 1)[:, None]
        STORE(x - tl.log(total) if LOG else raised / total, row, col, mask, sinks)
    else:
        mask = (row < rows) & (col < cols)
        x = tl.where(col < cols, LOAD(row, col, mask, sources), float("-inf"))
        peak = tl.max(x, 1)[:, None]
        shift = tl.where(peak == float("-inf"), 0.0, peak)
        total = tl.sum(tl.exp(x - shift), 1)[:, None]
        for start in range(BLOCK, cols, BLOCK):
            at = start + col
            mask = (row < rows) & (at < cols)
            x = tl.where(at < cols, LOAD(row, at, mask, sources), float("-inf"))
            higher = tl.maximum(peak, tl.max(x, 1)[:, None])
            shift = tl.where(higher == float("-inf"), 0.0, higher)
            total = total * tl.exp(peak - shift) + tl.sum(tl.exp(x - shift), 1)[:, None]
            peak = higher
        for start in range(0, cols, BLOCK):
            at = start + col
            mask = (row < rows) & (at < cols)
            x = LOAD(row, at, mask, sources) - peak
            STORE(x - tl.log(total) if LOG else tl.exp(x) / total, row, at, mask, sinks)


def softmax(
    x: torch.Tensor, axis: int = -1, *, log: bool = False, out: torch.Tensor | None = None, block: int | None = None
) -> torch.Tensor:
    """Softmax along `axis`; a contiguous result of the type of x. `block` bounds the columns held at once."""
    x, rows, cols, inner = split(x, axis)
    y = torch.empty_like(x) if out is None else out
    if not x.numel():
        return y
    hooks = {"LOAD": load_axis, "STORE": store_axis}
    over_rows(softmax_kernel, (x, inner, cols), (y, inner, cols), (rows, cols), block=block, LOG=log, **hooks)
    return y


def supports(x: torch.Tensor, axis: int = -1, *, log: bool = False, block: int | None = None) -> str | None:
    """Why not, or None."""
    return None if x.is_floating_point() and x.dim() else f"softmax of {x.dtype} with rank {x.dim()}"


def reference(x: torch.Tensor, axis: int = -1, *, log: bool = False, block: int | None = None) -> torch.Tensor:
    """In torch."""
    return torch.log_softmax(x, axis) if log else torch.softmax(x, axis)


launch = softmax

CASES = (
    case("attention scores", "f32[6,77]"),
    case("an inner axis", "f32[3,5,4]", axis=1),
    case("half precision, odd", "f16[3,129]"),
    case("the logarithm", "bf16[4,50]", log=True),
    case("double", "f64[2,3]", axis=0),
    case("rows longer than a tile", "f32[2,100]", block=32),
    case("the logarithm of long rows", "f32[3,70]", log=True, block=16),
    case("NaN and infinities", operand("f32[7,9]", special=True)),
    case("NaN and infinities in long rows", operand("f32[5,40]", special=True), block=16),
    case("strided", operand("f32[4,6]", "strided")),
    case("unaligned", operand("f16[4,6]", "shifted")),
    case("nothing", "f32[0,4]"),
    case("one element", "f32[1,1]"),
)
_ROWS = ("*fp16", "i32", "i32")
BUILDS = tuple(
    Build(
        f"softmax, {name}",
        softmax_kernel,
        {"sources": _ROWS, "sinks": _ROWS, "rows": "i32", "cols": "i32"},
        {"LOG": False, "LOAD": load_axis, "STORE": store_axis, "ROWS": rows, "BLOCK": block, "WHOLE": whole},
    )
    for name, rows, block, whole in (("whole rows", 4, 1024, True), ("long rows", 1, 4096, False))
)
