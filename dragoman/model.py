"""A model that has been read: its graph, how to run its source, and how to save it."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from dragoman.dispatch import read_source
from dragoman.inputs import InputSpec, positional
from dragoman.ir.errors import UsageError
from dragoman.ir.graph import Graph
from dragoman.ir.interpreter import run
from dragoman.ir.runner import Runner
from dragoman.ir.types import TensorType
from dragoman.notes import Note
from dragoman.passes.check import RewriteChecker
from dragoman.passes.manager import Context, PassRecord, TargetLayout, run_passes
from dragoman.passes.pipelines import IMPORTED, OPTIMISE
from dragoman.passes.precision import Precision, half_dtype, reduce_precision
from dragoman.source import locate
from dragoman.stages import Progress, silent

TARGETS = ("portable", "ort")

_SHARE_OF_RUN = 0.25  # of the time for proofs, for the run that tells real values


@dataclass
class Model:
    """A graph in the IR with what is known of its source.

    `print(model)` shows the IR; `model(*arrays)` runs the reference interpreter in float64; `optimise` runs the passes
    in place; `save` writes ONNX.
    """

    graph: Graph
    source: Runner | None = None
    spec: str = ""
    notes: tuple[Note, ...] = ()
    examples: tuple[Any, ...] = ()
    passes: list[PassRecord] = field(default_factory=list[PassRecord])
    seconds: dict[str, float] = field(default_factory=dict[str, float])
    checker: RewriteChecker | None = None
    precision: Precision | None = None
    target: str = "portable"

    def __str__(self) -> str:
        return str(self.graph)

    def __repr__(self) -> str:
        inputs = ", ".join(f"{name}: {type}" for name, type in self.inputs.items())
        outputs = ", ".join(f"{name}: {type}" for name, type in self.outputs.items())
        return f"Model({inputs}) -> ({outputs}), {len(self.graph)} nodes"

    def __call__(self, *arrays: Any) -> Any:
        """Run the graph in float64 with our interpreter: one array, or a tuple of them. Raises UsageError."""
        results = run(self.graph, *arrays)
        return results[0] if len(results) == 1 else tuple(results)

    @property
    def inputs(self) -> dict[str, TensorType]:
        """Names and types of the inputs, in order."""
        return {v.name: v.type for v in self.graph.inputs}

    @property
    def outputs(self) -> dict[str, TensorType]:
        """Names and types of the outputs, in order."""
        return dict(zip(self.graph.output_names, (v.type for v in self.graph.outputs), strict=True))

    def optimise(
        self,
        target: str = "portable",
        *,
        precision: str | None = None,
        opset: int | None = None,
        check: float | None = None,
        progress: Callable[[str], None] = silent,
    ) -> Model:
        """Run the optimising passes in place and return the model.

        `check` is a time budget in seconds: every rewrite is then proved where it fires, until the budget is spent, for
        all values and on those of a run of the graph at small sizes.
        `precision`, "f16" or "bf16", then does what `reduce` does.
        """
        from dragoman.backends.onnx import PREFERRED_LAYOUT, channels_first_only

        if precision is not None:
            half_dtype(precision)
        self.target = checked_target(target)
        self.checker = self._checker(check) if check is not None else None
        layout = TargetLayout(PREFERRED_LAYOUT, channels_first_only, rows=True, heads=target == "ort")
        context = run_passes(self.graph, OPTIMISE, Context(self.checker, layout, progress))
        self.passes.extend(context.records)
        if self.checker is not None:
            self.checker.forget_run()
        if precision is not None:
            self.reduce(precision, opset=opset, progress=progress)
        return self

    def _checker(self, seconds: float) -> RewriteChecker:
        """One that goes on from the rewrites of the import, with the values of a run."""
        checker = self.checker or RewriteChecker()
        checker.seconds = checker.spent + seconds
        checker.run_on(self.graph, self.examples, seconds * _SHARE_OF_RUN)
        return checker

    def reduce(
        self,
        precision: str,
        *,
        opset: int | None = None,
        seconds: float = 60.0,
        progress: Callable[[str], None] = silent,
    ) -> Precision:
        """Bring f32 nodes to `precision`, "f16" or "bf16", and return the record, which names those that stay in f32:
        they lose too much there, or ONNX at `opset` does not have them there.

        Inputs and outputs keep their types. Measuring takes about `seconds`. Raises UsageError.
        """
        from dragoman.backends.onnx import legal

        self.graph, self.precision = reduce_precision(
            self.graph,
            half_dtype(precision),
            source=self.source,
            examples=self.examples,
            supports=legal(opset),
            seconds=seconds,
            context=Context(check=self.checker),
            progress=progress,
        )
        return self.precision

    def save(
        self, path: str | Path, *, opset: int | None = None, external: str = "auto", overwrite: bool = False
    ) -> Path:
        """Write the graph as it is as ONNX, for the target it was optimised for; returns the path.

        Raises OutputError, EmitRefused.
        """
        from dragoman.backends.onnx import save

        contrib, outside = self.target == "ort", external_of(external)
        saved = save(self.graph, Path(path), opset=opset, external=outside, overwrite=overwrite, contrib=contrib)
        return saved.path

    def compile(self, to: str = "triton", *, pure: bool = False) -> Any:
        """The model as Triton kernels in memory: a callable on torch tensors, NumPy arrays or what speaks DLPack.

        A model that was not optimised yet is. `pure` bars calls of torch. Raises UsageError where there is neither a
        GPU nor Triton's interpreter, EmitRefused for what has no kernel.
        """
        if to != "triton":
            raise UsageError(f"models compile to triton, not to {to!r}")
        from dragoman.compiled import check_runs, compile_graph

        check_runs()
        if not self.passes:
            self.optimise()
        return compile_graph(self.graph, pure=pure)


def external_of(text: str) -> bool | None:
    """`--external-data` as the ONNX backend takes it. Raises UsageError."""
    choices: dict[str, bool | None] = {"auto": None, "always": True, "never": False}
    if text not in choices:
        raise UsageError(f"external data is 'auto', 'always' or 'never', not {text!r}")
    return choices[text]


def checked_target(target: str) -> str:
    """A target that exists. Raises UsageError."""
    if target not in TARGETS:
        raise UsageError(f"there is no target {target!r} yet; there is {', '.join(TARGETS)}")
    return target


def load(
    source: Any,
    args: Sequence[Any] = (),
    kwargs: Mapping[str, Any] | None = None,
    *,
    params: Any = None,
    dynamic: Mapping[str, Mapping[int, Any]] | None = None,
    inputs: Sequence[str | InputSpec] = (),
    trust: bool = False,
    check: float | None = None,
    progress: Progress = silent,
) -> Model:
    """Read a model of any supported framework.

    `source` is a framework's object, a path, or `"package.module:factory"`. `args` and `kwargs` are example arguments;
    `dynamic={"x": {0: "batch"}}` names dims that stay symbolic; `inputs` says both in text, `"x:f32[batch,3,224,224]"`.
    `params` are the weights of a model of JAX that does not hold them: the variables of a flax linen module, the
    parameters of a haiku function, the first argument of another function.
    `check` is the time in seconds that proofs may take of the rewrites that tidy what was read.
    Raises UsageError, ImportRefused, DimensionPinned, UnsafeInput.
    """
    progress("load")
    located = locate(source, trust=trust)
    found = read_source(located, positional(args), dict(kwargs or {}), dynamic, inputs, progress, params)
    imported, runner = found.imported, found.runner
    examples = tuple(runner.examples())
    model = Model(imported.graph, runner, located.spec, found.notes, examples)
    model.seconds.update(imported.seconds)
    model.checker = RewriteChecker(seconds=check) if check is not None else None
    run_passes(model.graph, IMPORTED, Context(model.checker))
    return model
