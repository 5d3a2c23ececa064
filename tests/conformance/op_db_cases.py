"""PyTorch's own operator samples as small models, and the judgement of one of them.

Owns what a sample becomes (its tensors are the inputs, the rest is closed over) and how its numbers are judged: our
interpreter in float64 against torch in double, the ONNX model in ONNX Runtime (optimiser off) by the rule of proof C.
Refuses nothing: whatever happens is an outcome.
"""

from __future__ import annotations

import itertools
import math
import os
import traceback
import warnings
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

os.environ["ORT_DISABLE_TELEMETRY"] = "1"

import numpy as np
import torch
from onnx.reference import ReferenceEvaluator
from torch.utils import _pytree as pytree

from dragoman.backends.onnx import Session, emit, to_model_proto
from dragoman.backends.onnx import legal as legal_at
from dragoman.frontends.pytorch import import_module
from dragoman.ir.errors import DragomanError, EmitRefused, ImportRefused, Unsupported, UsageError
from dragoman.ir.findings import Status
from dragoman.ir.graph import Graph
from dragoman.ir.interpreter import run
from dragoman.ir.judge import judge, outputs_of, wide
from dragoman.ir.local import rounding_unit, special_values_differ
from dragoman.ir.noise import noisy_outputs, spread
from dragoman.ir.region import clone
from dragoman.ir.runner import GraphRunner
from dragoman.passes.legalize import legalize
from dragoman.passes.manager import run_passes
from dragoman.passes.pipelines import IMPORTED, OPTIMISE

# What has no one right answer. Everything else of the suite is run.
_RANDOM = "draws random numbers"
_UNSET = "gives uninitialised memory"
_GPU = "runs on a GPU only"
EXCLUDED: dict[str, str] = {
    **dict.fromkeys(("cauchy", "exponential", "geometric", "log_normal", "normal.in_place", "uniform"), _RANDOM),
    **dict.fromkeys(("randn", "randn_like", "rand_like", "randint", "randint_like", "multinomial"), _RANDOM),
    **dict.fromkeys(("normal", "normal.number_mean", "bernoulli", "svd_lowrank", "pca_lowrank"), _RANDOM),
    **dict.fromkeys((f"nn.functional.{n}" for n in ("rrelu", "dropout", "dropout2d", "dropout3d")), _RANDOM),
    **dict.fromkeys((f"nn.functional.fractional_max_pool{n}d" for n in (2, 3)), _RANDOM),
    **dict.fromkeys(("nn.functional.alpha_dropout", "nn.functional.feature_alpha_dropout.with_train"), _RANDOM),
    **dict.fromkeys(("empty", "empty_like", "empty_permuted", "empty_strided"), _UNSET),
    **dict.fromkeys(("new_empty", "new_empty_strided", "resize_", "resize_as_"), _UNSET),
    **dict.fromkeys((f"jiterator_{n}" for n in ("unary", "binary", "4inputs_with_extra_args")), _GPU),
    **dict.fromkeys(("jiterator_binary_return_by_ref", "jiterator_2inputs_2outputs", "bmm.triton_optimized"), _GPU),
}

_DTYPES = (torch.float32, torch.int64, torch.bool)
# Far below f32, far above the noise of two float64 computations.
_DOUBLE_NOISE, _DOUBLE_SHARE = 2.0**-40, 2.0**-16
_NO_KERNEL = ("Could not find an implementation", "NOT_IMPLEMENTED", "ONNX Runtime has no")


@dataclass(frozen=True)
class Outcome:
    """What became of one sample."""

    kind: str
    reason: str = ""


class _Fixed(torch.nn.Module):
    """An operator with everything fixed."""

    def __init__(self, op: Any, leaves: Sequence[Any], spec: Any) -> None:
        super().__init__()
        self._op, self._leaves, self._spec = op, list(leaves), spec

    def forward(self) -> Any:
        return self._applied()

    def _applied(self, *tensors: torch.Tensor) -> Any:
        given = iter(tensors)
        filled = [next(given) if isinstance(leaf, torch.Tensor) else leaf for leaf in self._leaves]
        first, args, kwargs = pytree.tree_unflatten(filled, self._spec)
        return self._op(first, *args, **kwargs)


class _Sample(_Fixed):
    """An operator with everything but its tensors fixed."""

    def forward(self, *tensors: torch.Tensor) -> Any:  # type: ignore[override]
        return self._applied(*tensors)


def entries() -> list[Any]:
    """Every entry of the suite, in its order."""
    from torch.testing._internal.common_methods_invocations import op_db

    return list(op_db)


def title(op: Any) -> str:
    """The name of an entry with that of its variant."""
    return f"{op.name}.{op.variant_test_name}" if op.variant_test_name else str(op.name)


def samples_of(op: Any, count: int) -> Iterator[tuple[str, Any]]:
    """The first samples of each dtype: `count` of f32, one each of i64 and bool; else of the first dtype there is."""
    supported = op.supported_dtypes("cpu")
    dtypes = [d for d in _DTYPES if d in supported] or sorted(supported, key=str)[:1] or [torch.float32]
    for dtype in dtypes:
        torch.manual_seed(0)
        wanted = count if dtype == dtypes[0] else 1
        drawn = op.sample_inputs("cpu", dtype, requires_grad=False)
        for index, sample in enumerate(itertools.islice(drawn, wanted)):
            yield f"{str(dtype).removeprefix('torch.')}[{index}]", sample


