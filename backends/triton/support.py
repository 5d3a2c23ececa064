"""What a generated model runs on: weights, sizes, memory, the launches of templates. Needs torch and triton only.

This file is copied beside the generated ones. Inputs may be torch tensors, NumPy arrays, or what speaks DLPack (JAX);
results are torch tensors of their own memory. A size that the model was not made for raises ValueError.
"""

# Triton's stubs know no tuples, hooks or numbers as arguments; what a folder's graph holds is known only there.
# pyright: reportArgumentType=false, reportCallIssue=false, reportUnknownMemberType=false, reportMissingTypeStubs=false
from __future__ import annotations

import json
import mmap
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
import triton

from dragoman.backends.triton.memory import lay_out
from dragoman.kernels.attention import attention
from dragoman.kernels.conv import windows
from dragoman.kernels.matmul import load_matrix, source
from dragoman.kernels.matmul import product as launch_product
from dragoman.kernels.rows import over_rows

_BLOCK = 1024  # elements of a pointwise program: 8 a thread of 4 warps, two 16-byte loads in half precision
_KEPT = 8  # plans of sizes that are remembered
_SAFE = {"F16": "float16", "BF16": "bfloat16", "F32": "float32", "F64": "float64", "BOOL": "bool"} | {
    f"{kind[0].upper()}{bits}": f"{kind}{bits}" for kind in ("int", "uint") for bits in (8, 16, 32, 64)
}


class Model:
    """A model that was generated. Call it with its inputs in order; `info` is the manifest.

    Calls share one arena for each set of sizes: one at a time, on one stream.
    """

    def __init__(self, folder: str | Path, graph: Any, device: str | torch.device | None = None) -> None:
        self.info: dict[str, Any] = json.loads((Path(folder) / "manifest.json").read_text(encoding="utf-8"))
        self.graph = graph
        self.device = torch.device(device or ("cuda" if torch.cuda.is_available() else "cpu"))
        self.weights = load_weights(Path(folder) / "weights.safetensors", self.info["weights"], self.device)
        self._plans: dict[tuple[int, ...], tuple[torch.Tensor, list[Any]]] = {}

    def to(self, device: str | torch.device) -> Model:
        """Move weights to a device; returns the model."""
        self.device = torch.device(device)
        self.weights = [w.to(self.device) for w in self.weights]
        self._plans.clear()
        return self

    def __call__(self, *inputs: Any) -> Any:
        """One tensor, or a tuple of them. Raises TypeError and ValueError for inputs that do not fit."""
        outputs = self.run(inputs)
        return outputs[0] if len(outputs) == 1 else tuple(outputs)

    def run(self, inputs: Sequence[Any]) -> list[torch.Tensor]:
        """All outputs, in order."""
        given = self._checked(inputs)
        sizes = self._sizes([tuple(x.shape) for x in given])
        buffers = self._buffers(sizes)
        return list(self.graph.run(self.weights, buffers, self.device, *given, *sizes))

    def capture(self, *examples: Any) -> Replay:
        """The launches for inputs of these sizes as one CUDA graph. Raises RuntimeError without a CUDA device."""
        if self.device.type != "cuda":
            raise RuntimeError("launches are captured on a CUDA device only")
        return Replay(self, self._checked(examples))

    # ---- inputs ----------------------------------------------------------------------------------------

    def _checked(self, inputs: Sequence[Any]) -> list[torch.Tensor]:
        declared = self.info["inputs"]
        if len(inputs) != len(declared):
            raise TypeError(f"the model takes {len(declared)} inputs, got {len(inputs)}")
        given: list[torch.Tensor] = []
        for x, told in zip(inputs, declared, strict=True):
            tensor = as_tensor(x).detach()
            if str(tensor.dtype) != f"torch.{told['dtype']}" or tensor.dim() != told["rank"]:
                text = f"{tensor.dtype} of rank {tensor.dim()}"
                raise TypeError(f"{told['name']!r} should be {told['type']}, got {text}")
            given.append(tensor.to(self.device).contiguous())
        return given

    def _sizes(self, shapes: list[tuple[int, ...]]) -> tuple[int, ...]:
        sizes = tuple(self.graph.sizes(*shapes))
        for size, told in zip(sizes, self.info["symbols"], strict=True):
            if not told["low"] <= size <= told["high"]:
                raise ValueError(f"{told['name']} = {size} is outside its range {told['low']}..{told['high']}")
        for shape, wanted, told in zip(shapes, self.graph.shapes(*sizes), self.info["inputs"], strict=True):
            if shape != tuple(wanted):
                raise ValueError(f"{told['name']!r} should be {told['type']}, here {list(wanted)}, got {list(shape)}")
        return sizes

    # ---- memory ----------------------------------------------------------------------------------------

    def _buffers(self, sizes: tuple[int, ...]) -> list[torch.Tensor]:
        """Views of one arena, laid out once for each set of sizes; results get memory of their own."""
        found = self._plans.pop(sizes, None)
        if found is None:
            wanted = list(self.graph.buffers(*sizes))
            offsets, peak = lay_out([(count_bytes(s, d), born, dies) for s, d, born, dies in wanted])
            arena = torch.empty(peak, dtype=torch.uint8, device=self.device)
            views = [
                None if at is None else view(arena, at, s, d) for at, (s, d, _, _) in zip(offsets, wanted, strict=True)
            ]
            found = arena, list(zip(views, wanted, strict=True))
            if len(self._plans) >= _KEPT:
                self._plans.pop(next(iter(self._plans)))
        self._plans[sizes] = found
        made = found[1]
        return [torch.empty(w[0], dtype=w[1], device=self.device) if v is None else v for v, w in made]


