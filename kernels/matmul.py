"""Products of matrices, with whole expressions before and after them.

    y_BMN = STORE( Σ_K LOAD_LEFT_BMK · LOAD_RIGHT_BKN )

B batch, M rows, N columns, K summed. Where operands lie, how they are converted and what follows the sum is for the
hooks to know, so that bias, activation, residual and a reduction's input stay in registers:

    LOAD_LEFT(batch, m, k, mask, left) -> [M,K]    LOAD_RIGHT(batch, k, n, mask, right) -> [K,N]
    STORE(sum, batch, m, n, mask, sinks)

Tiles are walked in groups of 8 along M, so that those in flight share columns of the right operand in L2. Programs loop
over tiles: with fewer programs than tiles the kernel is persistent. SPLITS > 1 cuts K among programs, whose partial
sums a second kernel adds in a fixed order (the result does not depend on timing) before it calls STORE: for few rows
there are too few tiles to fill a device otherwise. Sums are kept in f32, f64 for f64; f32 is multiplied as f32 ("ieee")
unless `precision="tf32"`.
"""

# Parameters of device code are Triton's to type, and its stubs know no tuples, hooks or numbers as arguments.
# pyright: reportMissingParameterType=false, reportArgumentType=false, reportCallIssue=false
# pyright: reportOperatorIssue=false, reportAssignmentType=false
from __future__ import annotations

from typing import Any

import torch
import triton
import triton.language as tl
from triton import knobs

from .case import Build, case, operand


