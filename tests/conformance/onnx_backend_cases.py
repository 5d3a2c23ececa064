"""The ONNX backend suite's cases, what each way of running them gives, and how that is judged.

A case is a model with inputs and expected outputs; what it gives must have their shapes and dtypes and be near by the
case's own tolerances. Refuses nothing: whatever happens is an outcome.
"""

from __future__ import annotations

import os
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

os.environ["ORT_DISABLE_TELEMETRY"] = "1"

import ml_dtypes
import numpy as np
import onnx
import onnx.backend.test.case.node as node_cases
import onnx.numpy_helper
from onnx.backend.test.loader import load_model_tests
from onnx.reference import ReferenceEvaluator

from dragoman.backends.onnx import OLDEST_OPSET, Session, newest_opset, to_model_proto
from dragoman.frontends.onnx import import_model
from dragoman.ir.arithmetic import NATIVE, Native
from dragoman.ir.dims import Symbol
from dragoman.ir.errors import DragomanError, EmitRefused, Unsupported, UsageError
from dragoman.ir.graph import Graph
from dragoman.ir.interpreter import run
from dragoman.ir.region import clone
from dragoman.ir.types import STRING, DType, TensorType, dtype_of
from dragoman.passes.manager import run_passes
from dragoman.passes.pipelines import IMPORTED, OPTIMISE

KINDS = ("simple", "pytorch-converted", "pytorch-operator")

_RANDOM = "draws random numbers"
_TRAINING = "an operator of training"
_PREFIXES = {
    "test_bernoulli": _RANDOM,
    "test_randomuniform": _RANDOM,
    "test_training_dropout": _RANDOM,
    "test_adagrad": _TRAINING,
    "test_adam": _TRAINING,
    "test_momentum": _TRAINING,
    "test_nesterov": _TRAINING,
}
# "length_resized: the length of the resized tensor", says the text of align_corners; these take extent · factor, 2.4, where
# the length is 2. ONNX Runtime and PyTorch do as the text says.
_AGAINST = "expects what the standard's text does not say: align_corners by a length that is no whole number"
_PREFIXES |= dict.fromkeys(
    (f"test_resize_downsample_scales_{mode}_align_corners" for mode in ("linear", "cubic")), _AGAINST
)
_KEPT = ("test_training_dropout_zero_ratio",)  # which draws nothing
_MOST_FIXED = 16  # elements of an input that may be fixed


@dataclass(frozen=True)
class Case:
    """One case: the model, and pairs of inputs and outputs."""

    title: str
    model: onnx.ModelProto
    data: Sequence[tuple[list[Any], list[Any]]]
    rtol: float
    atol: float

    @property
    def held(self) -> dict[str, Any]:
        """What the inputs hold that are sequences or optionals; empty where inputs and outputs are all tensors."""
        plain = all(v.type.HasField("tensor_type") for v in (*self.model.graph.input, *self.model.graph.output))
        if plain:
            return {}
        given = zip(_fed(self.model), self.data[0][0], strict=True)
        return {"": None} | {v.name: _types_of(x) for v, x in given if not v.type.HasField("tensor_type")}

    @property
    def deciding(self) -> list[str]:
        """The inputs that may decide how many tensors there are and of which rank: few integers or truths, or a number."""
        given = zip(_fed(self.model), self.data[0][0], strict=True)
        small = [(v.name, np.asarray(x)) for v, x in given if v.type.HasField("tensor_type")]
        return [n for n, x in small if x.size <= _MOST_FIXED and (x.dtype.kind in "biu" or x.size == 1)]

    def values(self, names: Sequence[str]) -> dict[str, Any]:
        """What the case gives to some inputs."""
        given = zip(_fed(self.model), self.data[0][0], strict=True)
        return {v.name: np.asarray(x) for v, x in given if v.name in names}

    @property
    def empty(self) -> dict[str, dict[int, Symbol]]:
        """The dynamic dims that the case gives the extent 0: an import takes them to be at least 1 unless told."""
        found: dict[str, dict[int, Symbol]] = {}
        for v, x in zip(_fed(self.model), self.data[0][0], strict=True):
            for axis, dim in enumerate(v.type.tensor_type.shape.dim):
                if dim.dim_param and np.shape(x)[axis] == 0:
                    found.setdefault(v.name, {})[axis] = Symbol(dim.dim_param, 0)
        return found

    def tensor_by_tensor(self, fixed: Sequence[str] = ()) -> Case:
        """The case as our models take it: sequences one tensor after the other, an optional without value left out, and
        inputs that are fixed too.
        """
        names = [v.name for v in _fed(self.model)]
        data = [
            (_flat([x for n, x in zip(names, inputs, strict=True) if n not in fixed]), _flat(outputs))
            for inputs, outputs in self.data
        ]
        return Case(self.title, self.model, data, self.rtol, self.atol)


