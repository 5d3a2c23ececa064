"""The source as PyTorch runs it, operator by operator."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from dragoman.bench.target import Array, Loaded, Target, Task


class TorchEager(Target):
    """`module(*args)` without gradients, on the GPU where there is one."""

    name = "torch"
    needs = ("torch",)
    install = "'dragoman[torch]'"
    kinds = ("module", "exported")
    as_is = True

    def load(self, task: Task) -> Loaded:
        """The module and its arguments, both in the task's precision."""
        module, args, kwargs = call_of(task)
        return Loaded(timed(module, args, kwargs), arrays, device_bytes=peak_on_device)


def call_of(task: Task) -> tuple[Any, tuple[Any, ...], dict[str, Any]]:
    """The module of a source, with the task's arrays in place of its example arguments."""
    import torch
    from torch.utils import _pytree as pytree

    from dragoman.bench.reading import located
    from dragoman.frontends.pytorch.names import input_leaves
    from dragoman.frontends.pytorch.weights import from_numpy

    torch.set_num_threads(task.threads)
    found = located(task.source, task.trust)
    exported = found.kind == "exported"
    module = found.what.module() if exported else found.what
    args, kwargs = found.what.example_inputs if exported else (found.args, dict(found.kwargs))
    given = {name: from_numpy(array) for name, array in task.arrays().items()}
    if not args and not kwargs:
        args, kwargs = (), given
    leaves = input_leaves(module.forward, args, kwargs)
    flat = [given.get(name, leaf) for name, leaf in leaves]
    args, kwargs = pytree.tree_unflatten(flat, pytree.tree_flatten((tuple(args), dict(kwargs)))[1])
    dtype = {"f32": torch.float32, "f16": torch.float16, "bf16": torch.bfloat16}[task.precision]
    device = "cuda" if torch.cuda.is_available() else "cpu"

    def placed(x: Any) -> Any:
        narrow = dtype is not torch.float32 and isinstance(x, torch.Tensor) and x.is_floating_point()
        return x.to(device, dtype if narrow else None) if isinstance(x, torch.Tensor) else x

    module = module.to(device) if task.precision == "f32" else module.to(device, dtype)
    return module, *pytree.tree_map(placed, (args, kwargs))


def timed(module: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Callable[[], Any]:
    """One call, complete on the device when it returns."""
    import torch

    def run() -> Any:
        with torch.inference_mode():
            result = module(*args, **kwargs)
            if torch.cuda.is_available():
                torch.cuda.synchronize()
        return result

    return run


def arrays(result: Any) -> Sequence[Array]:
    """The tensors of a result in order; bf16 widened, as NumPy has none."""
    from torch.utils import _pytree as pytree

    from dragoman.frontends.pytorch.weights import to_numpy

    return [to_numpy(x.detach().cpu()) for x in pytree.tree_leaves(result) if hasattr(x, "detach")]


def peak_on_device() -> int:
    """Bytes that torch held on the GPU at most."""
    import torch

    return torch.cuda.max_memory_allocated() if torch.cuda.is_available() else 0


TARGET = TorchEager()
