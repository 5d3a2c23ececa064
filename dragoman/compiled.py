"""Models as Triton kernels in this process: `Model.compile`, and `torch.compile(module, backend="dragoman")`.

Both write a folder aside, import it, and remove it with the process. Calls that want gradients are refused.
"""

from __future__ import annotations

import atexit
import importlib.util
import shutil
import sys
import tempfile
from collections.abc import Callable, Sequence
from itertools import count
from pathlib import Path
from typing import TYPE_CHECKING, Any

from dragoman.ir.errors import Unsupported, UsageError

if TYPE_CHECKING:
    from dragoman.ir.graph import Graph

_numbers = count()


def compile_graph(graph: Graph, *, pure: bool = False) -> Any:
    """The graph as a callable on torch tensors, NumPy arrays or what speaks DLPack. Raises UsageError, EmitRefused."""
    from dragoman.backends.triton import save

    check_runs()
    folder = Path(tempfile.mkdtemp(prefix="dragoman."))
    atexit.register(
        shutil.rmtree, folder, ignore_errors=True
    )  # Triton reads the source of a kernel when it is first launched
    name = f"dragoman_kernels_{next(_numbers)}"
    save(graph, folder / name, pure=pure)
    place = folder / name
    spec = importlib.util.spec_from_file_location(name, place / "__init__.py", submodule_search_locations=[str(place)])
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    spec.loader.exec_module(module)
    return module.model


def check_runs() -> None:
    """Raise UsageError, saying what to do, where kernels can neither run on a device nor be interpreted."""
    try:
        import torch
        from triton import knobs
    except ImportError as error:
        raise UsageError(f"Triton kernels need torch and triton: install dragoman[triton] ({error})") from None
    if not torch.cuda.is_available() and not knobs.runtime.interpret:
        raise UsageError(
            "there is no GPU: set TRITON_INTERPRET=1 before Triton is imported to run kernels, slowly, here"
        )


# ---- as a backend of torch.compile ----------------------------------------------------------------------


def dynamo_backend(module: Any, examples: Sequence[Any]) -> Callable[..., Any]:
    """What `torch.compile` calls with a graph that it has traced; kernels are made when a shape is first met."""
    import torch

    check_runs()
    made: dict[Any, Any] = {}

    def key(x: Any) -> Any:
        if not isinstance(x, torch.Tensor):
            return x
        fixed = (x.data_ptr(), x._version) if isinstance(x, torch.nn.Parameter) else ()
        return tuple(x.shape), x.dtype, *fixed

    @torch.compiler.disable
    def run(*given: Any) -> Any:
        wants = torch.is_grad_enabled() and any(isinstance(x, torch.Tensor) and x.requires_grad for x in given)
        if wants:
            raise UsageError("kernels have no gradients: call the compiled model under torch.no_grad()")
        signature = tuple(key(x) for x in given)
        if signature not in made:
            made[signature] = _specialised(module, given)
        return made[signature](given)

    return run


def _specialised(module: Any, given: Sequence[Any]) -> Callable[[Sequence[Any]], Any]:
    """Kernels for these shapes; parameters are constants of the model, numbers are fixed."""
    import torch

    from dragoman.model import load

    free = [k for k, x in enumerate(given) if isinstance(x, torch.Tensor) and not isinstance(x, torch.nn.Parameter)]
    (output,) = [node for node in module.graph.nodes if node.op == "output"]
    results = list(output.args[0])
    tensors = [k for k, r in enumerate(results) if isinstance(r, torch.fx.Node) and _is_tensor(r)]

    class Bound(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.inner = module
            kept = {k: x for k, x in enumerate(given) if isinstance(x, torch.nn.Parameter)}
            self.kept = torch.nn.ParameterList(kept.values())
            self.places = list(kept)

        def forward(self, *args: Any) -> Any:
            whole = list(given)
            for place, x in zip(self.places, self.kept, strict=True):
                whole[place] = x
            for place, x in zip(free, args, strict=True):
                whole[place] = x
            found = self.inner(*whole)
            return tuple(found[k] for k in tensors)

    model = load(Bound().eval(), tuple(given[k].detach() for k in free))
    model.optimise()
    if len(model.graph.outputs) != len(tensors) or len(model.graph.inputs) != len(free):
        raise Unsupported("a module that changes its inputs or buffers: torch.compile with Dragoman takes pure ones")
    if len(tensors) != len(results):
        raise Unsupported("a module whose traced part returns numbers: torch.compile with Dragoman takes tensors only")
    kernels = compile_graph(model.graph)
    return lambda args: tuple(kernels.run([args[k] for k in free]))


def _is_tensor(node: Any) -> bool:
    import torch

    return isinstance(node.meta.get("example_value", node.meta.get("val")), torch.Tensor)