@dataclass(frozen=True)
class Outcome:
    """How one way of running a case ended: right, refused, missing (the runtime has no kernel), wrong, or error."""

    kind: str
    reason: str = ""


def _types_of(x: Any) -> Any:
    if x is None:
        return None
    if isinstance(x, list):
        return [_types_of(item) for item in x]
    x = np.asarray(x)
    return TensorType(STRING if x.dtype.kind in "OUS" else dtype_of(x.dtype), x.shape)


def _flat(values: Sequence[Any]) -> list[Any]:
    return [x for v in values for x in (v if isinstance(v, list) else [] if v is None else [v])]


def excluded(title: str) -> str | None:
    """Why a case is left out, or None."""
    if title.startswith(_KEPT):
        return None
    return next((reason for prefix, reason in _PREFIXES.items() if title.startswith(prefix)), None)


def all_cases() -> dict[str, Callable[[], Case]]:
    """Every case by its title, made when asked for."""
    found: dict[str, Callable[[], Case]] = {}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for case in node_cases.collect_testcases(None):
            found[case.name] = lambda case=case: _of_node(case)
    for kind in KINDS:
        for case in load_model_tests(kind=kind):
            found[f"{kind}: {case.name}"] = lambda case=case: _of_folder(case)
    return found


def _of_node(case: Any) -> Case:
    data = [([_value(x) for x in inputs], [_value(y) for y in outputs]) for inputs, outputs in case.data_sets]
    return Case(case.name, case.model, data, case.rtol, case.atol)


def _of_folder(case: Any) -> Case:
    folder = Path(case.model_dir)
    model = onnx.load(str(folder / "model.onnx"))
    data = []
    for pairs in sorted(folder.glob("test_data_set_*")):
        inputs = [_read(pairs / f"input_{i}.pb", v) for i, v in enumerate(_fed(model))]
        outputs = [_read(pairs / f"output_{i}.pb", v) for i, v in enumerate(model.graph.output)]
        data.append((inputs, outputs))
    return Case(case.name, model, data, case.rtol, case.atol)


def _fed(model: onnx.ModelProto) -> list[onnx.ValueInfoProto]:
    weights = {t.name for t in model.graph.initializer}
    return [v for v in model.graph.input if v.name not in weights]


def _read(path: Path, declared: onnx.ValueInfoProto) -> Any:
    raw = path.read_bytes()
    if declared.type.HasField("sequence_type"):
        proto = onnx.SequenceProto.FromString(raw)
        return onnx.numpy_helper.to_list(proto)
    return onnx.numpy_helper.to_array(onnx.TensorProto.FromString(raw))


def _value(given: Any) -> Any:
    if isinstance(given, onnx.TensorProto):
        return onnx.numpy_helper.to_array(given)
    if isinstance(given, list):
        return [_value(x) for x in given]
    return given if given is None else np.asarray(given)


# ---- judging -----------------------------------------------------------------------------------------------------


def difference(expected: Any, got: Any, rtol: float, atol: float) -> str:
    """What speaks against a result, or nothing."""
    if isinstance(expected, list) or isinstance(got, list):
        if not (isinstance(expected, list) and isinstance(got, list)) or len(expected) != len(got):
            return "another sequence"
        return next((d for a, b in zip(expected, got, strict=True) if (d := difference(a, b, rtol, atol))), "")
    if expected is None or got is None:
        return "" if expected is None and got is None else "nothing where something is expected"
    expected, got = np.asarray(expected), np.asarray(got)
    if expected.dtype.kind in "OUST":
        same = expected.shape == got.shape and [_text(x) for x in expected.flat] == [_text(x) for x in got.flat]
        return "" if same else "other strings"
    if expected.shape != got.shape:
        return f"the shape {list(got.shape)}, not {list(expected.shape)}"
    if expected.dtype != got.dtype:
        return f"the dtype {got.dtype}, not {expected.dtype}"
    if expected.dtype.kind in "biu" or expected.dtype in _SMALL_INTEGERS:
        return "" if np.array_equal(expected, got) else f"{_count(expected != got)} other integers"
    a, b = _wide(expected), _wide(got)
    near = np.isclose(b, a, rtol=rtol, atol=atol, equal_nan=True)
    return "" if near.all() else f"{_count(~near)} numbers beyond the tolerance, by {_worst(a, b):.2g}"