@triton.jit
def load_matrix(batch, row, col, mask, source):
    """An element of [batch, row, col] by strides; `inner` batches lie within each outer one, either may be repeated."""
    x, inner, outer_stride, inner_stride, row_stride, col_stride = source
    start = (batch // inner) * outer_stride + (batch % inner) * inner_stride
    return tl.load(x + start + row.to(tl.int64) * row_stride + col.to(tl.int64) * col_stride, mask=mask, other=0)


@triton.jit
def biased(value, n, sinks):
    """value + bias, if there is one."""
    _, _, cols, bias, has_bias, _, _ = sinks
    if has_bias:
        value = value + tl.load(bias + n, mask=n < cols, other=0).to(value.dtype)
    return value


@triton.jit
def store_sum(value, batch, m, n, mask, sinks):
    """value + residual, if there is one, as the element of a contiguous result."""
    y, rows, cols, _, _, residual, has_residual = sinks
    place = (batch * rows + m) * cols + n
    if has_residual:
        value = value + tl.load(residual + place, mask=mask, other=0).to(value.dtype)
    tl.store(y + place, value.to(y.dtype.element_ty), mask=mask)


@triton.jit
def store_plain(value, batch, m, n, mask, sinks):
    """value + bias + residual."""
    store_sum(biased(value, n, sinks), batch, m, n, mask, sinks)


@triton.jit
def store_relu(value, batch, m, n, mask, sinks):
    """relu(value + bias) + residual; NaN stays."""
    value = biased(value, n, sinks)
    store_sum(tl.where(value < 0, 0.0, value), batch, m, n, mask, sinks)


@triton.jit
def store_gelu(value, batch, m, n, mask, sinks):
    """gelu(value + bias) + residual, by erf."""
    value = biased(value, n, sinks)
    store_sum(0.5 * value * (1 + tl.erf(value * 0.7071067811865476)), batch, m, n, mask, sinks)


@triton.jit
def store_silu(value, batch, m, n, mask, sinks):
    """silu(value + bias) + residual."""
    value = biased(value, n, sinks)
    store_sum(value / (1 + tl.exp(-value)), batch, m, n, mask, sinks)


@triton.jit
def store_partial(value, batch, m, n, mask, partial, split, rows, cols, batches):  # noqa: D103
    place = ((split * batches + batch) * rows + m) * cols + n
    tl.store(partial + place, value, mask=mask)


@triton.jit
def matmul_kernel(
    left,
    right,
    sinks,
    partial,
    batches,
    rows,
    cols,
    depth,
    LOAD_LEFT: tl.constexpr,
    LOAD_RIGHT: tl.constexpr,
    STORE: tl.constexpr,
    SPLITS: tl.constexpr,
    WIDE: tl.constexpr,
    WIDEN: tl.constexpr,
    PRECISION: tl.constexpr,
    BLOCK_M: tl.constexpr,
    BLOCK_N: tl.constexpr,
    BLOCK_K: tl.constexpr,
):
    """Each program tiles `program`, `program + programs`, …; WIDE keeps the sum in f64, WIDEN multiplies in f32."""
    down = tl.cdiv(rows, BLOCK_M)
    across = tl.cdiv(cols, BLOCK_N)
    tiles = down * across * batches * SPLITS
    share = tl.cdiv(tl.cdiv(depth, BLOCK_K), SPLITS) * BLOCK_K
    for tile in range(tl.program_id(0), tiles, tl.num_programs(0)):
        split = tile % SPLITS
        place = tile // SPLITS
        batch = (place // (down * across)).to(tl.int64)
        place = place % (down * across)
        group = place // (8 * across)
        height = tl.minimum(down - group * 8, 8)
        m = ((group * 8 + place % (8 * across) % height) * BLOCK_M + tl.arange(0, BLOCK_M))[:, None]
        n = ((place % (8 * across)) // height * BLOCK_N + tl.arange(0, BLOCK_N))[None, :]
        k = tl.arange(0, BLOCK_K)
        total = tl.zeros((BLOCK_M, BLOCK_N), tl.float64 if WIDE else tl.float32)
        for start in range(split * share, tl.minimum(depth, (split + 1) * share), BLOCK_K):
            at = start + k
            a = LOAD_LEFT(batch, m, at[None, :], (m < rows) & (at[None, :] < depth), left)
            b = LOAD_RIGHT(batch, at[:, None], n, (at[:, None] < depth) & (n < cols), right)
            if WIDEN:
                a, b = a.to(tl.float32), b.to(tl.float32)
            total = tl.dot(a, b, total, input_precision=PRECISION, out_dtype=total.dtype)
        mask = (m < rows) & (n < cols)
        if SPLITS == 1:
            STORE(total, batch, m, n, mask, sinks)
        else:
            store_partial(total, batch, m, n, mask, partial, split, rows, cols, batches)


@triton.jit
def finish_kernel(
    sinks,
    partial,
    batches,
    rows,
    cols,
    STORE: tl.constexpr,
    SPLITS: tl.constexpr,
    BLOCK_M: tl.constexpr,
    BLOCK_N: tl.constexpr,
):
    """The partial sums of one tile, added in order, then STORE."""
    m = (tl.program_id(0) * BLOCK_M + tl.arange(0, BLOCK_M))[:, None]
    n = (tl.program_id(1) * BLOCK_N + tl.arange(0, BLOCK_N))[None, :]
    batch = tl.program_id(2).to(tl.int64)
    mask = (m < rows) & (n < cols)
    place = (batch * rows + m) * cols + n
    total = tl.load(partial + place, mask=mask, other=0)
    for split in range(1, SPLITS):
        total += tl.load(partial + place + split * batches * rows * cols, mask=mask, other=0)
    STORE(total, batch, m, n, mask, sinks)


def tiles(rows: int, cols: int, depth: int, batches: int, dtype: torch.dtype, programs: int = 132) -> dict[str, Any]:
    """Tile extents, warps, stages and splits for a problem, by arithmetic intensity and by how many tiles there are.

    128 × 128 gives 64 multiplications for each element read; fewer rows than that take the next power of two, for half
    of a tile of padding is half of the work wasted. K is split while tiles do not fill `programs` (132 on an H100).
    """
    narrow = dtype in (torch.float16, torch.bfloat16)
    largest = 128 if narrow else 64 if dtype != torch.float64 else 32
    block_m = min(largest, max(16, triton.next_power_of_2(rows)))
    block_n = min(largest, max(16, triton.next_power_of_2(cols)))
    block_k = min(64 if narrow else 32, max(16, triton.next_power_of_2(depth)))
    count = triton.cdiv(rows, block_m) * triton.cdiv(cols, block_n) * batches
    splits = 1
    while count * splits * 2 <= programs and depth // (splits * 2) >= 4 * block_k:
        splits *= 2
    # Products in f32 and f64 run on the plain units, whose operands fill registers: 4 warps spill on sm_80 and sm_90.
    warps = 8 if block_m * block_n >= (128 * 128 if narrow else 64 * 64) else 4
    return {
        "BLOCK_M": block_m,
        "BLOCK_N": block_n,
        "BLOCK_K": block_k,
        "SPLITS": splits,
        "num_warps": warps,
        "num_stages": 3,
    }


_STORES: dict[str | None, Any] = {None: store_plain, "relu": store_relu, "gelu": store_gelu, "silu": store_silu}


def matmul(
    left: torch.Tensor,
    right: torch.Tensor,
    bias: torch.Tensor | None = None,
    residual: torch.Tensor | None = None,
    *,
    activation: str | None = None,
    precision: str = "ieee",
    out: torch.Tensor | None = None,
    splits: int | None = None,
    programs: int | None = None,
    block: int | None = None,
) -> torch.Tensor:
    """activation(left · right + bias) + residual, contiguous, of the type of `left`.

    left: [*, M, K]   right: [*, K, N]   bias: [N]   residual: [*, M, N], with two leading axes at most, broadcast as
    NumPy does; any strides. `splits` cuts K, `programs` bounds the programs, `block` the tile. Raises ValueError for
    what `supports` declines.
    """
    reason = supports(left, right, bias, residual, activation=activation)
    if reason:
        raise ValueError(reason)
    lead = torch.broadcast_shapes(left.shape[:-2], right.shape[:-2])
    rows, depth, cols = left.shape[-2], left.shape[-1], right.shape[-1]
    y = torch.empty((*lead, rows, cols), dtype=left.dtype, device=left.device) if out is None else out
    if not y.numel():
        return y
    extras = [y if x is None else x.expand(s).contiguous() for x, s in ((bias, (cols,)), (residual, y.shape))]
    sinks = (y, rows, cols, extras[0], int(bias is not None), extras[1], int(residual is not None))
    hooks = (load_matrix, load_matrix, _STORES[activation])
    extents = (lead.numel(), rows, cols, depth)
    product(source(left, lead), source(right, lead), sinks, extents, hooks, y, precision, splits, programs, block)
    return y


def product(
    left: tuple[Any, ...],
    right: tuple[Any, ...],
    sinks: tuple[Any, ...],
    extents: tuple[int, int, int, int],
    hooks: tuple[Any, Any, Any],
    like: torch.Tensor,
    precision: str = "ieee",
    splits: int | None = None,
    programs: int | None = None,
    block: int | None = None,
) -> None:
    """Launch the product, and what adds its partial sums if K is split.

    extents: batches, rows, columns, depth   hooks: LOAD_LEFT, LOAD_RIGHT, STORE with what they take   `like` tells the
    dtype of the operands and the device.
    """
    batches, rows, cols, depth = extents
    tile = tiles(rows, cols, depth, batches, like.dtype)
    if block is not None:
        tile |= {"BLOCK_M": block, "BLOCK_N": block, "BLOCK_K": block}
    count = tile["SPLITS"] = tile["SPLITS"] if splits is None else splits
    wide = like.dtype == torch.float64
    partial = like
    if count > 1:
        kept = torch.float64 if wide else torch.float32
        partial = torch.empty((count, batches, rows, cols), dtype=kept, device=like.device)
    tiled = triton.cdiv(rows, tile["BLOCK_M"]) * triton.cdiv(cols, tile["BLOCK_N"]) * batches * count
    matmul_kernel[(min(tiled, programs or tiled),)](
        left,
        right,
        sinks,
        partial,
        *extents,
        LOAD_LEFT=hooks[0],
        LOAD_RIGHT=hooks[1],
        STORE=hooks[2],
        WIDE=wide,
        WIDEN=widens(like.dtype),
        PRECISION=precision,
        **tile,
    )
    if count > 1:
        shape = {"BLOCK_M": 16, "BLOCK_N": 64}
        grid = (triton.cdiv(rows, 16), triton.cdiv(cols, 64), batches)
        finish_kernel[grid](sinks, partial, batches, rows, cols, STORE=hooks[2], SPLITS=count, **shape)


def widens(dtype: torch.dtype) -> bool:
    """Whether operands are converted before they are multiplied: Triton's interpreter multiplies the bits of bf16."""
    return dtype == torch.bfloat16 and bool(knobs.runtime.interpret)


def source(x: torch.Tensor, lead: torch.Size) -> tuple[Any, ...]:
    """A stack of matrices for `load_matrix`: pointer, extent of the inner batch axis and strides."""
    x = x.expand(*lead, *x.shape[-2:])
    inner = lead[-1] if lead else 1
    outer_stride = x.stride(0) if len(lead) == 2 else 0
    inner_stride = x.stride(-3) if lead else 0
    return x, inner, outer_stride, inner_stride, x.stride(-2), x.stride(-1)


def supports(
    left: torch.Tensor,
    right: torch.Tensor,
    bias: torch.Tensor | None = None,
    residual: torch.Tensor | None = None,
    *,
    activation: str | None = None,
    **settings: object,
) -> str | None:
    """Why not, or None."""
    given = [x.dtype for x in (left, right, bias, residual) if x is not None]
    if not left.is_floating_point() or len(set(given)) > 1:
        return f"a product of {' and '.join(str(d) for d in dict.fromkeys(given))}: one floating-point type"
    if not 2 <= left.dim() <= 4 or not 2 <= right.dim() <= 4:
        return f"ranks {left.dim()} and {right.dim()}: matrices, under two leading axes at most"
    if left.shape[-1] != right.shape[-2]:
        return f"the inner extents {left.shape[-1]} and {right.shape[-2]} differ"
    return None if activation in _STORES else f"no activation {activation!r}"


def reference(
    left: torch.Tensor,
    right: torch.Tensor,
    bias: torch.Tensor | None = None,
    residual: torch.Tensor | None = None,
    *,
    activation: str | None = None,
    **settings: object,
) -> torch.Tensor:
    """In torch."""
    y = left @ right
    y = y if bias is None else y + bias
    functions = {"relu": torch.relu, "gelu": torch.nn.functional.gelu, "silu": torch.nn.functional.silu}
    y = functions[activation](y) if activation else y
    return y if residual is None else y + residual


launch = matmul

CASES = (
    case("several tiles", "f32[40,50]", "f32[50,35]", block=16),
    case("bias, gelu and residual", "f32[9,33]", "f32[33,20]", "f32[20]", "f32[9,20]", activation="gelu"),
    case("relu in half precision", "f16[17,40]", "f16[40,24]", "f16[24]", activation="relu"),
    case("silu in bfloat16", "bf16[8,32]", "bf16[32,16]", activation="silu"),
    case("double", "f64[5,7]", "f64[7,3]"),
    case("one row, K split", "f32[1,130]", "f32[130,20]", "f32[20]", splits=3, block=16, activation="relu"),
    case("more splits than blocks of K", "f32[3,20]", "f32[20,5]", splits=4, block=16),
    case("fewer programs than tiles", "f32[40,20]", "f32[20,70]", programs=3, block=16),
    case("more rows than a group of tiles", "f32[150,16]", "f32[16,20]", block=16),
    case("batches", "f32[2,3,5,8]", "f32[2,3,8,6]"),
    case("broadcast batches", "f32[2,1,5,8]", "f32[3,8,6]", None, "f32[2,3,5,6]"),
    case("batches with K split", "f32[2,4,64]", "f32[2,64,5]", splits=2, block=16),
    case("strided and unaligned", operand("f32[6,10]", "strided"), operand("f32[10,4]", "shifted")),
    case("NaN and infinities", operand("f32[9,5]", special=True), "f32[5,6]"),
    case("nothing to sum", "f32[3,0]", "f32[0,4]", "f32[4]"),
    case("no rows", "f32[0,3]", "f32[3,4]"),
    case("one element", "f32[1,1]", "f32[1,1]"),
)


def _build(name: str, dtype: str, block: tuple[int, int, int], splits: int = 1, warps: int = 4) -> Build:
    # As a launch with contiguous operands of round extents is specialised.
    place = (f"*{dtype}:16", "i32", "i32:16", "i32:16", "i32:16", "1")
    sinks = (f"*{dtype}:16", "i32:16", "i32:16", f"*{dtype}:16", "1", f"*{dtype}:16", "1")
    partial = "*fp64" if dtype == "fp64" else "*fp32"
    sizes = {"batches": "i32", **dict.fromkeys(("rows", "cols", "depth"), "i32:16")}
    return Build(
        f"matmul, {name}",
        matmul_kernel,
        {"left": place, "right": place, "sinks": sinks, "partial": partial, **sizes},
        {
            "LOAD_LEFT": load_matrix,
            "LOAD_RIGHT": load_matrix,
            "STORE": store_gelu if dtype != "fp64" else store_relu,
            "SPLITS": splits,
            "WIDE": dtype == "fp64",
            "WIDEN": False,
            "PRECISION": "tf32" if name == "tf32" else "ieee",
            **dict(zip(("BLOCK_M", "BLOCK_N", "BLOCK_K"), block, strict=True)),
        },
        warps=warps,
    )


BUILDS = (
    _build("f16", "fp16", (128, 128, 64), warps=8),
    _build("bf16, few rows, K split", "bf16", (16, 128, 64), splits=4),
    _build("tf32", "fp32", (64, 64, 32)),
    _build("f32", "fp32", (64, 64, 32), warps=8),
    _build("f64", "fp64", (32, 32, 32)),
)
