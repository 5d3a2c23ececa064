"""Faults in the form of a result: order, names, number, dtypes and shapes of outputs, inputs mixed up."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from dragoman.ir.equivalence import GraphRunner, compare
from dragoman.ir.graph import Graph
from tests.faults import hosts
from tests.faults.mutants import Outcome, judged


@dataclass(frozen=True)
class FormFault:
    """A candidate whose results, inputs or names are handled wrongly; `where` is what the report must name."""

    name: str
    host: Callable[[], Graph]
    where: str
    outputs: Callable[[list[Any]], list[Any]] = lambda outputs: outputs
    inputs: Callable[[list[Any]], list[Any]] = lambda inputs: inputs
    names: Callable[[Sequence[str]], Sequence[str]] = lambda names: names


class _Candidate(GraphRunner):
    def __init__(self, graph: Graph, fault: FormFault) -> None:
        super().__init__(graph, "the faulty model")
        self._fault = fault

    @property
    def output_names(self) -> tuple[str, ...]:
        return tuple(self._fault.names(super().output_names))

    def run(self, inputs: Sequence[Any], double: bool = False) -> list[Any]:
        return self._fault.outputs(super().run(self._fault.inputs(list(inputs)), double))


def _replaced(index: int, change: Callable[[Any], Any]) -> Callable[[list[Any]], list[Any]]:
    return lambda outputs: [change(x) if i == index else x for i, x in enumerate(outputs)]


def _one_element(x: Any) -> Any:
    changed = np.array(x)
    changed.reshape(-1)[-1] += changed.dtype.type(1)
    return changed


def _through_f16(x: Any) -> Any:
    return x.astype(np.float16).astype(np.float32)


def _first_repeated(x: Any) -> Any:
    return np.repeat(x[:1], len(x), axis=0)


FORM_FAULTS = [
    FormFault("outputs in another order", hosts.recurrent, "output", lambda o: [o[1], o[0], *o[2:]]),
    FormFault("two outputs of one type exchanged", hosts.recurrent, "output2", lambda o: [*o[:2], o[3], o[2]]),
    FormFault("a wrong output name", hosts.embedded, "outputs", names=lambda n: ["logits", *n[1:]]),
    FormFault("output names in another order", hosts.embedded, "outputs", names=lambda n: n[::-1]),
    FormFault("an output dropped", hosts.embedded, "2 outputs", lambda o: o[:2]),
    FormFault("an output twice", hosts.embedded, "4 outputs", lambda o: [*o, o[0]]),
    FormFault("indices as i32", hosts.embedded, "output1", _replaced(1, lambda x: x.astype(np.int32))),
    FormFault("numbers as f64", hosts.embedded, "output0", _replaced(0, lambda x: x.astype(np.float64))),
    FormFault("numbers that went through f16", hosts.embedded, "output0", _replaced(0, _through_f16)),
    FormFault("an axis too many", hosts.embedded, "output0", _replaced(0, lambda x: x[None])),
    FormFault("axes exchanged", hosts.causal, "output0", _replaced(0, lambda x: np.swapaxes(x, -1, -2))),
    FormFault("one index off by one", hosts.embedded, "output1", _replaced(1, _one_element)),
    FormFault("infinities made finite", hosts.spelled_attention, "output0", _replaced(0, np.nan_to_num)),
    FormFault("one element wrong", hosts.normed, "output0", _replaced(0, _one_element)),
    FormFault("queries and keys exchanged", hosts.pointwise, "output0", inputs=lambda i: i[::-1]),
    FormFault("a mask that is ignored", hosts.embedded, "output0", inputs=lambda i: [i[0], np.ones_like(i[1])]),
    FormFault("every result the first one's", hosts.reduced, "output0", _replaced(0, _first_repeated)),
]


def form_trials() -> Iterator[tuple[str, Callable[[], Outcome]]]:
    """Each fault with what runs it."""
    for fault in FORM_FAULTS:
        yield fault.name, lambda fault=fault: _trial(fault)


def _trial(fault: FormFault) -> Outcome:
    graph = fault.host()
    report = compare(graph, GraphRunner(graph, "the right model"), _Candidate(graph, fault))
    return judged(fault.name, report, fault.where)