_SMALL_INTEGERS = {np.dtype(getattr(ml_dtypes, n)) for n in ("int4", "uint4", "int2", "uint2")}


def _wide(x: Any) -> Any:
    return x.astype(np.complex128 if x.dtype.kind == "c" else np.float64)


def _count(bad: Any) -> str:
    return f"{int(bad.sum())} of {bad.size}"


def _worst(a: Any, b: Any) -> float:
    with np.errstate(all="ignore"):
        return float(np.nanmax(np.abs(a - b))) if a.size else 0.0


def _text(x: Any) -> str:
    return x.decode("utf-8", "surrogateescape") if isinstance(x, bytes) else str(x)


def judged(case: Case, run_model: Callable[[list[Any]], Sequence[Any]]) -> Outcome:
    """All data sets of a case through one way of running it."""
    for inputs, outputs in case.data:
        try:
            results = run_model(inputs)
        except Missing as missing:
            return Outcome("missing", str(missing)[:300])
        except Unsupported as refused:
            return Outcome("refused", _brief(refused))
        except Exception as error:
            return Outcome("error", f"{type(error).__name__}: {_brief(error)}")
        names = [v.name for v in case.model.graph.output] if len(case.model.graph.output) == len(outputs) else outputs
        if len(results) != len(outputs):
            return Outcome("wrong", f"{len(results)} results where {len(outputs)} are expected")
        for name, expected, got in zip(names, outputs, results, strict=True):
            bad = difference(expected, got, case.rtol, case.atol)
            if bad:
                return Outcome("wrong", f"{name}: {bad}")
    return Outcome("right")


class _EachStep(Native):
    """Every step inside a node rounds to the node's own precision, as `onnx.reference` computes in half precision."""

    def load(self, x: Any, dtype: DType) -> Any:
        """As it is declared."""
        return x if dtype.is_float else super().load(x, dtype)


ANOTHER_ROUNDING = "with every step inside a node rounded to half precision; rounded once a node, nearer to float64"


def reconsidered(case: Case, graph: Graph, once: Outcome) -> Outcome:
    """Wrong numbers of our interpreter in half precision, whose rounding the standard leaves open: once a node or at
    each step inside it. Some cases have tolerances finer than half precision.

    Right if rounding at each step gives the case's numbers within its tolerance, and ours, rounded once, are no further
    from float64 than those.
    """
    if not any(r.type.dtype.is_float and r.type.dtype.bits == 16 for node in graph.nodes for r in node.results):
        return once
    each = judged(case, lambda inputs: run(graph, *inputs, arithmetic=_EachStep()))
    accepted = each.kind == "right" and _nearer(case, graph, by_interpreter(graph))
    return Outcome("right", ANOTHER_ROUNDING) if accepted else once


def _nearer(case: Case, graph: Graph, run_model: Callable[[list[Any]], Sequence[Any]]) -> bool:
    """Whether numbers are no further from float64 than those expected, output by output."""
    return all(
        _worst(_wide(np.asarray(e)), _wide(np.asarray(g))) <= _worst(_wide(np.asarray(e)), _wide(np.asarray(x)))
        for inputs, expected in case.data
        for e, g, x in zip(run(graph, *inputs), run_model(inputs), expected, strict=True)
    )


NEARER = "beyond the case's tolerance, and no further from float64 than the numbers expected"


def _written(
    case: Case, graph: Graph, understood: bool, make: Callable[[], Callable[[list[Any]], Sequence[Any]]]
) -> Outcome:
    """One of our models in ONNX Runtime. What a case expects may be its own rounding; where the interpreter is right,
    float64 tells.
    """
    found = _way(case, make)
    if not understood or found.kind != "wrong" or "numbers beyond" not in found.reason:
        return found
    return Outcome("right", NEARER) if _nearer(case, graph, make()) else found


def _brief(error: Exception) -> str:
    return " | ".join(line.strip() for line in str(error).splitlines() if line.strip())[:400]


# ---- ways of running ---------------------------------------------------------------------------------------------


class Missing(Exception):
    """The runtime does not take the model at all."""


def by_runtime(model: onnx.ModelProto) -> Callable[[list[Any]], Sequence[Any]]:
    """ONNX Runtime, its optimiser off."""
    try:
        session = Session(model, optimise=False)
    except DragomanError as error:
        raise Missing(_brief(error)) from None
    except Exception as error:
        raise Missing(f"{type(error).__name__}: {_brief(error)}") from None

    def run_once(inputs: list[Any]) -> Sequence[Any]:
        names = session.input_names
        # An input that nothing uses may be gone from the model as it is run.
        given = dict(zip((v.name for v in _fed(model)), inputs, strict=True))
        try:
            return _plain(session, model, [given[n] for n in names])
        except UsageError as error:
            if "NOT_IMPLEMENTED" in str(error) or "NotImplemented" in str(error):
                raise Missing(_brief(error)) from None
            raise

    return run_once