def run_sample(op: Any, sample: Any) -> Outcome:
    """Import, compare in double, emit, run, judge."""
    leaves, spec = pytree.tree_flatten((sample.input, tuple(sample.args), dict(sample.kwargs)))
    tensors = [leaf for leaf in leaves if isinstance(leaf, torch.Tensor)]
    if any(t.layout != torch.strided for t in tensors):
        return Outcome("refused", "sparse tensors")
    with warnings.catch_warnings(), np.errstate(all="ignore"):
        warnings.simplefilter("ignore")
        try:
            kind = _Sample if tensors else _Fixed
            resolve = _resolving(op, sample)
            return _compared(kind(op.op, leaves, spec).eval(), [t.detach().clone() for t in tensors], resolve)
        except ImportRefused as refusal:
            listed = (f"{o.operator} {o.reason}".strip() for o in refusal.occurrences)
            return Outcome("refused", "import: " + "; ".join(listed))
        except EmitRefused as refusal:
            listed = (f"{o.operator}: {o.reason}" for o in refusal.occurrences)
            return Outcome("runtime" if _without_kernel(str(refusal)) else "refused", "ONNX: " + "; ".join(listed))
        except Unsupported as refusal:
            return Outcome("refused", _first(refusal))
        except UsageError as refusal:
            kind = "runtime" if _without_kernel(str(refusal)) else "refused" if "torch" in str(refusal) else "error"
            return Outcome(kind, _first(refusal))
        except DragomanError as error:
            return Outcome("error", f"{type(error).__name__}: {_first(error)}")
        except Exception as error:
            return Outcome("error", f"{type(error).__name__}: {_first(error)} {_where(error)}")


# Which of equal elements is named is not promised: where the dimension stands among the arguments after the input.
_TIES = {"sort": 0, "argsort": 0, "topk": 1, "kthvalue": 1, "median": 0, "nanmedian": 0, "mode": 0}
_Resolve = Callable[[Sequence[Any]], list[Any]]


def _resolving(op: Any, sample: Any) -> _Resolve:
    """Replaces places among equal elements by the elements that are there, and says so where a place comes twice."""
    if op.name not in _TIES or not sample.input.dim():
        return list
    position = _TIES[op.name]
    listed = sample.args[position] if len(sample.args) > position else None
    dim = sample.kwargs.get("dim", -1 if listed is None or isinstance(listed, bool) else listed)
    values = sample.input.detach().numpy()

    def resolve(outputs: Sequence[Any]) -> list[Any]:
        if not outputs or np.asarray(outputs[-1]).dtype != np.int64 or (len(outputs) == 1 and op.name != "argsort"):
            return list(outputs)
        places = np.asarray(outputs[-1])
        wide = places if places.ndim == values.ndim else np.expand_dims(places, dim)
        ordered = np.sort(wide, axis=dim)
        repeated = bool((np.diff(ordered, axis=dim) == 0).any())
        return [*outputs[:-1], np.take_along_axis(values, wide, dim), np.array(repeated), np.array(places.shape)]

    return resolve


def _compared(module: _Fixed, tensors: Sequence[torch.Tensor], resolve: _Resolve) -> Outcome:
    try:
        module(*(t.clone() for t in tensors))
    except RuntimeError as error:
        return Outcome("refused", f"PyTorch itself does not run it on copies of its tensors: {_first(error)}")
    found = import_module(module, [t.clone() for t in tensors], name="sample")
    graph, runner = found.imported.graph, found.runner
    if not graph.outputs:
        return Outcome("refused", "the model gives no tensor")
    run_passes(graph, IMPORTED)
    inputs = [np.asarray(x) for x in runner.examples()]
    source = runner.run(_copies(inputs))
    try:
        oracle = runner.run(_copies(inputs), double=True)
    except Exception as error:  # torch has no double form of some operators: itself then, at its own precision
        oracle = source
        note = f"no double: {_first(error)}"
    else:
        note = ""
    imported = clone(graph)
    ours = GraphRunner(imported, "interpreter").run(_copies(inputs), double=not note)
    reason = _off_in_double(resolve(ours), resolve(oracle), resolve(source), bool(note))
    if reason:
        return Outcome("wrong", f"interpreter: {reason}")
    run_passes(graph, OPTIMISE)
    legalize(graph, legal_at())
    got = Session(emit(graph), optimise=False, threads=1).run(_copies(inputs))
    wrong = _misjudged(imported, resolve, oracle, source, got)
    if not wrong:
        return Outcome("right", note)
    if wrong.special or not _is_noise(imported, inputs, oracle, got):
        return _blamed(graph, imported, inputs, resolve, oracle, source, wrong)
    return Outcome("right", f"ill-conditioned: {wrong.reason}")


