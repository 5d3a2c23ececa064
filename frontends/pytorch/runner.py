"""Runs the source model on NumPy arrays: in its own precision, or with every real number in float64 as an oracle.

The doubled copy of the weights is made when it is first asked for and given up by `release()`. In double, dtypes that
the model writes down (`.to(torch.float32)`, `torch.zeros(…, dtype=torch.float16)`) count as float64 too, so that
nothing is rounded on the way.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Generator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode
from torch.utils import _pytree as pytree
from torch.utils._python_dispatch import TorchDispatchMode

from dragoman.frontends.pytorch.dtypes import to_torch
from dragoman.frontends.pytorch.names import Leaf
from dragoman.frontends.pytorch.untouched import untouched
from dragoman.frontends.pytorch.weights import from_numpy, to_numpy
from dragoman.ir.errors import UsageError
from dragoman.ir.graph import Graph, Value
from dragoman.ir.types import DType

if TYPE_CHECKING:
    from dragoman.frontends.pytorch.probe import ProgramProbe

Array = np.ndarray[Any, np.dtype[Any]]

_NARROW = (torch.float16, torch.bfloat16, torch.float32)
_COMPLEX = (torch.complex32, torch.complex64)


class SourceRunner:
    """A module with the arguments of its call. Inputs come in the order of the graph's inputs, outputs in that of its
    outputs.
    """

    def __init__(
        self,
        module: torch.nn.Module,
        args: Sequence[Any],
        kwargs: Mapping[str, Any],
        inputs: Sequence[Leaf],
        input_names: Sequence[str],
        buffers: Sequence[str] = (),
        changed: Sequence[str] = (),
        name: str = "PyTorch",
        look: Callable[[], ProgramProbe] | None = None,
    ) -> None:
        self.name = name
        self._look = look  # how to look inside, when verification asks for it
        self._probe: ProgramProbe | None = None
        self._module = module
        self._structure = pytree.tree_flatten((tuple(args), dict(kwargs)))[1]
        self._inputs = list(inputs)
        self._input_names = list(input_names)
        self._buffers = list(buffers)  # states: buffers that come as inputs and go as outputs
        self._changed = list(changed)  # inputs that the model writes to, and that go as outputs too
        self._doubled: dict[str, Tensor] | None = None
        self._cast: torch.dtype | None = None  # what f32 is cast to
        self._casted: dict[str, Tensor] | None = None

    def cast(self, dtype: DType) -> SourceRunner:
        """The model cast to another precision, as `module.to(dtype)` does: f32 parameters, buffers and inputs. What it
        gives is in that precision; a dtype that the model writes down itself stays. Holds the cast weights.
        """
        other = copy.copy(self)
        other._cast, other._doubled, other._look = to_torch(dtype), None, None
        other.name = f"{self.name} in {dtype}"
        return other

    def examples(self) -> list[Array]:
        """The arguments that the model was traced with, in the order of the graph's inputs."""
        state = {**dict(self._module.named_buffers()), **dict(self._module.named_parameters())}
        known = {n: x for n, x in self._inputs if isinstance(x, Tensor)}
        return [to_numpy((state[n] if n in self._buffers else known[n]).detach()) for n in self._input_names]

    def run(self, inputs: Sequence[Array], double: bool = False) -> list[Array]:
        """The outputs for these inputs. Floating-point inputs are widened in double; integers and booleans never
        change.
        """
        given = {n: from_numpy(np.asarray(x)) for n, x in zip(self._input_names, inputs, strict=True)}
        if double:
            given = {n: wide(x) for n, x in given.items()}
        else:
            given = {n: self._narrowed(n, x) for n, x in given.items()}
        leaves = [given.get(name, leaf) if isinstance(leaf, Tensor) else leaf for name, leaf in self._inputs]
        args, kwargs = pytree.tree_unflatten(leaves, self._structure)
        state = dict(self._weights(double))
        state.update({name: given[name].clone() for name in self._buffers})
        with torch.no_grad(), untouched(self._module), precision(double):
            result = (
                torch.func.functional_call(self._module, state, args, kwargs)
                if state
                else self._module(*args, **kwargs)
            )
        outputs = [*pytree.tree_leaves(result), *(state[n] for n in self._buffers), *(given[n] for n in self._changed)]
        return [_array(x) for x in outputs if x is not None]

    def release(self) -> None:
        """Give up the doubled and cast weights."""
        self._doubled = self._casted = None

    # ---- values inside -------------------------------------------------------------------------------

    @property
    def graph(self) -> Graph:
        """The graph whose values can be probed: the model traced and translated once more."""
        return self._inside().graph

    def probe(self, inputs: Sequence[Array], values: Sequence[Value], double: bool = False) -> Mapping[Value, Array]:
        """What these values of `graph` are in a run of the traced model; those it cannot tell are left out."""
        return self._inside().probe(inputs, values, double)

    def _inside(self) -> ProgramProbe:
        if self._look is None:
            raise UsageError("this model cannot be looked into: it was not traced here")
        if self._probe is None:
            self._probe = self._look()
        return self._probe

    def _narrowed(self, name: str, x: Tensor) -> Tensor:
        """A floating-point input in the precision that the model was traced with."""
        wanted = next((leaf.dtype for n, leaf in self._inputs if n == name and isinstance(leaf, Tensor)), x.dtype)
        return self._in_cast(x.to(wanted)) if x.is_floating_point() else x

    def _in_cast(self, x: Tensor) -> Tensor:
        return x.to(self._cast) if self._cast is not None and x.dtype == torch.float32 else x

    def _weights(self, double: bool) -> Mapping[str, Tensor]:
        if not double and self._cast is not None:
            if self._casted is None:
                self._casted = {name: self._in_cast(x.detach()) for name, x in self._named()}
            return self._casted
        if not double:
            return {}
        if self._doubled is None:
            with torch.no_grad():
                self._doubled = {name: wide(tensor.detach()) for name, tensor in self._named()}
        return self._doubled

    def _named(self) -> list[tuple[str, Tensor]]:
        return [*self._module.named_parameters(), *self._module.named_buffers()]


