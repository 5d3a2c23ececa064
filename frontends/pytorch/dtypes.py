"""Element types of PyTorch and of the IR, one to one; refuses quantised and other types that the IR does not have."""

from __future__ import annotations

import torch

from dragoman.ir import types as ir
from dragoman.ir.errors import Unsupported
from dragoman.ir.types import DType

_FROM_TORCH: dict[torch.dtype, DType] = {
    torch.bool: ir.BOOL,
    torch.int8: ir.I8,
    torch.int16: ir.I16,
    torch.int32: ir.I32,
    torch.int64: ir.I64,
    torch.uint8: ir.U8,
    torch.uint16: ir.U16,
    torch.uint32: ir.U32,
    torch.uint64: ir.U64,
    torch.float8_e4m3fn: ir.F8E4M3FN,
    torch.float8_e5m2: ir.F8E5M2,
    torch.float16: ir.F16,
    torch.bfloat16: ir.BF16,
    torch.float32: ir.F32,
    torch.float64: ir.F64,
    torch.complex64: ir.C64,
    torch.complex128: ir.C128,
}
_TO_TORCH = {ours: theirs for theirs, ours in _FROM_TORCH.items()}


def from_torch(dtype: torch.dtype) -> DType:
    """The IR's name for an element type of torch. Raises Unsupported for one that the IR does not have."""
    found = _FROM_TORCH.get(dtype)
    if found is None:
        raise Unsupported(f"{dtype} is not an element type of the IR; those are {', '.join(map(str, _TO_TORCH))}")
    return found


def to_torch(dtype: DType) -> torch.dtype:
    """torch's name for an element type of the IR. Raises Unsupported for one that torch does not have."""
    found = _TO_TORCH.get(dtype)
    if found is None:
        raise Unsupported(f"torch has no element type {dtype}")
    return found
