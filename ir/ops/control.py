"""Control flow: a choice, a loop while a condition holds, and a loop over the leading axis of sequences.

The bodies are sub-graphs that capture nothing: all they need is passed as operands. Their weights are operands too.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any

import numpy as np

from dragoman.ir.dims import Dim, bounds, same, substitute
from dragoman.ir.errors import TypeRuleError
from dragoman.ir.graph import Graph
from dragoman.ir.op import Arithmetic, Array, Op, Sample, TensorType, operand, require, sample
from dragoman.ir.types import BOOL, F32, I64, same_type

Run = Callable[[Graph, Sequence[Array]], "list[Array]"]


def _takes(what: str, region: Graph, given: Sequence[TensorType]) -> None:
    """Raise TypeRuleError unless the region's inputs have these types."""
    require(
        len(region.inputs) == len(given),
        f"{what} takes {len(region.inputs)} operand(s), it would be given {len(given)}",
    )
    for value, type in zip(region.inputs, given, strict=True):
        require(same_type(value.type, type), f"{what} takes {value.name}: {value.type}, it would be given {type}")


def _agree(what: str, types: Sequence[TensorType], other: str, others: Sequence[TensorType]) -> None:
    """Raise TypeRuleError unless two lists of types are the same."""
    require(len(types) == len(others), f"{what} gives {len(types)} result(s), {other} {len(others)}")
    for index, (a, b) in enumerate(zip(types, others, strict=True)):
        require(same_type(a, b), f"result {index} of {what} is {a}, of {other} {b}")


def _results(region: Graph) -> list[TensorType]:
    return [v.type for v in region.outputs]


def _is_flag(type: TensorType) -> bool:
    return type.dtype == BOOL and type.rank == 0


class Cond(Op, name="cond"):
    """The results of `then` if the predicate holds, else those of `orelse`; only the one chosen runs.

    predicate: bool[]   operands: the inputs of both regions
    """

    then: Graph
    orelse: Graph

    def infer(self, predicate: TensorType, *operands: TensorType) -> tuple[TensorType, ...]:
        """Both regions take the operands and agree in their results."""
        require(_is_flag(predicate), f"the predicate is {predicate}, not bool[]")
        _takes("then", self.then, operands)
        _takes("orelse", self.orelse, operands)
        results = _results(self.then)
        _agree("then", results, "orelse", _results(self.orelse))
        return tuple(results)

    def reference(self, m: Arithmetic, predicate: Array, *operands: Array, run: Run) -> list[Array]:
        """Run the region chosen."""
        return run(self.then if bool(predicate) else self.orelse, operands)

    @classmethod
    def samples(cls) -> Iterable[Sample]:
        """Each branch, one and two results."""
        from dragoman.ir.builder import trace

        x = TensorType(F32, (2, 3))
        double = trace(lambda b, a, c: [b.add(a, a), c], x, x)
        product = trace(lambda b, a, c: [b.mul(a, c), a], x, x)
        for flag in (True, False):
            predicate = operand("bool[]", values=(flag,))
            yield sample(predicate, "f32[2,3]", "f32[2,3]", then=double, orelse=product)
        yield sample("bool[]", then=trace(lambda b: b.const(1, I64)), orelse=trace(lambda b: b.const(2, I64)))


class WhileLoop(Op, name="while_loop"):
    """Replace the state by `body(state)` as long as `condition(state)` holds; the result is the last state.

    operands: the state, then `invariants` values that both regions see after the state and that never change.
    """

    condition: Graph
    body: Graph
    invariants: int = 0

    def infer(self, *operands: TensorType) -> tuple[TensorType, ...]:
        """The body gives back what it takes; the condition gives a bool[]."""
        require(0 <= self.invariants <= len(operands), f"invariants={self.invariants} of {len(operands)} operand(s)")
        _takes("condition", self.condition, operands)
        _takes("body", self.body, operands)
        verdict = _results(self.condition)
        require(len(verdict) == 1 and _is_flag(verdict[0]), f"the condition gives {verdict}, not one bool[]")
        state = operands[: len(operands) - self.invariants]
        _agree("body", _results(self.body), "the state", state)
        return tuple(state)

    def reference(self, m: Arithmetic, *operands: Array, run: Run) -> list[Array]:
        """As it says."""
        count = len(operands) - self.invariants
        state, invariants = list(operands[:count]), operands[count:]
        while bool(run(self.condition, [*state, *invariants])[0]):
            state = run(self.body, [*state, *invariants])
        return state

    @classmethod
    def samples(cls) -> Iterable[Sample]:
        """Some turns and none."""
        from dragoman.ir.builder import trace

        count, x = TensorType(I64, ()), TensorType(F32, (3,))
        condition = trace(lambda b, i, a, s: b.less(i, 4), count, x, x)
        body = trace(lambda b, i, a, s: [b.add(i, 1), b.add(b.mul(a, s), s)], count, x, x)
        for start in (0, 9):
            counter = operand("i64[]", values=(start,))
            yield sample(counter, "f32[3]", "f32[3]", condition=condition, body=body, invariants=1)