@dataclass(frozen=True)
class _Wrong:
    reason: str
    special: bool  # another shape, dtype, integer or place of NaN: no matter of rounding


def _misjudged(graph: Graph, resolve: _Resolve, oracle: Any, source: Any, got: Any) -> _Wrong | None:
    """The first output that proof C's rule does not accept."""
    form = [np.asarray(s).dtype == np.asarray(g).dtype for s, g in zip(source, got, strict=True)]
    if not all(form):
        return _Wrong(f"the dtypes are {[str(np.asarray(g).dtype) for g in got]}", True)
    known = outputs_of(graph)
    triples = zip(resolve(oracle), resolve(source), resolve(got), strict=True)
    for index, (o, s, g) in enumerate(triples):
        finding = judge(known[min(index, len(known) - 1)], o, s, g)
        if finding.status is Status.WRONG:
            place = f" at {finding.place}: {finding.got} for {finding.expected}" if finding.expected else ""
            return _Wrong(f"{finding.name}: {finding.reason}{place}", math.isinf(finding.excess))
    return None


def _is_noise(graph: Graph, inputs: Sequence[Any], oracle: Sequence[Any], got: Sequence[Any]) -> bool:
    """Whether shaking every number by 8 units of rounding moves the results as far as they are off."""
    exact = [np.asarray(x) for x in run(graph, *inputs)]
    for index, (o, g) in enumerate(zip(oracle, got, strict=True)):
        dtype = graph.outputs[index].type.dtype
        if not dtype.is_float:
            continue
        moved = spread(exact, noisy_outputs(graph, inputs, 8 * rounding_unit(dtype), 4))[index]
        error = np.abs(wide(g) - wide(o))
        if float(np.where(np.isfinite(error), error, 0.0).max(initial=0.0)) > float(np.max(moved, initial=0.0)):
            return False
    return True


def _blamed(
    emitted: Graph,
    graph: Graph,
    inputs: Sequence[Any],
    resolve: _Resolve,
    oracle: Any,
    source: Any,
    wrong: _Wrong,
) -> Outcome:
    """ONNX Runtime's own doing, if ONNX's reference gives PyTorch's numbers for the same model; wrong otherwise."""
    proto = to_model_proto(emitted)
    feeds = dict(zip((i.name for i in proto.graph.input), inputs, strict=True))
    try:
        witness = [np.asarray(x) for x in ReferenceEvaluator(proto).run(None, feeds)]
    except Exception:  # ONNX's reference lacks some operators and fails on others: no witness
        return Outcome("wrong", f"ONNX: {wrong.reason}")
    if not _misjudged(graph, resolve, oracle, source, witness):
        return Outcome("kernel", wrong.reason)
    return Outcome("wrong", f"ONNX: {wrong.reason}")


def _without_kernel(text: str) -> bool:
    return any(mark in text for mark in _NO_KERNEL)


def _copies(inputs: Sequence[Any]) -> list[Any]:
    return [np.array(x) for x in inputs]


def _off_in_double(ours: Sequence[Any], oracle: Sequence[Any], source: Sequence[Any], narrow: bool) -> str:
    """Why our float64 run is not torch's in double; empty if it is."""
    if len(ours) != len(oracle):
        return f"{len(ours)} outputs, not {len(oracle)}"
    for index, (x, o, s) in enumerate(zip(ours, oracle, source, strict=True)):
        x, o, s = (np.asarray(v) for v in (x, o, s))
        if x.shape != o.shape:
            return f"output {index} has the shape {x.shape}, not {o.shape}"
        if s.dtype.kind in "biu" and s.dtype.itemsize <= 8:
            if not np.array_equal(x, o):
                return f"output {index} is {_shown(x)}, not {_shown(o)}"
            continue
        x, o, s = wide(x), wide(o), wide(s)
        reason = special_values_differ(o, x)
        if reason:
            return f"output {index}: {reason}: {_shown(x)}, not {_shown(o)}"
        # A constant that is stored as torch gives it in f32 is as it should be.
        both = np.isfinite(o) & np.isfinite(x) & (x != s)
        size = float(np.abs(o[np.isfinite(o)]).max(initial=0.0))
        error = float(np.abs(x - o)[both].max(initial=0.0))
        finite = both & np.isfinite(s)
        own = float(np.abs(s - o)[finite].max(initial=0.0))
        allowed = 2.0**-18 * size if narrow else max(_DOUBLE_NOISE * size, _DOUBLE_SHARE * own)
        if error > allowed:
            return f"output {index} is off by {error:.3g} of {size:.3g}: {_shown(x)}, not {_shown(o)}"
    return ""


def _shown(x: Any) -> str:
    return " ".join(np.array2string(np.asarray(x), threshold=12, precision=6).split())[:160]


def _first(error: BaseException) -> str:
    """The lines of a message that say what is the matter."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return " | ".join(lines[:2])[:300]


def _where(error: BaseException) -> str:
    frames = traceback.extract_tb(error.__traceback__)
    return f"({frames[-1].filename.rsplit('/', 1)[-1]}:{frames[-1].lineno})" if frames else ""
