"""Dragoman's file in ONNX Runtime; variants are its providers."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, ClassVar

from dragoman.bench.target import Loaded, Target, Task

_SUFFIX = "ExecutionProvider"
_NO_DEVICE = {"CPU", "Azure"}  # the first is the variant without a name, the second calls a service


class OnnxRuntime(Target):
    """The file written with `--for ort`, all optimisations on."""

    name = "onnxruntime"
    needs = ("onnxruntime",)
    forms = ("ort",)
    reads: ClassVar[str] = "ort"

    def variants(self) -> Sequence[str]:
        """The CPU, then each other provider that this build of ONNX Runtime has."""
        from dragoman.backends.onnx.session import runtime

        found = [each.removesuffix(_SUFFIX) for each in runtime().get_available_providers()]
        return ("", *[each for each in found if each not in _NO_DEVICE])

    def load(self, task: Task) -> Loaded:
        """A session on as many threads as the task allows. Raises where the provider was asked for and is not used."""
        from dragoman.backends.onnx.session import runtime

        ort, path = runtime(), Path(task.files[self.reads])
        options = ort.SessionOptions()
        options.log_severity_level = 4
        options.intra_op_num_threads = task.threads
        wanted = f"{task.variant or 'CPU'}{_SUFFIX}"
        session = ort.InferenceSession(str(path), options, providers=[wanted])
        if session.get_providers()[0] != wanted:
            raise RuntimeError(f"{wanted} does not run here: ONNX Runtime fell back to {session.get_providers()[0]}")
        given = task.arrays()
        feeds = {i.name: given.get(i.name, x) for i, x in zip(session.get_inputs(), given.values(), strict=True)}

        def client() -> Callable[[], Any]:
            return lambda: session.run(None, feeds)

        return Loaded(client(), client=client, file=path)


TARGET = OnnxRuntime()
