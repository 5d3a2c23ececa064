"""Attention for each head, the scores never written to memory.

    y_BHLD = Σ_S softmax_S( cap(scale · q_BHLE · k_BGSE) + mask_BHLS ) · v_BGSD      cap(s) = c·tanh(s/c) for c > 0

B batch, H heads, G key heads (head h uses key head h // (H/G)), L queries, S keys, E depth, D depth of values. One
program holds a block of queries and walks the keys, updating the maximum, the sum and the result (Dao et al. 2022,
arXiv:2205.14135); with `causal` it stops at the diagonal. For few queries, as when one token is decoded, SPLITS > 1
cuts the keys among programs, whose results a second kernel combines by their maxima and sums, in a fixed order.

A bool mask tells where to look, another is added. A row with nothing to attend to gives 0, or NaN with
`empty_rows="nan"`. Keys beyond the diagonal are
not read where whole blocks of them are, so a NaN there may stay hidden. Scores are kept in f32, f64 for f64.
"""

# Parameters of device code are Triton's to type, and its stubs know no tuples, hooks or numbers as arguments.
# pyright: reportMissingParameterType=false, reportArgumentType=false, reportCallIssue=false
# pyright: reportOperatorIssue=false, reportAssignmentType=false
from __future__ import annotations

import math
from typing import Any

import torch
import triton
import triton.language as tl

from .case import Build, case, operand
from .matmul import widens


@triton.jit
def capped(score, softcap, CAPPED: tl.constexpr):
    """c·tanh(score/c), tanh by one exponential: 2/(1 + exp(−2z)) − 1 has the right limits and keeps NaN."""
    if CAPPED:
        score = softcap * (2 / (1 + tl.exp(-2 * score / softcap)) - 1)
    return score


@triton.jit
def masked(score, seen, told, MASK: tl.constexpr):
    """Scores and what is seen of them after a mask; MASK: 1 bool, 2 added."""
    if MASK == 1:
        seen = seen & (told != 0)
    else:
        score = score + told.to(score.dtype)
    return score, seen