def _array(x: Any) -> Array:
    return to_numpy(x) if isinstance(x, Tensor) else np.asarray(x)


def wide(x: Tensor) -> Tensor:
    """A tensor in float64 or complex128 if it holds real or complex numbers."""
    if x.dtype in _NARROW:
        return x.double()
    return x.to(torch.complex128) if x.dtype in _COMPLEX else x


@contextmanager
def _slow_path() -> Generator[None]:
    before = torch.backends.mha.get_fastpath_enabled()
    torch.backends.mha.set_fastpath_enabled(False)
    try:
        yield
    finally:
        torch.backends.mha.set_fastpath_enabled(before)


@contextmanager
def precision(double: bool) -> Generator[None]:
    """Operators as the model means them, node by node; in float64 throughout if `double`."""
    with ExitStack() as stack:
        stack.enter_context(_slow_path())
        # Control flow runs as Python means it: torch would compile its bodies anew for each size.
        stack.enter_context(torch.compiler.set_stance("force_eager"))
        if double:
            stack.enter_context(_in_double())
        yield


@contextmanager
def _in_double() -> Generator[None]:
    before = torch.get_default_dtype()
    torch.set_default_dtype(torch.float64)
    try:
        with _WideFunctions(), _WideOperators():
            yield
    finally:
        torch.set_default_dtype(before)


def _widened(x: Any) -> Any:
    """An argument with dtypes and tensors widened."""
    if isinstance(x, torch.dtype):
        return torch.float64 if x in _NARROW else torch.complex128 if x in _COMPLEX else x
    return wide(x) if isinstance(x, Tensor) else x


_CASTS = {Tensor.float, Tensor.half, Tensor.bfloat16}


class _WideFunctions(TorchFunctionMode):
    """Widens what the model writes down itself: dtypes, tensors it made before, and casts by method."""

    def __torch_function__(self, func: Callable[..., Any], types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """One call of torch's API."""
        if func in _CASTS:
            func = Tensor.double
        if getattr(func, "__name__", "") == "__get__":
            return func(*args, **(kwargs or {}))
        args, kwargs = pytree.tree_map(_widened, (args, kwargs or {}))
        return func(*args, **kwargs)


class _WideOperators(TorchDispatchMode):
    """Widens what torch itself decides below its API, in the bodies of its loops too."""

    supports_higher_order_operators = True

    def __torch_dispatch__(self, func: Callable[..., Any], types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """One operator."""
        args, kwargs = pytree.tree_map(self._argument, (args, kwargs or {}))
        return func(*args, **kwargs)

    def _argument(self, x: Any) -> Any:
        if isinstance(x, Tensor):
            return x
        if not callable(x):
            return _widened(x)

        def body(*operands: Any) -> Any:
            with self:
                return x(*operands)

        return body
