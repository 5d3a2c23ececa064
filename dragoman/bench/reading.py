"""Reads a source once for all targets, in a process of its own: inputs, the float64 truth and ONNX files, on disk.

Owns what every target is given. Weights that a factory draws at random come out alike in each process: the generators
of Python and NumPy are seeded here, torch's begins alike anyway.
"""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from dragoman.ir.errors import UsageError

if TYPE_CHECKING:
    from dragoman.model import Model
    from dragoman.source import Located

PICKLED = ".dragoman-object"
_LENGTH = 128  # of a dynamic dim that is no batch, where the source has no example


def opened(source: str) -> Any:
    """What to hand to `load`: the name as it is, or the object that was given to `dragoman.bench`."""
    random.seed(0)
    np.random.seed(0)
    if not source.endswith(PICKLED):
        return source
    import pickle

    with Path(source).open("rb") as file:
        return pickle.load(file)  # written by the process that started this one, in a folder that only it can read


def located(source: str, trust: bool) -> Located:
    """The source found, and a framework's object with its example arguments in this process."""
    from dragoman.source import locate

    return locate(opened(source), trust=trust)


def read(request: Mapping[str, Any]) -> dict[str, Any]:
    """Write everything that the targets of one source and one batch size are given; returns what the table tells.

    request: source, trust, specs, batch (None: as the example has it), forms by precision, folder, and the inputs of
    another source that this one is compared with.
    """
    from dragoman.ir.region import clone
    from dragoman.model import Model

    folder = Path(request["folder"])
    kind = located(request["source"], request["trust"]).kind
    model = _loaded(request)
    given = _shared(request["inputs"], model) if request["inputs"] else inputs_at(model, request["batch"])
    np.savez(
        folder / "inputs.npz", **{f"{i:04}:{n}": x for i, (n, x) in enumerate(zip(model.inputs, given, strict=True))}
    )
    answer: dict[str, Any] = {"kind": kind, "spec": model.spec, "nodes": len(model.graph), "files": {}, "refused": {}}
    answer["shapes"] = {n: f"{x.dtype}{list(x.shape)}" for n, x in zip(model.inputs, given, strict=True)}
    answer |= _truth(model, given, folder) | _floor(model, given)
    for precision, forms in request["forms"].items():
        for form in forms:
            key = f"{precision} {form}"
            try:
                if form == "given":
                    answer["files"][key] = str(Path(request["source"]).resolve())
                    continue
                copy = Model(clone(model.graph), model.source, model.spec, examples=model.examples)
                answer["files"][key] = str(_written(copy, folder / f"{precision}.{form}.onnx", form, precision))
            except Exception as error:  # a form that cannot be written is told in the rows of its targets
                answer["refused"][key] = f"{type(error).__name__}: {error}"[:500]
    return answer


def _loaded(request: Mapping[str, Any]) -> Model:
    from dragoman.model import load

    source, trust, specs = request["source"], request["trust"], request["specs"]
    model = load(opened(source), inputs=specs, trust=trust)
    if request["batch"] is None or _batch_symbols(model):
        return model
    leading = {n: t.shape[0] for n, t in model.inputs.items() if t.rank}
    common = next(iter(leading.values()), None)
    dynamic = {n: {0: "batch"} for n, extent in leading.items() if extent == common}
    if not dynamic or specs:
        raise UsageError("--batch: no input of this model has a batch; name it with --input x:f32[batch,…]")
    return load(opened(source), dynamic=dynamic, trust=trust)


def _batch_symbols(model: Model) -> set[str]:
    """Symbols that stand alone as the first extent of an input: `batch` if there is one of that name."""
    firsts = {str(t.shape[0]) for t in model.inputs.values() if t.rank} & set(model.graph.symbols())
    return {"batch"} & firsts or firsts


def inputs_at(model: Model, batch: int | None) -> list[Any]:
    """Input arrays: the example's own sizes and values, or realistic ones at another batch size."""
    from dragoman.ir.cases import Case, sizes_of
    from dragoman.ir.roles import input_roles

    known = dict(sizes_of(model.graph, model.examples) or {}) if model.examples else {}
    if batch is None and model.examples:
        return [np.asarray(x) for x in model.examples]
    declared = {n: s for v in model.graph.inputs for n, s in v.type.symbols().items()}
    sizes = {n: known.get(n, min(max(_LENGTH, s.low), s.high)) for n, s in declared.items()}
    for name in _batch_symbols(model):
        sizes[name] = batch or known.get(name, 1)
        if not declared[name].low <= sizes[name] <= declared[name].high:
            raise UsageError(f"--batch {batch}: {name} is {declared[name].low}..{declared[name].high} in this model")
    return list(Case(sizes).inputs(input_roles(model.graph)))


def _shared(path: str, model: Model) -> list[Any]:
    """The inputs that another source was given, for one that is compared with it. Raises UsageError."""
    with np.load(path, allow_pickle=False) as stored:
        given = [stored[name] for name in sorted(stored.files)]
    if len(given) != len(model.inputs):
        raise UsageError(f"{model.spec} takes {len(model.inputs)} inputs, the first source {len(given)}")
    return given


def _truth(model: Model, given: Sequence[Any], folder: Path) -> dict[str, Any]:
    """The outputs in float64: by the source where it has double precision, else by our interpreter."""
    from dragoman.ir.runner import GraphRunner

    said = []
    for runner in (model.source, GraphRunner(model.graph)):
        if runner is None:
            continue
        try:
            outputs = runner.run(given, double=True)
        except Exception as error:  # the next one is asked
            said.append(f"{runner.name}: {error}".splitlines()[0][:200])
            continue
        truth: dict[str, Any] = {f"{i:04}": np.asarray(x) for i, x in enumerate(outputs)}
        np.savez(folder / "truth.npz", **truth)
        return {"oracle": f"{runner.name} in float64"}
    return {"oracle": "", "no_oracle": "; ".join(said)}


def _floor(model: Model, given: Sequence[Any]) -> dict[str, Any]:
    from dragoman.bench.work import work_of
    from dragoman.ir.cases import sizes_of

    total = work_of(model.graph, sizes_of(model.graph, given) or {})
    return {"operations": total.operations, "bytes": total.bytes}


def _written(model: Model, path: Path, form: str, precision: str) -> Path:
    from dragoman.backends.onnx import save

    model.optimise(form)
    if precision != "f32":
        model.reduce(precision)
    return save(model.graph, path, contrib=form == "ort", overwrite=True).path


def handed_over(source: Any, folder: Path) -> str:
    """A source as text that another process can open: its name, or a file that holds the object.

    Raises UsageError for an object that cannot be pickled.
    """
    if isinstance(source, (str, Path)):
        return str(source)
    import pickle

    path = folder / f"source{PICKLED}"
    try:
        path.write_bytes(pickle.dumps(source))
    except Exception as error:
        raise UsageError(
            f"each target runs in a process of its own, and this source cannot be sent there ({error}): name a"
            " factory, 'package.module:factory'"
        ) from error
    return str(path)