@triton.jit
def attention_kernel(
    query,
    key,
    value,
    mask,
    result,
    partial,
    heads,
    shared,
    queries,
    keys,
    depth,
    value_depth,
    scale,
    softcap,
    MASK: tl.constexpr,
    CAUSAL: tl.constexpr,
    CAPPED: tl.constexpr,
    ZERO: tl.constexpr,
    SPLITS: tl.constexpr,
    WIDE: tl.constexpr,
    WIDEN: tl.constexpr,
    PRECISION: tl.constexpr,
    BLOCK_L: tl.constexpr,
    BLOCK_S: tl.constexpr,
    BLOCK_E: tl.constexpr,
    BLOCK_D: tl.constexpr,
):
    """A block of queries of one head against a share of the keys; MASK: 0 none, 1 bool, 2 added; ZERO: empty rows."""
    q, q_b, q_h, q_l, q_e = query
    k, k_b, k_h, k_s, k_e = key
    v, v_b, v_h, v_s, v_d = value
    m, m_b, m_h, m_l, m_s = mask
    real: tl.constexpr = tl.float64 if WIDE else tl.float32
    batch = (tl.program_id(1) // heads).to(tl.int64)
    head = tl.program_id(1) % heads
    split = tl.program_id(2)
    l = tl.program_id(0) * BLOCK_L + tl.arange(0, BLOCK_L)[:, None]  # noqa: E741
    e = tl.arange(0, BLOCK_E)
    d = tl.arange(0, BLOCK_D)[None, :]
    q_place = q + batch * q_b + head * q_h + l.to(tl.int64) * q_l + e[None, :] * q_e
    x = tl.load(q_place, mask=(l < queries) & (e[None, :] < depth), other=0)
    if WIDEN:
        x = x.to(tl.float32)
    peak = tl.full((BLOCK_L, 1), float("-inf"), real)
    total = tl.zeros((BLOCK_L, 1), real)
    sum = tl.zeros((BLOCK_L, BLOCK_D), real)
    share = tl.cdiv(tl.cdiv(keys, BLOCK_S), SPLITS) * BLOCK_S
    end = tl.minimum(keys, (split + 1) * share)
    if CAUSAL:
        end = tl.minimum(end, (tl.program_id(0) + 1) * BLOCK_L)
    for start in range(split * share, end, BLOCK_S):
        s = start + tl.arange(0, BLOCK_S)
        row = s[None, :]
        k_place = k + batch * k_b + (head // shared) * k_h + row.to(tl.int64) * k_s + e[:, None] * k_e
        y = tl.load(k_place, mask=(row < keys) & (e[:, None] < depth), other=0)
        if WIDEN:
            y = y.to(tl.float32)
        score = capped(tl.dot(x, y, input_precision=PRECISION, out_dtype=real) * scale, softcap, CAPPED)
        seen = row < keys
        if CAUSAL:
            seen = seen & (row <= l)
        if MASK > 0:
            m_place = m + batch * m_b + head * m_h + l.to(tl.int64) * m_l + row.to(tl.int64) * m_s
            told = tl.load(m_place, mask=(l < queries) & (row < keys), other=0)
            score, seen = masked(score, seen, told, MASK)
        shown = tl.where(seen, score, float("-inf"))
        higher = tl.maximum(peak, tl.max(shown, 1)[:, None])
        shift = tl.where(higher == float("-inf"), 0.0, higher)
        raised = tl.exp(shown - shift)
        if MASK == 1:
            raised = tl.where(seen | (row >= keys), raised, tl.where(score < float("inf"), 0.0, float("nan")))
        kept = tl.exp(peak - shift)
        total = total * kept + tl.sum(raised, 1)[:, None]
        v_place = v + batch * v_b + (head // shared) * v_h + s[:, None].to(tl.int64) * v_s + d * v_d
        z = tl.load(v_place, mask=(s[:, None] < keys) & (d < value_depth), other=0)
        if WIDEN:
            z = z.to(tl.float32)
        sum = sum * kept + tl.dot(raised.to(z.dtype), z, input_precision=PRECISION, out_dtype=real)
        peak = higher
    inside = (l < queries) & (d < value_depth)
    row = tl.program_id(1).to(tl.int64) * queries + l
    if SPLITS == 1:
        sum = sum / (tl.where(total == 0, 1.0, total) if ZERO else total)
        tl.store(result + row * value_depth + d, sum.to(result.dtype.element_ty), mask=inside)
    else:
        # A row of partials: the sum of values, then the maximum, then the sum of weights.
        place = partial + (split * tl.num_programs(1).to(tl.int64) * queries + row) * (value_depth + 2)
        tl.store(place + d, sum, mask=inside)
        tl.store(place + value_depth, peak, mask=l < queries)
        tl.store(place + value_depth + 1, total, mask=l < queries)


@triton.jit
def combine_kernel(result, partial, rows, value_depth, ZERO: tl.constexpr, SPLITS: tl.constexpr, BLOCK_D: tl.constexpr):
    """One row: Σ_i sum_i·exp(peak_i − peak) / Σ_i total_i·exp(peak_i − peak)."""
    row = tl.program_id(0).to(tl.int64)
    d = tl.arange(0, BLOCK_D)
    width = value_depth + 2
    peak = tl.load(partial + row * width + value_depth)
    for split in range(1, SPLITS):
        peak = tl.maximum(peak, tl.load(partial + (split * rows + row) * width + value_depth))
    shift = tl.where(peak == float("-inf"), 0.0, peak)
    total = tl.zeros((BLOCK_D,), partial.dtype.element_ty)
    sum = tl.zeros((BLOCK_D,), partial.dtype.element_ty)
    for split in range(SPLITS):
        place = partial + (split * rows + row) * width
        kept = tl.exp(tl.load(place + value_depth) - shift)
        total += tl.load(place + value_depth + 1) * kept
        sum += tl.load(place + d, mask=d < value_depth, other=0) * kept
    sum = sum / (tl.where(total == 0, 1.0, total) if ZERO else total)
    tl.store(result + row * value_depth + d, sum.to(result.dtype.element_ty), mask=d < value_depth)


def attention(
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    mask: torch.Tensor | None = None,
    *,
    scale: float | None = None,
    causal: bool = False,
    softcap: float = 0.0,
    empty_rows: str = "zero",
    precision: str = "ieee",
    out: torch.Tensor | None = None,
    splits: int | None = None,
    block: int | None = None,
) -> torch.Tensor:
    """Attention over [B,H,L,E], [B,G,S,E], [B,G,S,D], a mask that broadcasts to [B,H,L,S]; contiguous [B,H,L,D].

    Any strides. `scale` is 1/√E unless given. `splits` cuts the keys (by default so that a block of queries at most
    still fills 132 programs), `block` the tiles. Raises ValueError for what `supports` declines.
    """
    reason = supports(query, key, value, mask)
    if reason:
        raise ValueError(reason)
    batch, heads, queries, depth = query.shape
    keys, value_depth = value.shape[-2:]
    shape = (batch, heads, queries, value_depth)
    y = torch.empty(shape, dtype=query.dtype, device=query.device) if out is None else out
    if not y.numel():
        return y
    block_e, block_d = (max(16, triton.next_power_of_2(n)) for n in (depth, value_depth))
    block_l = block or min(64, max(16, triton.next_power_of_2(queries)))
    block_s = block or min(64, max(16, triton.next_power_of_2(max(keys, 1))))
    down = triton.cdiv(queries, block_l)
    count = _splits(down * batch * heads, keys, block_s) if splits is None else splits
    wide = query.dtype == torch.float64
    partial = y
    if count > 1:
        kept = torch.float64 if wide else torch.float32
        partial = torch.empty((count, batch * heads * queries, value_depth + 2), dtype=kept, device=query.device)
    told = query if mask is None else mask.expand(batch, heads, queries, keys)
    attention_kernel[(down, batch * heads, count)](
        (query, *query.stride()),
        (key, *key.stride()),
        (value, *value.stride()),
        (told.view(torch.uint8) if told.dtype == torch.bool else told, *told.stride()),
        y,
        partial,
        heads,
        heads // key.shape[1],
        queries,
        keys,
        depth,
        value_depth,
        1 / math.sqrt(depth) if scale is None else scale,
        softcap,
        MASK=0 if mask is None else 1 if mask.dtype == torch.bool else 2,
        CAUSAL=causal,
        CAPPED=softcap > 0,
        ZERO=empty_rows == "zero",
        SPLITS=count,
        WIDE=wide,
        WIDEN=widens(query.dtype),
        PRECISION=precision,
        BLOCK_L=block_l,
        BLOCK_S=block_s,
        BLOCK_E=block_e,
        BLOCK_D=block_d,
        num_warps=8 if block_l * max(block_e, block_d) >= 4096 else 4,  # with 4, 64 × 64 spills on sm_90
    )
    if count > 1:
        rows, width = batch * heads * queries, triton.next_power_of_2(value_depth)
        zero = empty_rows == "zero"
        combine_kernel[(rows,)](y, partial, rows, value_depth, ZERO=zero, SPLITS=count, BLOCK_D=width)
    return y


def _splits(programs: int, keys: int, block: int) -> int:
    """Enough shares of the keys to fill a device of 132 processors, each of four blocks at least."""
    count = 1
    while programs * count * 2 <= 132 and keys >= count * 2 * 4 * block:
        count *= 2
    return count


def supports(
    query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, mask: torch.Tensor | None = None, **settings: object
) -> str | None:
    """Why not, or None."""
    if not query.is_floating_point() or {key.dtype, value.dtype} != {query.dtype}:
        return f"attention over {query.dtype}, {key.dtype} and {value.dtype}: one floating-point type"
    if any(x.dim() != 4 for x in (query, key, value)):
        return "ranks other than 4: batch, heads, length, depth"
    if not key.shape[1] or query.shape[1] % key.shape[1]:
        return f"{key.shape[1]} key heads do not divide {query.shape[1]} heads"
    if mask is not None and mask.dtype not in (torch.bool, query.dtype):
        return f"a mask of {mask.dtype}"
    deepest = max(query.shape[-1], value.shape[-1])
    return f"a depth of {deepest}: 256 at most" if deepest > 256 else None


def reference(
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    mask: torch.Tensor | None = None,
    *,
    scale: float | None = None,
    causal: bool = False,
    softcap: float = 0.0,
    empty_rows: str = "zero",
    **settings: Any,
) -> torch.Tensor:
    """In torch, the scores written out."""
    shared = query.shape[1] // key.shape[1]
    key, value = (x.repeat_interleave(shared, 1) for x in (key, value))
    scores = query @ key.mT * (1 / math.sqrt(query.shape[-1]) if scale is None else scale)
    if softcap:
        scores = torch.tanh(scores / softcap) * softcap
    if mask is not None:
        scores = scores.masked_fill(~mask, -torch.inf) if mask.dtype == torch.bool else scores + mask
    if causal:
        queries, keys = scores.shape[-2:]
        scores = scores.masked_fill(~torch.ones(queries, keys, dtype=torch.bool).tril(), -torch.inf)
    if empty_rows == "nan":
        return torch.softmax(scores, -1) @ value
    empty = (scores == -torch.inf).all(-1, keepdim=True)
    return torch.softmax(scores.masked_fill(empty, 0), -1).masked_fill(empty, 0) @ value


launch = attention

_QKV = ("f32[2,4,9,8]", "f32[2,4,20,8]", "f32[2,4,20,8]")
CASES = (
    case("several blocks", "f32[1,2,20,8]", "f32[1,2,37,8]", "f32[1,2,37,5]", block=16),
    case("causal", "f32[1,2,37,8]", "f32[1,2,37,8]", "f32[1,2,37,8]", causal=True, block=16),
    case("causal, more queries than keys", "f32[1,1,20,4]", "f32[1,1,7,4]", "f32[1,1,7,4]", causal=True, block=16),
    case("two query heads to a key head", "f32[1,4,5,8]", "f32[1,2,6,8]", "f32[1,2,6,8]"),
    case("a mask of bool, rows without keys among them", *_QKV, "bool[2,1,1,20]"),
    case("rows without keys as NaN", *_QKV, "bool[2,4,9,20]", empty_rows="nan", causal=True),
    case("an added mask", *_QKV, "f32[4,9,20]"),
    case("infinities in an added mask", *_QKV, operand("f32[2,1,9,20]", special=True)),
    case("soft cap and scale", *_QKV, softcap=2.0, scale=0.5),
    case("one token, keys split", "f32[1,2,1,16]", "f32[1,2,70,16]", "f32[1,2,70,16]", splits=3, block=16),
    case("a split whose keys are all hidden", *_QKV, "bool[2,4,9,20]", splits=2, block=16, causal=True),
    case("half precision", "f16[1,2,17,16]", "f16[1,2,19,16]", "f16[1,2,19,16]"),
    case("bfloat16", "bf16[1,2,5,16]", "bf16[1,2,7,16]", "bf16[1,2,7,16]", causal=True),
    case("double", "f64[1,1,3,4]", "f64[1,1,5,4]", "f64[1,1,5,4]"),
    case("strided", operand("f32[1,2,5,8]", "strided"), operand("f32[1,2,6,8]", "strided"), "f32[1,2,6,8]"),
    case("NaN and infinities", operand("f32[1,1,6,4]", special=True), "f32[1,1,5,4]", "f32[1,1,5,4]"),
    case("no keys", "f32[1,2,3,4]", "f32[1,2,0,4]", "f32[1,2,0,4]"),
    case("no queries", "f32[1,2,0,4]", "f32[1,2,3,4]", "f32[1,2,3,4]"),
    case("one element", "f32[1,1,1,1]", "f32[1,1,1,1]", "f32[1,1,1,1]"),
)


def _build(name: str, dtype: str, splits: int, mask: int, block_l: int) -> Build:
    # As a launch with contiguous operands of round extents is specialised.
    place = (f"*{dtype}:16", "i32:16", "i32:16", "i32:16", "1")
    sizes = {**dict.fromkeys(("heads", "shared"), "i32"), **dict.fromkeys(("queries", "keys"), "i32:16")}
    sizes |= dict.fromkeys(("depth", "value_depth"), "i32:16")
    told = ("*u8:16" if mask == 1 else f"*{dtype}:16", *place[1:])
    signature = {
        "query": place,
        "key": place,
        "value": place,
        "mask": told,
        "result": f"*{dtype}:16",
        "partial": "*fp32:16",
    }
    constants = {
        "MASK": mask,
        "CAUSAL": not mask,
        "CAPPED": False,
        "ZERO": True,
        "SPLITS": splits,
        "WIDE": False,
        "WIDEN": False,
    }
    blocks = {"BLOCK_L": block_l, "BLOCK_S": 64, "BLOCK_E": 64, "BLOCK_D": 64}
    signature |= {**sizes, "scale": "fp32", "softcap": "fp32"}
    constants |= {"PRECISION": "ieee", **blocks}
    return Build(f"attention, {name}", attention_kernel, signature, constants, warps=8 if block_l == 64 else 4)


BUILDS = (_build("causal", "bf16", 1, 0, 64), _build("one token, masked", "fp16", 4, 1, 16))
