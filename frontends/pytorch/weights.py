"""Parameters, buffers and constants of a module as weights of the IR: views of torch's own memory, never copies.

Refuses tensors without values (meta), sparse and quantised ones.
"""

from __future__ import annotations

from typing import Any

import ml_dtypes
import numpy as np
import torch
from torch import Tensor

from dragoman.frontends.pytorch.dtypes import from_torch
from dragoman.ir.errors import Malformed, Unsupported
from dragoman.ir.weights import FrameworkWeight

# Types that NumPy lacks cross as integers of the same width.
_CARRIERS: dict[torch.dtype, tuple[torch.dtype, Any]] = {
    torch.bfloat16: (torch.int16, ml_dtypes.bfloat16),
    torch.float8_e4m3fn: (torch.uint8, ml_dtypes.float8_e4m3fn),
    torch.float8_e5m2: (torch.uint8, ml_dtypes.float8_e5m2),
}


def weight_of(name: str, tensor: Tensor) -> FrameworkWeight:
    """A tensor as a weight. Nothing is read until `array()` is called."""
    if tensor.is_meta:
        raise Malformed(f"the weight {name!r} is on the meta device: it has no values to convert")
    if tensor.layout != torch.strided or tensor.is_quantized:
        raise Unsupported(f"the weight {name!r} is {tensor.layout}, {tensor.dtype}; only dense weights are supported")
    return FrameworkWeight(from_torch(tensor.dtype), tuple(tensor.shape), lambda: to_numpy(tensor))


def to_numpy(tensor: Tensor) -> np.ndarray[Any, np.dtype[Any]]:
    """A tensor as a NumPy array that shares its memory when it is on the CPU."""
    plain = tensor.detach().resolve_conj().resolve_neg()
    plain = plain if plain.device.type == "cpu" else plain.cpu()
    carrier = _CARRIERS.get(plain.dtype)
    if carrier is None:
        return plain.numpy()
    return plain.view(carrier[0]).numpy().view(carrier[1])


def from_numpy(array: np.ndarray[Any, np.dtype[Any]]) -> Tensor:
    """A NumPy array as a torch tensor of its own memory."""
    for torch_type, (carrier, numpy_type) in _CARRIERS.items():
        if array.dtype == numpy_type:
            bits = np.ascontiguousarray(array).view(f"i{array.itemsize}" if array.itemsize > 1 else "u1")
            return torch.from_numpy(bits.copy()).to(carrier).view(torch_type)
    return torch.from_numpy(np.array(array))
