"""Files of weights as large as wished, made in no time: sparse, each tensor with marks of its own.

Owns the layout of the model that big_model.py converts (an embedding, the largest tensor, and pairs of linear layers)
and the two kinds of file it lies in, safetensors and torch's own. Every tensor begins and ends with a number that no
other has: equal tensors might be written once. The marks survive a transposition. The rest is a hole.
"""

from __future__ import annotations

import json
import struct
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from torch import nn

WIDTH, INNER = 4096, 2048
_ITEM = 4  # bytes of an f32
_ALIGNMENT = 64


@dataclass(frozen=True)
class Layout:
    """The tensors of a model of about `size` bytes, by name."""

    size: int

    @property
    def vocabulary(self) -> int:
        """Rows of the embedding: an eighth of the model."""
        return max(16, self.size // 8 // (WIDTH * _ITEM))

    @property
    def pairs(self) -> int:
        """Pairs of linear layers: the rest of the model."""
        return max(1, (self.size - self.vocabulary * WIDTH * _ITEM) // (2 * WIDTH * INNER * _ITEM))

    def shapes(self) -> dict[str, tuple[int, int]]:
        """Every tensor's shape."""
        listed = {"embedding.weight": (self.vocabulary, WIDTH)}
        for i in range(self.pairs):
            listed[f"layers.{i}.widen.weight"] = (INNER, WIDTH)
            listed[f"layers.{i}.narrow.weight"] = (WIDTH, INNER)
        return listed

    @property
    def largest(self) -> int:
        """Bytes of the largest tensor."""
        return max(rows * columns * _ITEM for rows, columns in self.shapes().values())

    def marks(self) -> set[tuple[float, float]]:
        """The first and the last number of each tensor."""
        return {_mark(index) for index in range(len(self.shapes()))}


def _mark(index: int) -> tuple[float, float]:
    return (index + 1) * 2.0**-12, -(index + 1) * 2.0**-12


def write_safetensors(path: Path, layout: Layout) -> dict[str, int]:
    """Write the model as safetensors; returns where each tensor begins in the file, in bytes."""
    header: dict[str, Any] = {}
    end = 0
    for name, shape in layout.shapes().items():
        begin, end = end, end + shape[0] * shape[1] * _ITEM
        header[name] = {"dtype": "F32", "shape": list(shape), "data_offsets": [begin, end]}
    text = json.dumps(header).encode()
    text += b" " * (-(len(text) + 8) % _ALIGNMENT)
    start = len(text) + 8
    offsets = {name: start + about["data_offsets"][0] for name, about in header.items()}
    with path.open("wb") as file:
        file.write(struct.pack("<Q", len(text)) + text)
        file.truncate(start + end)
        for index, about in enumerate(header.values()):
            begin, end = about["data_offsets"]
            for mark, at in zip(_mark(index), (begin, end - _ITEM), strict=True):
                file.seek(start + at)
                file.write(np.float32(mark).tobytes())
    return offsets


def write_checkpoint(path: Path, layout: Layout) -> None:
    """Write the model as `torch.save` does, its tensors as holes with their marks."""
    from mmap import MAP_SHARED

    import torch

    module = meta_module(layout)
    state = {name: torch.empty_like(value, device="cpu") for name, value in module.state_dict().items()}
    with torch.serialization.skip_data():
        torch.save(state, path)
    with torch.serialization.set_default_mmap_options(MAP_SHARED):
        mapped = torch.load(path, mmap=True, weights_only=True)
    for index, value in enumerate(mapped.values()):
        value.view(-1)[0], value.view(-1)[-1] = _mark(index)


def meta_module(layout: Layout) -> nn.Module:
    """The model without memory for its weights."""
    import torch
    from torch import nn

    class Pair(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.widen = nn.Linear(WIDTH, INNER, bias=False)
            self.narrow = nn.Linear(INNER, WIDTH, bias=False)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return x + self.narrow(torch.relu(self.widen(x)))

    class Big(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.embedding = nn.Embedding(layout.vocabulary, WIDTH)
            self.layers = nn.ModuleList(Pair() for _ in range(layout.pairs))

        def forward(self, ids: torch.Tensor) -> torch.Tensor:
            x = self.embedding(ids)
            for layer in self.layers:
                x = layer(x)
            return x

    with torch.device("meta"):
        return Big().eval()


def written_marks(path: Path) -> Iterator[tuple[float, float]]:
    """The first and the last number of each large initializer of an ONNX file with external data."""
    import onnx

    for tensor in onnx.load(path, load_external_data=False).graph.initializer:
        place = {entry.key: entry.value for entry in tensor.external_data}
        if not place or len(tensor.dims) != 2:
            continue
        begin, length = int(place.get("offset", 0)), int(place["length"])
        with path.with_name(place["location"]).open("rb") as file:
            found: list[float] = []
            for at in (begin, begin + length - _ITEM):
                file.seek(at)
                found.append(struct.unpack("<f", file.read(_ITEM))[0])
        yield found[0], found[1]
