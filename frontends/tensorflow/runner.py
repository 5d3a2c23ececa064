"""Runs the source model on NumPy arrays, in TensorFlow and in the model's own precision."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import tensorflow as tf

from dragoman.ir.errors import UsageError


class SourceRunner:
    """A traced function. Inputs come in the order of the graph's inputs, states among them, outputs likewise."""

    def __init__(
        self, concrete: Any, own: Sequence[str], inputs: Sequence[str], held: Mapping[str, Any], examples: list[Any]
    ) -> None:
        self.name = f"TensorFlow {tf.__version__}"
        self._concrete = concrete
        self._own = list(own)
        self._inputs = list(inputs)
        self._states = {n: held[n] for n in inputs if n not in own}
        self._examples = examples

    def examples(self) -> list[Any]:
        """Arrays in the order of the graph's inputs; none where the caller gave none."""
        if not self._examples:
            return []
        given = dict(zip(self._own, self._examples, strict=True))
        return [given[n] if n in given else np.asarray(self._states[n].read_value()) for n in self._inputs]

    def run(self, inputs: Sequence[Any], double: bool = False) -> list[Any]:
        """The outputs for these inputs. Raises UsageError for `double`: a graph computes in the types it declares."""
        if double:
            raise UsageError("a graph of TensorFlow computes in the types it declares, not in double precision")
        given = dict(zip(self._inputs, inputs, strict=True))
        before = {name: variable.read_value() for name, variable in self._states.items()}
        try:
            for name, variable in self._states.items():
                variable.assign(given[name])
            specs = self._concrete.inputs[: len(self._own)]
            tensors = [tf.constant(given[n], dtype=s.dtype) for n, s in zip(self._own, specs, strict=True)]
            results = self._concrete(*tensors)
            listed = list(results) if isinstance(results, (list, tuple)) else [results]
            return [np.asarray(r) for r in [*listed, *(v.read_value() for v in self._states.values())]]
        finally:
            for name, variable in self._states.items():
                variable.assign(before[name])

    def release(self) -> None:
        """Nothing is held beyond the model itself."""