class Scan(Op, name="scan"):
    """A loop over the leading axis of sequences that hands carries from turn to turn and stacks what each turn gives.

    operands: `carries` values, then sequences [length, …], then `invariants` values that never change
    body: (carries, one element […] of each sequence, invariants)   ->   (carries, stacked elements)
    results: the last carries, then each stacked element as [length, …]
    With `reverse` the turns go from the last element to the first; elements are stacked at the place they belong to.
    """

    body: Graph
    carries: int
    length: Dim
    reverse: bool = False
    invariants: int = 0

    def infer(self, *operands: TensorType) -> tuple[TensorType, ...]:
        """Carries keep their types; sequences have the length."""
        carries, sequences, invariants = self._parts(operands)
        require(bounds(self.length)[1] >= 0, f"length={self.length} is negative")
        for type in sequences:
            require(
                type.rank >= 1 and same(type.shape[0], self.length),
                f"the sequence {type} does not have the length {self.length}",
            )
        elements = [t.with_shape(t.shape[1:]) for t in sequences]
        _takes("body", self.body, [*carries, *elements, *invariants])
        results = _results(self.body)
        require(len(results) >= self.carries, f"body gives {len(results)} results for {self.carries} carries")
        _agree("body", results[: self.carries], "the carries", carries)
        stacked = [t.with_shape((self.length, *t.shape)) for t in results[self.carries :]]
        return (*carries, *stacked)

    def _parts(self, operands: Sequence[Any]) -> tuple[list[Any], list[Any], list[Any]]:
        """Carries, sequences and invariants."""
        end = len(operands) - self.invariants
        if not (0 <= self.carries <= end and self.invariants >= 0):
            raise TypeRuleError(
                f"{len(operands)} operand(s) for {self.carries} carries and {self.invariants} invariants"
            )
        return list(operands[: self.carries]), list(operands[self.carries : end]), list(operands[end:])

    def reference(self, m: Arithmetic, *operands: Array, run: Run) -> list[Array]:
        """As it says."""
        carries, sequences, invariants = self._parts(operands)
        length = int(self.length)
        given: list[list[Array]] = []
        for at in reversed(range(length)) if self.reverse else range(length):
            results = run(self.body, [*carries, *(s[at] for s in sequences), *invariants])
            carries = results[: self.carries]
            given.append(results[self.carries :])
        if self.reverse:
            given.reverse()
        if not given:
            shapes = [x.shape for x in carries] + [x.shape[1:] for x in sequences] + [x.shape for x in invariants]
            return [*carries, *self._nothing(m, shapes)]
        return [*carries, *(m.move(lambda *a: np.stack(a), *column) for column in zip(*given, strict=True))]

    def _nothing(self, m: Arithmetic, shapes: Sequence[tuple[int, ...]]) -> Iterable[Array]:
        """The stacked results of no turns, whose extents follow from the shapes of the body's inputs."""
        from dragoman.ir.interpreter import bind_shape

        known: dict[str, int] = {}
        for value, shape in zip(self.body.inputs, shapes, strict=True):
            known = bind_shape(value.type, shape, known, value.name)
        for type in _results(self.body)[self.carries :]:
            extents = (substitute(d, known) for d in type.shape)
            # An extent that only a turn would have told is 0: there is no element to contradict it.
            shape = (0, *(d if isinstance(d, int) else 0 for d in extents))
            yield m.embed(np.zeros(shape, type.dtype.numpy), type.dtype)

    @classmethod
    def samples(cls) -> Iterable[Sample]:
        """Forwards, backwards, no turns, without carries, with an invariant."""
        from dragoman.ir.builder import trace

        x = TensorType(F32, (3,))

        def step(b: Any, total: Any, seen: Any, weight: Any) -> list[Any]:
            total = b.add(b.mul(total, weight), seen)
            return [total, b.neg(total), b.mul(seen, weight)]

        body = trace(step, x, x, x)
        for length, reverse in ((5, False), (5, True), (1, False), (0, False)):
            operands = ("f32[3]", f"f32[{length},3]", "f32[3]")
            yield sample(*operands, body=body, carries=1, length=length, reverse=reverse, invariants=1)
        yield sample("f32[4,3]", body=trace(lambda b, a: b.neg(a), x), carries=0, length=4)
        yield sample("f32[3]", body=trace(lambda b, a: b.add(a, a), x), carries=1, length=3)
