"""PyTorch's own operator samples as small models, and the judgement of one of them.

Owns what a sample becomes (its tensors are the inputs, the rest is closed over) and how its numbers are judged: our
interpreter in float64 against torch in double, the ONNX model in ONNX Runtime (optimiser off) by the rule of proof C.
Refuses nothing: whatever happens is an outcome.
"""

from __future__ import annotations

import itertools
import os
import warnings
from collections.abc import Iterator, Sequence
from typing import Any

os.environ["ORT_DISABLE_TELEMETRY"] = "1"

import numpy as np
import torch
from judging import (  # beside this file
    Outcome,
    Resolve,
    blamed,
    copies,
    first_lines,
    is_noise,
    misjudged,
    off_in_double,
    where_raised,
    without_kernel,
)
from torch.utils import _pytree as pytree

from dragoman.backends.onnx import Session, emit
from dragoman.backends.onnx import legal as legal_at
from dragoman.frontends.pytorch import import_module
from dragoman.ir.errors import DragomanError, EmitRefused, ImportRefused, Unsupported, UsageError
from dragoman.ir.graph import Graph
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
            return Outcome("runtime" if without_kernel(str(refusal)) else "refused", "ONNX: " + "; ".join(listed))
        except Unsupported as refusal:
            return Outcome("refused", first_lines(refusal))
        except UsageError as refusal:
            kind = "runtime" if without_kernel(str(refusal)) else "refused" if "torch" in str(refusal) else "error"
            return Outcome(kind, first_lines(refusal))
        except DragomanError as error:
            return Outcome("error", f"{type(error).__name__}: {first_lines(error)}")
        except Exception as error:
            return Outcome("error", f"{type(error).__name__}: {first_lines(error)} {where_raised(error)}")


# Which of equal elements is named is not promised: where the dimension stands among the arguments after the input.
_TIES = {"sort": 0, "argsort": 0, "topk": 1, "kthvalue": 1, "median": 0, "nanmedian": 0, "mode": 0}


def _resolving(op: Any, sample: Any) -> Resolve:
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


def graph_of(op: Any, sample: Any) -> tuple[Graph, tuple[Any, ...]]:
    """A sample as a graph before any pass, and its inputs. Raises what the import raises; Unsupported if sparse."""
    leaves, spec = pytree.tree_flatten((sample.input, tuple(sample.args), dict(sample.kwargs)))
    tensors = [leaf for leaf in leaves if isinstance(leaf, torch.Tensor)]
    if any(t.layout != torch.strided for t in tensors):
        raise Unsupported("sparse tensors")
    kind = _Sample if tensors else _Fixed
    module = kind(op.op, leaves, spec).eval()
    found = import_module(module, [t.detach().clone() for t in tensors], name="sample")
    return found.imported.graph, tuple(np.asarray(x) for x in found.runner.examples())


def _compared(module: _Fixed, tensors: Sequence[torch.Tensor], resolve: Resolve) -> Outcome:
    try:
        module(*(t.clone() for t in tensors))
    except RuntimeError as error:
        return Outcome("refused", f"PyTorch itself does not run it on copies of its tensors: {first_lines(error)}")
    found = import_module(module, [t.clone() for t in tensors], name="sample")
    graph, runner = found.imported.graph, found.runner
    if not graph.outputs:
        return Outcome("refused", "the model gives no tensor")
    run_passes(graph, IMPORTED)
    inputs = [np.asarray(x) for x in runner.examples()]
    source = runner.run(copies(inputs))
    try:
        oracle = runner.run(copies(inputs), double=True)
    except Exception as error:  # torch has no double form of some operators: itself then, at its own precision
        oracle = source
        note = f"no double: {first_lines(error)}"
    else:
        note = ""
    imported = clone(graph)
    ours = GraphRunner(imported, "interpreter").run(copies(inputs), double=not note)
    reason = off_in_double(resolve(ours), resolve(oracle), resolve(source), bool(note))
    if reason:
        return Outcome("wrong", f"interpreter: {reason}")
    run_passes(graph, OPTIMISE)
    legalize(graph, legal_at())
    got = Session(emit(graph), optimise=False, threads=1).run(copies(inputs))
    wrong = misjudged(imported, resolve, oracle, source, got)
    if not wrong:
        return Outcome("right", note)
    if wrong.special or not is_noise(imported, inputs, oracle, got):
        return blamed(graph, imported, inputs, resolve, oracle, source, wrong)
    return Outcome("right", f"ill-conditioned: {wrong.reason}")