class Replay:
    """A captured run: call it with inputs of the same sizes. Results are overwritten by the next call."""

    def __init__(self, model: Model, inputs: list[torch.Tensor]) -> None:
        self._inputs = [x.clone() for x in inputs]
        stream = torch.cuda.Stream()
        stream.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(stream):  # compiles every kernel before anything is recorded
            for _ in range(2):
                model.run(self._inputs)
        torch.cuda.current_stream().wait_stream(stream)
        self._graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(self._graph):
            self._outputs = model.run(self._inputs)

    def __call__(self, *inputs: torch.Tensor) -> Any:
        """One tensor, or a tuple of them. Raises ValueError for other sizes."""
        for held, x in zip(self._inputs, inputs, strict=True):
            if held.shape != x.shape or held.dtype != x.dtype:
                raise ValueError(f"captured for {held.dtype}{list(held.shape)}, got {x.dtype}{list(x.shape)}")
            held.copy_(x)
        self._graph.replay()
        return self._outputs[0] if len(self._outputs) == 1 else tuple(self._outputs)


def as_tensor(x: Any) -> torch.Tensor:
    """A tensor that looks at the same memory where it can."""
    if isinstance(x, torch.Tensor):
        return x
    if type(x).__module__.partition(".")[0] != "numpy" and hasattr(x, "__dlpack__"):
        return torch.from_dlpack(x)
    if getattr(getattr(x, "dtype", None), "name", "") == "bfloat16":
        return torch.from_numpy(x.view("uint16").copy()).view(torch.bfloat16)
    return torch.as_tensor(x.copy() if hasattr(x, "flags") and not x.flags.writeable else x)


def count_bytes(shape: Sequence[int], dtype: torch.dtype) -> int:
    """Bytes of a contiguous tensor."""
    total = dtype.itemsize
    for extent in shape:
        total *= extent
    return total


def view(arena: torch.Tensor, at: int, shape: Sequence[int], dtype: torch.dtype) -> torch.Tensor:
    """A tensor within an arena."""
    return arena[at : at + count_bytes(shape, dtype)].view(dtype).view(tuple(shape))


def load_weights(path: Path, wanted: Sequence[dict[str, Any]], device: torch.device) -> list[torch.Tensor]:
    """Weights of a safetensors file in the order of the manifest, mapped and then brought to the device."""
    with path.open("rb") as file:
        data = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_COPY)
    length = int.from_bytes(data[:8], "little")
    header = json.loads(data[8 : 8 + length])
    found: list[torch.Tensor] = []
    for told in wanted:
        entry = header[told["key"]]
        start, end = entry["data_offsets"]
        dtype = getattr(torch, _SAFE[entry["dtype"]])
        shape = entry["shape"]
        if end == start:
            weight = torch.empty(shape, dtype=dtype)
        else:
            weight = torch.frombuffer(
                data, dtype=dtype, count=(end - start) // dtype.itemsize, offset=8 + length + start
            )
        weight = weight.view(shape).to(device)
        found.append(weight.movedim(-1, 1) if told["packed"] else weight)
    return found


# ---- launches -------------------------------------------------------------------------------------------


def pointwise(kernel: Any, out: torch.Tensor, *given: Any) -> None:
    """A generated kernel over all elements of `out`."""
    count = out.numel()
    if count:
        kernel[(triton.cdiv(count, _BLOCK),)](out, *given, count, BLOCK=_BLOCK)


def rows(kernel: Any, sources: Any, sinks: Any, extents: tuple[int, int], *numbers: float, **constants: Any) -> None:
    """A kernel over rows, unless there is none."""
    if extents[0] and sinks[0].numel():
        over_rows(kernel, sources, sinks, extents, *numbers, **constants)


