"""Calls torch.export on a module, and turns its failures into refusals that name the user's line.

Every dynamic dim is traced as torch's own symbol without conditions of its own (`Dim.AUTO`, sizes 0 and 1 not taken
for granted); what the model then asks of it is judged here. Nothing of the module is changed, and its weights are not
copied.
"""

from __future__ import annotations

import gc
import inspect
import io
import logging
import sys
import threading
import warnings
from collections.abc import Generator, Mapping, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager
from dataclasses import dataclass
from traceback import FrameSummary, StackSummary
from types import FrameType
from typing import Any, TextIO

import torch
import torch.fx._lazy_graph_module as lazy_graph_module
import torch.fx.proxy as fx_proxy
from torch._guards import SLoc
from torch.export import Dim, ExportedProgram
from torch.fx.experimental.symbolic_shapes import ShapeEnv
from torch.utils import _pytree as pytree

from dragoman.frontends.dynamic import Dynamic, Spec, example_sizes, read_spec
from dragoman.frontends.pytorch.decompose import sizes_not_assumed
from dragoman.frontends.pytorch.dynamic import resized, tracing_sizes
from dragoman.frontends.pytorch.failures import explained
from dragoman.frontends.pytorch.huggingface import register_caches
from dragoman.frontends.pytorch.names import Leaf, bound_arguments, input_leaves
from dragoman.frontends.pytorch.pinned import Judged, Placed, judge
from dragoman.frontends.pytorch.provenance import Asker, asking_frame, forward_of_the_model
from dragoman.frontends.pytorch.shape_kernels import symbolic_kernels
from dragoman.frontends.pytorch.symints import Symbols
from dragoman.frontends.pytorch.untouched import untouched
from dragoman.ir.errors import DimensionPinned, Unsupported, UsageError

_LOCK = threading.RLock()  # tracing changes torch's global settings for its duration
_NOISE = (
    "torch.export",
    "torch.fx.experimental.symbolic_shapes",
    "torch._dynamo",
    "torch._subclasses.fake_tensor",
)


@dataclass(frozen=True)
class Exported:
    """A traced program, the leaves of the call it was traced with, and the dims of its inputs."""

    program: ExportedProgram
    inputs: Sequence[Leaf]
    judged: Judged


def export(
    module: torch.nn.Module, args: Sequence[Any], kwargs: Mapping[str, Any], dynamic: Dynamic | None
) -> Exported:
    """Trace a module on example arguments. Raises UsageError, DimensionPinned or Unsupported."""
    inputs = input_leaves(module.forward, args, kwargs)
    spec = read_spec(dynamic, inputs)
    example = example_sizes(spec, inputs)
    sizes = tracing_sizes(spec, example, inputs, apart=False)
    try:
        return _traced(module, args, kwargs, inputs, spec, sizes)
    except DimensionPinned as pinned:
        # Two sizes that happen to be equal in the example may have been taken for one: look again with others.
        other = tracing_sizes(spec, example, inputs, apart=True)
        if other == sizes:
            raise
        try:
            return _traced(module, args, kwargs, inputs, spec, other)
        except (DimensionPinned, Unsupported, UsageError):
            raise pinned from None


def _traced(
    module: torch.nn.Module,
    args: Sequence[Any],
    kwargs: Mapping[str, Any],
    inputs: Sequence[Leaf],
    spec: Spec,
    sizes: Mapping[str, int],
) -> Exported:
    leaves = _told_apart([resized(leaf, spec.dims.get(name, {}), sizes) for name, leaf in inputs])
    _, structure = pytree.tree_flatten((tuple(args), dict(kwargs)))
    new_args, new_kwargs = pytree.tree_unflatten(leaves, structure)
    shapes = _dynamic_shapes(module, new_args, new_kwargs, spec, inputs)
    try:
        with tracing(module):
            program = torch.export.export(module, new_args, new_kwargs, dynamic_shapes=shapes, strict=False)
    except Exception as error:  # whatever the model's own code raises ends here
        raise explained(error, module, args, kwargs) from error
    return Exported(program, inputs, _judged(program, inputs, spec, sizes))


def _told_apart(leaves: Sequence[Any]) -> list[Any]:
    """A tensor that is given for two inputs as two tensors: a trace would take the inputs for one."""
    result: list[Any] = []
    seen: set[int] = set()
    for leaf in leaves:
        again = isinstance(leaf, torch.Tensor) and id(leaf) in seen
        result.append(leaf.detach().clone() if again else leaf)
        seen.add(id(leaf))
    return result


def _dynamic_shapes(
    module: torch.nn.Module, args: Sequence[Any], kwargs: Mapping[str, Any], spec: Spec, inputs: Sequence[Leaf]
) -> dict[str, Any] | None:
    """The specification in torch's form: the tree of the arguments with `{axis: Dim.AUTO}` or None as leaves."""
    if not spec:
        return None
    marks = [dict.fromkeys(spec.dims.get(name, {}), Dim.AUTO) or None for name, _ in inputs]
    _, structure = pytree.tree_flatten((args, kwargs))
    marked_args, marked_kwargs = pytree.tree_unflatten(marks, structure)
    return bound_arguments(module.forward, marked_args, marked_kwargs)


def _judged(program: ExportedProgram, inputs: Sequence[Leaf], spec: Spec, sizes: Mapping[str, int]) -> Judged:
    environment = environment_of(program)
    if not spec or environment is None:
        return Judged(Symbols(), {}, ())
    return judge(place_inputs(program, inputs, spec), spec, sizes, environment)


