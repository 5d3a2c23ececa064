"""Layer and root-mean-square normalisation over the last axes.

    layer  y_RC = (x_RC − μ_R) / √(σ²_R + ε) · s_C + b_C     μ, σ²: mean and biased variance (arXiv:1607.06450, eq. 3)
    rms    y_RC = x_RC / √(mean_C x² + ε) · s_C              (arXiv:1910.07467)

R rows, C columns. A row that fits a tile is read once and its variance taken in two passes over registers; a longer
one is read three times (rms: twice), for one pass by sum and sum of squares would cancel. Computed in f32 at least.
Scale and bias belong to the STORE hook: so does whatever else follows.
"""

# Parameters of device code are Triton's to type, and its stubs know no tuples, hooks or numbers as arguments.
# pyright: reportMissingParameterType=false, reportArgumentType=false, reportCallIssue=false
# pyright: reportOperatorIssue=false, reportAssignmentType=false
from __future__ import annotations

import torch
import triton
import triton.language as tl

from .case import Build, case, operand
from .rows import load_axis, over_rows


@triton.jit
def norm_kernel(
    sources,
    sinks,
    rows,
    cols,
    epsilon,
    CENTRED: tl.constexpr,
    LOAD: tl.constexpr,
    STORE: tl.constexpr,
    ROWS: tl.constexpr,
    BLOCK: tl.constexpr,
    WHOLE: tl.constexpr,
):
    """Each program ROWS rows; WHOLE if BLOCK holds all columns; CENTRED takes the mean away."""
    row = (tl.program_id(0).to(tl.int64) * ROWS + tl.arange(0, ROWS))[:, None]
    col = tl.arange(0, BLOCK)[None, :]
    if WHOLE:
        mask = (row < rows) & (col < cols)
        x = tl.where(mask, LOAD(row, col, mask, sources), 0.0)
        if CENTRED:
            x = tl.where(mask, x - (tl.sum(x, 1) / cols)[:, None], 0.0)
        variance = (tl.sum(x * x, 1) / cols)[:, None]
        STORE(x / tl.sqrt(variance + epsilon), row, col, mask, sinks)
    else:
        first = tl.where((row < rows) & (col < cols), LOAD(row, col, (row < rows) & (col < cols), sources), 0.0)
        mean = tl.sum(first, 1)[:, None]
        if CENTRED:
            for start in range(BLOCK, cols, BLOCK):
                mask = (row < rows) & (start + col < cols)
                mean += tl.sum(tl.where(mask, LOAD(row, start + col, mask, sources), 0.0), 1)[:, None]
            mean = mean / cols
        else:
            mean = tl.zeros_like(mean)
        first = tl.where((row < rows) & (col < cols), first - mean, 0.0)
        variance = tl.sum(first * first, 1)[:, None]
        for start in range(BLOCK, cols, BLOCK):
            mask = (row < rows) & (start + col < cols)
            x = tl.where(mask, LOAD(row, start + col, mask, sources) - mean, 0.0)
            variance += tl.sum(x * x, 1)[:, None]
        deviation = tl.sqrt(variance / cols + epsilon)
        for start in range(0, cols, BLOCK):
            mask = (row < rows) & (start + col < cols)
            x = LOAD(row, start + col, mask, sources) - mean
            STORE(x / deviation, row, start + col, mask, sinks)


@triton.jit
def store_affine(value, row, col, mask, sinks):
    """value · scale + bias; either may be absent, and then points at the result."""
    y, scale, bias, cols, has_scale, has_bias = sinks
    inside = col < cols
    if has_scale:
        value = value * tl.load(scale + col, mask=inside, other=0).to(value.dtype)
    if has_bias:
        value = value + tl.load(bias + col, mask=inside, other=0).to(value.dtype)
    tl.store(y + row * cols + col, value.to(y.dtype.element_ty), mask=mask)


def layer_norm(
    x: torch.Tensor,
    scale: torch.Tensor | None = None,
    bias: torch.Tensor | None = None,
    *,
    epsilon: float = 1e-5,
    centred: bool = True,
    axes: int = 1,
    out: torch.Tensor | None = None,
    block: int | None = None,
) -> torch.Tensor:
    """Normalise over the last `axes` axes; `centred=False` is rms. A contiguous result of the type of x."""
    x = x.contiguous()
    y = torch.empty_like(x) if out is None else out
    if not x.numel():
        return y
    cols = x.shape[-axes:].numel()
    rows = x.numel() // cols
    given = [y if p is None else p.contiguous() for p in (scale, bias)]
    sinks = (y, *given, cols, int(scale is not None), int(bias is not None))
    hooks = {"LOAD": load_axis, "STORE": store_affine}
    over_rows(norm_kernel, (x, 1, cols), sinks, (rows, cols), epsilon, block=block, CENTRED=centred, **hooks)
    return y


def supports(x: torch.Tensor, *parameters: torch.Tensor | None, **attributes: object) -> str | None:
    """Why not, or None."""
    return None if x.is_floating_point() else f"a norm of {x.dtype}"


def reference(
    x: torch.Tensor,
    scale: torch.Tensor | None = None,
    bias: torch.Tensor | None = None,
    *,
    epsilon: float = 1e-5,
    centred: bool = True,
    axes: int = 1,
    block: int | None = None,
) -> torch.Tensor:
    """In torch."""
    shape = x.shape[-axes:]
    if centred:
        return torch.layer_norm(x, shape, scale, bias, epsilon)
    y = torch.nn.functional.rms_norm(x, shape, scale, epsilon)
    return y if bias is None else y + bias


launch = layer_norm

CASES = (
    case("a transformer's rows", "f32[5,96]", "f32[96]", "f32[96]"),
    case("no parameters", "f32[4,33]"),
    case("scale alone, half precision", "f16[3,65]", "f16[65]"),
    case("two axes", "f64[2,3,4]", "f64[3,4]", "f64[3,4]", axes=2),
    case("rms", "bf16[4,48]", "bf16[48]", centred=False),
    case("long rows", "f32[3,100]", "f32[100]", "f32[100]", block=32),
    case("rms of long rows", "f32[3,70]", "f32[70]", centred=False, block=32),
    case("NaN and infinities", operand("f32[6,9]", special=True), "f32[9]", "f32[9]"),
    case("strided and unaligned", operand("f32[4,6]", "strided"), operand("f32[6]", "shifted")),
    case("nothing", "f32[0,4]", "f32[4]"),
    case("one element", "f32[1,1]"),
)
BUILDS = tuple(
    Build(
        f"layer norm, {name}",
        norm_kernel,
        {
            "sources": ("*bf16", "i32", "i32"),
            "sinks": ("*bf16", "*bf16", "*bf16", "i32", "i32", "i32"),
            "rows": "i32",
            "cols": "i32",
            "epsilon": "fp32",
        },
        {"CENTRED": True, "LOAD": load_axis, "STORE": store_affine, "ROWS": rows, "BLOCK": block, "WHOLE": whole},
        warps=8,
    )
    for name, rows, block, whole in (("whole rows", 4, 1024, True), ("long rows", 1, 4096, False))
)
