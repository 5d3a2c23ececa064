"""What a target of a benchmark is, and where targets come from.

A target is one class in one file: what it needs, which sources it takes, and how it makes a model ready to run.
Those of this package are the files of `dragoman/bench/targets`; others are entry points of the group
`dragoman.bench_targets`.
A target is loaded in a process of its own and never meets another framework there.
"""

from __future__ import annotations

import pkgutil
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from importlib import import_module, metadata
from importlib.util import find_spec
from pathlib import Path
from typing import Any, ClassVar

import numpy as np

from dragoman.ir.errors import UsageError

GROUP = "dragoman.bench_targets"
Array = np.ndarray[Any, np.dtype[Any]]


@dataclass(frozen=True)
class Task:
    """What a target is to run. Paths are absolute; `inputs` and `files` were written before any target started.

    source     as the user named it, or the path of a pickle of the object that was given
    kind       what it is: "module", "exported", "directory", "jax", "artefact", "onnx", …
    inputs     an .npz of the input arrays, in the order and under the names of the model's inputs
    files      ONNX files by form: "portable" and "ort" are Dragoman's, "given" is the source itself
    threads    how many the target may use
    variant    which of its variants, such as a provider of ONNX Runtime or an architecture
    """

    source: str
    kind: str
    inputs: str
    files: Mapping[str, str] = field(default_factory=dict[str, str])
    precision: str = "f32"
    threads: int = 1
    variant: str = ""
    trust: bool = False
    folder: str = ""

    def arrays(self) -> dict[str, Array]:
        """The inputs by name."""
        with np.load(self.inputs, allow_pickle=False) as stored:
            return {name.partition(":")[2]: stored[name] for name in sorted(stored.files)}

    def model(self) -> Any:
        """The source read by Dragoman, with these inputs as its example."""
        from dragoman.bench.reading import opened
        from dragoman.model import load

        return load(opened(self.source), tuple(self.arrays().values()) if self.kind == "onnx" else (), trust=self.trust)


@dataclass(frozen=True)
class Loaded:
    """A model ready to run on the task's inputs.

    run      one inference, complete when it returns; None for a target that only compiles
    arrays   its result as NumPy arrays in the order of the model's outputs
    client   makes a `run` for one more thread that runs at the same time
    file     what was loaded from disk, for its size
    said     what a reader should know, such as how many threads were really used
    """

    run: Callable[[], Any] | None
    arrays: Callable[[Any], Sequence[Array]] = lambda result: [np.asarray(x) for x in result]
    client: Callable[[], Callable[[], Any]] | None = None
    file: Path | None = None
    said: str = ""
    device_bytes: Callable[[], int] | None = None


class Target:
    """Base of targets. Class attributes tell what a target is; `load` does the work, in the target's own process."""

    name: ClassVar[str]
    needs: ClassVar[tuple[str, ...]] = ()  # modules
    install: ClassVar[str] = ""  # what to tell pip where they are missing
    kinds: ClassVar[tuple[str, ...] | None] = None  # of sources that it takes; None: any
    forms: ClassVar[tuple[str, ...]] = ()  # of ONNX files that it reads
    precisions: ClassVar[tuple[str, ...]] = ("f32", "f16", "bf16")
    always: ClassVar[bool] = True  # measured without being asked for
    as_is: ClassVar[bool] = (
        False  # runs the source as it is: such targets come first, and others are compared with them
    )

    def missing(self) -> str:
        """What is not there that it needs, and how to get it; empty where it can run."""
        absent = [each for each in self.needs if find_spec(each) is None]
        return f"needs {' and '.join(absent)}: pip install {self.install or ' '.join(absent)}" if absent else ""

    def variants(self) -> Sequence[str]:
        """The variants that are found here; the one without a name comes first, if there is one."""
        return ("",)

    def declines(self, kind: str) -> str:
        """Why it does not take sources of this kind; empty where it does."""
        if self.kinds is None or kind in self.kinds:
            return ""
        return f"takes {' and '.join(self.kinds)} sources, this one is of kind {kind}"

    def load(self, task: Task) -> Loaded:
        """The model, ready. What it raises is told in the target's row, and the others go on."""
        raise NotImplementedError


def targets() -> dict[str, Target]:
    """Every target by name: this package's in the order of their files, then those of entry points.

    Raises UsageError for an entry point that is no target.
    """
    from dragoman.bench import targets as own

    found: dict[str, Target] = {}
    for module in sorted(pkgutil.iter_modules(own.__path__), key=lambda m: m.name):
        target = import_module(f"{own.__name__}.{module.name}").TARGET
        found[target.name] = target
    for point in metadata.entry_points(group=GROUP):
        try:
            target = point.load()
        except Exception as error:
            raise UsageError(
                f"the benchmark target {point.name!r} ({point.value}) cannot be imported: {error}"
            ) from error
        target = target() if isinstance(target, type) else target
        if not isinstance(target, Target):
            raise UsageError(f"the entry point {point.name!r} ({point.value}) is no Target")
        found.setdefault(target.name, target)
    return dict(sorted(found.items(), key=lambda item: not item[1].as_is))


def chosen(names: Sequence[str] | None) -> list[tuple[Target, str]]:
    """Targets with variants by name, such as `onnxruntime:cuda`; all that are measured unasked for None.

    Raises UsageError for a name that there is not.
    """
    known = targets()
    if names is None:
        return [(t, v) for t in known.values() if t.always for v in _found_variants(t)]
    picked: list[tuple[Target, str]] = []
    for name in names:
        target = known.get(name.partition(":")[0])
        if target is None:
            there = ", ".join(n for n, t in known.items() if t.always)
            raise UsageError(f"there is no target {name!r}; there is {there}")
        picked.append((target, name.partition(":")[2]))
    return picked


def _found_variants(target: Target) -> Sequence[str]:
    return ("",) if target.missing() else target.variants()
