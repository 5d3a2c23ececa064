"""How kernels over rows meet memory: hooks that load and store a tile, and how rows are cut into tiles.

Such a kernel sees a matrix of `rows` × `cols`; where its elements lie is for its hooks to know:

    LOAD(row, col, mask, sources) -> tile          row: [R,1]  col: [1,C]  mask: [R,C]
    STORE(tile, row, col, mask, sinks)

`sources` and `sinks` are tuples of pointers and numbers. The hooks here serve one axis of a contiguous tensor of which
`inner` elements follow each step of the axis; a compiler writes others, with whole expressions in them.
"""

# Parameters of device code are Triton's to type, and its stubs know no tuples, hooks or numbers as arguments.
# pyright: reportMissingParameterType=false, reportArgumentType=false, reportCallIssue=false
# pyright: reportOperatorIssue=false, reportAssignmentType=false
from __future__ import annotations

from typing import Any

import torch
import triton
import triton.language as tl

ONE_TILE = 16384  # columns up to which a row stays in registers: 64 KiB of f32 over 16 warps is 32 registers a thread


@triton.jit
def load_axis(row, col, mask, sources):  # noqa: D103
    x, inner, extent = sources
    place = (row // inner) * (inner * extent) + row % inner + col * inner
    value = tl.load(x + place, mask=mask, other=0)
    return value if value.dtype == tl.float64 else value.to(tl.float32)


@triton.jit
def store_axis(value, row, col, mask, sinks):  # noqa: D103
    y, inner, extent = sinks
    place = (row // inner) * (inner * extent) + row % inner + col * inner
    tl.store(y + place, value.to(y.dtype.element_ty), mask=mask)


@triton.jit
def store_row(value, row, mask, sinks):  # noqa: D103
    tl.store(sinks[0] + row, value.to(sinks[0].dtype.element_ty), mask=mask)


def tiles(rows: int, cols: int) -> dict[str, Any]:
    """How many rows and columns a program holds at once, and its warps.

    About 4096 elements a program: at 4 warps 32 a thread, enough loads in flight to reach the bandwidth of an H100.
    """
    block = min(triton.next_power_of_2(max(cols, 1)), ONE_TILE)
    together = max(1, min(4096 // block, triton.next_power_of_2(max(rows, 1))))
    warps = 4 if block * together <= 4096 else 8 if block <= 8192 else 16
    return {"ROWS": together, "BLOCK": block, "WHOLE": cols <= block, "num_warps": warps}


def over_rows(
    kernel: Any,
    sources: tuple[Any, ...],
    sinks: tuple[Any, ...],
    extents: tuple[int, int],
    *numbers: float,
    block: int | None = None,
    **constants: Any,
) -> None:
    """Launch a kernel over rows: `extents` are rows and columns, `numbers` what it takes after them, `constants` its
    hooks and kinds. `block` bounds the columns that a program holds at once.
    """
    rows, cols = extents
    tile = tiles(rows, cols)
    if block is not None:
        tile |= {"BLOCK": block, "WHOLE": cols <= block}
    kernel[(triton.cdiv(rows, tile["ROWS"]),)](sources, sinks, rows, cols, *numbers, **constants, **tile)


def split(x: torch.Tensor, axis: int) -> tuple[torch.Tensor, int, int, int]:
    """The tensor made contiguous, how many rows lie along `axis`, their length, and the elements between two steps."""
    x = x.contiguous()
    axis %= x.dim()
    cols = x.shape[axis]
    inner = 1
    for extent in x.shape[axis + 1 :]:
        inner *= extent
    return x, (x.numel() // cols if cols else 0), cols, inner
