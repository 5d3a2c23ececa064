"""Sizes to trace with: torch takes a size of 0 or 1, and two symbols of one size, for a fact about the model."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from dragoman.frontends.dynamic import Leaf, Spec
from dragoman.ir.dims import DimExpr, substitute

_SIZES = (2, 3, 5, 7, 11, 13, 17, 19, 23, 29, 31)


def tracing_sizes(spec: Spec, example: Mapping[str, int], inputs: Sequence[Leaf], *, apart: bool) -> dict[str, int]:
    """Sizes to trace with: the example's, but none below 2; with `apart`, also all different from each other and
    static sizes.
    """
    static = {
        int(extent)
        for name, leaf in inputs
        if isinstance(leaf, Tensor)
        for axis, extent in enumerate(leaf.shape)
        if axis not in spec.dims.get(name, {})
    }
    chosen: dict[str, int] = {}
    for name, size in example.items():
        symbol = spec.symbols[name]
        taken = static | set(chosen.values()) if apart else set[int]()
        if symbol.low <= size <= symbol.high and size >= 2 and size not in taken:
            chosen[name] = size
            continue
        fits = [n for n in (*_SIZES, symbol.low) if max(symbol.low, 2) <= n <= symbol.high]
        chosen[name] = next((n for n in fits if n not in static | set(chosen.values())), fits[-1] if fits else size)
    return chosen


def resized(leaf: Any, dims: Mapping[int, DimExpr], sizes: Mapping[str, int]) -> Any:
    """A tensor to trace with in place of the example: of the chosen sizes, its values of no interest."""
    if not isinstance(leaf, Tensor) or not dims:
        return leaf
    shape = list(leaf.shape)
    for axis, dim in dims.items():
        extent = substitute(dim, sizes)
        assert isinstance(extent, int)
        shape[axis] = extent
    if shape == list(leaf.shape):
        return leaf
    return torch.zeros(shape, dtype=leaf.dtype, device=leaf.device)