def _plain(session: Session, model: onnx.ModelProto, inputs: list[Any]) -> Sequence[Any]:
    tensors = all(v.type.HasField("tensor_type") for v in (*model.graph.input, *model.graph.output))
    if tensors:
        return session.run(inputs)
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    options.log_severity_level = 4
    bare = onnxruntime.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
    return bare.run(None, {i.name: x for i, x in zip(bare.get_inputs(), inputs, strict=True)})


def by_reference(model: onnx.ModelProto) -> Callable[[list[Any]], Sequence[Any]]:
    """The reference evaluator of onnx."""
    try:
        evaluator = ReferenceEvaluator(model)
    except Exception as error:
        raise Missing(f"{type(error).__name__}: {_brief(error)}") from None
    names = [v.name for v in _fed(model)]
    return lambda inputs: evaluator.run(None, dict(zip(names, inputs, strict=True)))


def by_interpreter(graph: Graph) -> Callable[[list[Any]], Sequence[Any]]:
    """Ours, each node in its declared types."""
    return lambda inputs: run(graph, *inputs, arithmetic=NATIVE)


def _way(case: Case, make: Callable[[], Callable[[list[Any]], Sequence[Any]]]) -> Outcome:
    try:
        run_model = make()
    except Missing as missing:
        return Outcome("missing", str(missing)[:300])
    except (Unsupported, EmitRefused) as refused:
        return Outcome("refused", _brief(refused))
    except Exception as error:
        return Outcome("error", f"{type(error).__name__}: {_brief(error)}")
    return judged(case, run_model)


FOR_VALUES = "the model is made for the case's values of "


def fitting(case: Case) -> tuple[dict[str, Any], list[str]]:
    """What the import is told of inputs, and which of them it is told the values of: none where that is not needed,
    else as few as will do.
    """
    held = case.held

    def refused(names: Sequence[str]) -> bool:
        told = {"": None, **held, **case.values(names)} if held or names else {}
        try:
            import_model(case.model, held=told, dynamic=case.empty)
        except DragomanError:
            return True
        return False

    fixed = case.deciding
    if len(case.data) > 1 or not refused([]) or refused(fixed):
        return held, []
    for name in list(fixed):
        fewer = [n for n in fixed if n != name]
        fixed = fixed if refused(fewer) else fewer
    return {"": None, **held, **case.values(fixed)}, fixed


def outcomes(case: Case, opsets: Sequence[int] = ()) -> dict[str, Outcome]:
    """A case in every way: ONNX Runtime and the reference on the original, and ours."""
    found = {
        "runtime": _way(case, lambda: by_runtime(case.model)),
        "reference": _way(case, lambda: by_reference(case.model)),
    }
    graph: Graph | None = None
    held, fixed = fitting(case)
    model, empty = case.model, case.empty
    if held:
        case = case.tensor_by_tensor(fixed)

    def interpreted() -> Callable[[list[Any]], Sequence[Any]]:
        nonlocal graph
        graph = import_model(model, held=held, dynamic=empty).graph
        run_passes(graph, IMPORTED)
        return by_interpreter(graph)

    found["interpreter"] = _way(case, interpreted)
    if graph is None:
        return found
    if found["interpreter"].kind == "wrong":
        found["interpreter"] = reconsidered(case, graph, found["interpreter"])
    elif fixed and found["interpreter"].kind == "right":
        found["interpreter"] = Outcome("right", f"{FOR_VALUES}{', '.join(fixed)}")
    opset, understood = _opset_of(case.model), found["interpreter"].kind == "right"
    found["plain"] = _written(case, graph, understood, lambda: by_runtime(to_model_proto(clone(graph), opset=opset)))

    def optimised(opset: int) -> Callable[[list[Any]], Sequence[Any]]:
        changed = clone(graph)
        run_passes(changed, OPTIMISE)
        return by_runtime(to_model_proto(changed, opset=opset))

    found["optimised"] = _written(case, graph, understood, lambda: optimised(opset))
    for other in opsets:
        found[f"opset {other}"] = _written(case, graph, understood, lambda other=other: optimised(other))
    return found


def _opset_of(model: onnx.ModelProto) -> int:
    version = next((o.version for o in model.opset_import if o.domain in ("", "ai.onnx")), OLDEST_OPSET)
    return min(max(version, OLDEST_OPSET, 20), newest_opset())