def product(left: torch.Tensor, right: torch.Tensor, out: torch.Tensor, sinks: Any, store: Any) -> None:
    """A product of stacks of matrices with a generated STORE hook."""
    if not out.numel():
        return
    lead = torch.broadcast_shapes(left.shape[:-2], right.shape[:-2])
    extents = (lead.numel(), left.shape[-2], right.shape[-1], left.shape[-1])
    hooks = (load_matrix, load_matrix, store)
    launch_product(source(left, lead), source(right, lead), sinks, extents, hooks, left)


def convolution(
    x: torch.Tensor,
    weight: torch.Tensor,
    out: torch.Tensor,
    places: tuple[int, ...],
    window: Any,
    groups: int,
    layout: str,
    sinks: Any,
    store: Any,
) -> None:
    """A convolution with a generated STORE hook."""
    if out.numel():
        windows(x, weight, places, window, groups, layout, (sinks, store))


def attend(
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    mask: torch.Tensor | None,
    out: torch.Tensor,
    **settings: Any,
) -> None:
    """Attention into `out`."""
    attention(query, key, value, mask, **settings, out=out)


# ---- calls of torch -------------------------------------------------------------------------------------


def argmax(x: torch.Tensor, axis: int, keepdims: bool, last: bool) -> torch.Tensor:
    """The place of the first or last largest element; NaN counts as largest."""
    return _place(torch.argmax, x, axis, keepdims, last)


def argmin(x: torch.Tensor, axis: int, keepdims: bool, last: bool) -> torch.Tensor:
    """The place of the first or last smallest element; NaN counts as smallest."""
    return _place(torch.argmin, x, axis, keepdims, last)


def _place(function: Any, x: torch.Tensor, axis: int, keepdims: bool, last: bool) -> torch.Tensor:
    x = x.float() if x.dtype in (torch.float16, torch.bfloat16) else x
    return x.shape[axis] - 1 - function(x.flip(axis), axis, keepdims) if last else function(x, axis, keepdims)


def running(function: Any, x: torch.Tensor, axis: int, exclusive: bool, reverse: bool) -> torch.Tensor:
    """Running sums or products; `exclusive` leaves the element itself out."""
    x = x.flip(axis) if reverse else x
    y = function(x, axis, dtype=x.dtype)
    if exclusive and x.shape[axis]:
        first = torch.full_like(y.narrow(axis, 0, 1), 1 if function is torch.cumprod else 0)
        y = torch.cat([first, y.narrow(axis, 0, y.shape[axis] - 1)], axis)
    return y.flip(axis) if reverse else y


def best(x: torch.Tensor, k: int, axis: int, largest: bool) -> tuple[torch.Tensor, torch.Tensor]:
    """The first k of a stable sort, and where they were."""
    values, places = torch.sort(x, dim=axis, descending=largest, stable=True)
    return values.narrow(axis, 0, k).contiguous(), places.narrow(axis, 0, k).contiguous()


_REDUCTIONS = {"add": "sum", "mul": "prod", "max": "amax", "min": "amin"}


def scatter(x: torch.Tensor, at: torch.Tensor, updates: torch.Tensor, axis: int, reduction: str) -> torch.Tensor:
    """x with updates written, or combined, at an index for each; later ones win."""
    at = torch.where(at < 0, at + x.shape[axis], at).long()
    if reduction == "none":
        mesh = list(torch.meshgrid(*(torch.arange(n, device=x.device) for n in at.shape), indexing="ij"))
        mesh[axis] = at
        return x.index_put(mesh, updates)
    return x.scatter_reduce(axis, at, updates, _REDUCTIONS[reduction])


def scatter_at(x: torch.Tensor, at: torch.Tensor, updates: torch.Tensor, reduction: str) -> torch.Tensor:
    """x with updates written, or combined, at the places that the rows of `at` name; later ones win."""
    if not x.numel() or not updates.numel():
        return x.clone()
    depth = at.shape[-1]
    extents = torch.tensor(x.shape[:depth], device=x.device)
    at = torch.where(at < 0, at + extents, at).long()
    strides = [x.shape[:depth][k + 1 :].numel() for k in range(depth)]
    rows = (at * torch.tensor(strides, device=x.device)).sum(-1).reshape(-1)
    flat = x.reshape(x.shape[:depth].numel(), -1)
    values = updates.reshape(rows.numel(), -1)
    if reduction == "none":
        return flat.index_put((rows,), values).view(x.shape)
    return flat.scatter_reduce(0, rows[:, None].expand_as(values), values, _REDUCTIONS[reduction]).view(x.shape)