def place_inputs(program: ExportedProgram, inputs: Sequence[Leaf], spec: Spec) -> list[Placed]:
    """What became of each dynamic dim of the inputs."""
    fakes = [n.meta.get("val") for n in user_placeholders(program)]
    tracked = environment_of(program).tracked_fakes or ()
    originals = iter([t.fake for t in tracked if isinstance(t.fake, torch.Tensor)])
    placed: list[Placed] = []
    for (name, _), fake in zip(inputs, fakes, strict=True):
        if isinstance(fake, torch.Tensor):
            original = next(originals, fake)
            for axis, wanted in spec.dims.get(name, {}).items():
                symbol, traced = _expression(original.shape[axis]), _expression(fake.shape[axis])
                placed.append(Placed(name, axis, wanted, symbol, traced))
    return placed


def _expression(size: Any) -> Any:
    if isinstance(size, torch.SymInt):
        expression = size.node._expr
        return int(expression) if expression.is_Integer else expression
    return int(size)


def user_placeholders(program: ExportedProgram) -> list[torch.fx.Node]:
    """The placeholder nodes of the caller's inputs, in order."""
    count = len(program.graph_signature.user_inputs)
    placeholders = [n for n in program.graph.nodes if n.op == "placeholder"]
    return placeholders[len(placeholders) - count :]


def environment_of(program: ExportedProgram) -> Any:
    """torch's record of the symbols of a program; None for one without."""
    for node in program.graph.nodes:
        value = node.meta.get("val")
        mode = getattr(value, "fake_mode", None)
        if mode is not None:
            return mode.shape_env
    return None


# ---- how torch is set while it traces ----------------------------------------------------------------------------


@contextmanager
def tracing(module: torch.nn.Module) -> Generator[None]:
    """torch's settings for one trace of a module; everything is put back."""
    if any(type(m).__module__.startswith("transformers.") for m in module.modules()):
        register_caches()
    with _LOCK, ExitStack() as stack:
        stack.enter_context(torch.no_grad())
        stack.enter_context(untouched(module))
        stack.enter_context(symbolic_kernels())
        stack.enter_context(sizes_not_assumed())
        stack.enter_context(_slow_path())
        stack.enter_context(_lines_of_the_model())
        stack.enter_context(_setting(fx_proxy, "CapturedTraceback", _ModelsStack))
        stack.enter_context(_quiet())
        stack.enter_context(_without_collection())
        stack.enter_context(_without_generated_source())
        yield


@contextmanager
def _setting(owner: Any, name: str, value: Any) -> Generator[None]:
    before = getattr(owner, name)
    setattr(owner, name, value)
    try:
        yield
    finally:
        setattr(owner, name, before)


@contextmanager
def _slow_path() -> Generator[None]:
    """Without gradients torch.nn's transformer layers call a fused kernel, whose parts are what is wanted here."""
    before = torch.backends.mha.get_fastpath_enabled()
    torch.backends.mha.set_fastpath_enabled(False)
    try:
        yield
    finally:
        torch.backends.mha.set_fastpath_enabled(before)


@contextmanager
def _lines_of_the_model() -> Generator[None]:
    """Let torch note, for what it takes for granted about sizes, the model's own line instead of torch's."""
    environment: Any = ShapeEnv
    original = environment._get_sloc

    def place(self: Any, framework_loc: str | None = None) -> Any:
        frame, asker = (None, Asker.MODEL) if framework_loc else asking_frame(inspect.currentframe())
        if frame is None:
            return original(self, framework_loc)
        return SLoc(FrameSummary(frame.f_code.co_filename, frame.f_lineno, asker), None)

    with _setting(environment, "_get_sloc", place):
        yield


class _ModelsStack:
    """Stands for torch's record of the whole stack at each node, of which only the model's own line is read.

    Symbolising some hundred frames for each node costs a tenth of a trace.
    """

    def __init__(self, frame: FrameType | None) -> None:
        self._frame = frame

    @classmethod
    def extract(cls, **_: Any) -> _ModelsStack:
        """The stack here."""
        return cls(forward_of_the_model(inspect.currentframe()))

    def summary(self) -> StackSummary:
        """The one frame that matters, as torch formats it."""
        frame = self._frame
        found = [] if frame is None else [FrameSummary(frame.f_code.co_filename, frame.f_lineno, "forward")]
        return StackSummary.from_list(found)


class _WithoutGraphs(io.TextIOBase):
    """A stream without the partial graphs that torch prints when tracing fails."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream
        self._dropped = False

    def write(self, text: str) -> int:
        """Pass on everything else, the end of a graph's last line not."""
        self._dropped = "def forward(self" in text or (self._dropped and not text.strip())
        return len(text) if self._dropped else self._stream.write(text)

    def flush(self) -> None:
        """Flush the stream behind."""
        self._stream.flush()


@contextmanager
def _quiet() -> Generator[None]:
    """Keep torch's own reports of what is refused below off the screen."""
    loggers = [logging.getLogger(name) for name in _NOISE]
    levels = [logger.level for logger in loggers]
    stderr = sys.stderr
    sys.stderr = _WithoutGraphs(stderr)  # type: ignore[assignment]
    for logger in loggers:
        logger.setLevel(logging.CRITICAL)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # about what tracing does to the model; what it means is judged here
            yield
    finally:
        sys.stderr = stderr
        for logger, level in zip(loggers, levels, strict=True):
            logger.setLevel(level)


def _without_generated_source() -> AbstractContextManager[None]:
    """Graph modules are read here, not run: torch need not write and compile the source of each."""
    modules: Any = lazy_graph_module
    return modules._use_lazy_graph_module(True)


@contextmanager
def _without_collection() -> Generator[None]:
    """Tracing makes many objects and few cycles: collecting while it runs costs a fifth of the time."""
    enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if enabled:
            gc.enable()
