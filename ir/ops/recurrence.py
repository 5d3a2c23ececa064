"""What all recurrent layers share: checks, the loop over time, and its decomposition into `scan`.

Shapes: t time steps, b sequences, i inputs, h hidden units, d directions (2 for bidirectional). A sequence shorter than
t keeps its state from its last step on and gives zeros there; backwards it begins at its last step.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from dragoman.ir.dims import Dim, same
from dragoman.ir.op import (
    Arithmetic,
    Array,
    Op,
    OperandSample,
    TensorType,
    operand,
    require,
    same_dtype,
)
from dragoman.ir.types import I64, same_shape

if TYPE_CHECKING:
    from dragoman.ir.builder import Builder
    from dragoman.ir.graph import Value

DIRECTIONS = {"forward": (False,), "reverse": (True,), "bidirectional": (False, True)}

Step = Callable[[Array, list[Array]], list[Array]]
"""The next states from a step's projected input [b, g·h] and the states [b, h] before it; the first is given out."""


class Recurrent(Op):
    """Base of the family. `gates` is how many blocks of h rows the weights have."""

    direction: str = "forward"

    def layer(self, gates: int, x: TensorType, w: TensorType, r: TensorType) -> tuple[Dim, TensorType, TensorType]:
        """Check what all layers share; returns h and the types of the outputs over time and of a last state."""
        same_dtype(x, w, r)
        require(
            self.direction in DIRECTIONS,
            f"direction={self.direction!r} is none of {', '.join(DIRECTIONS)}",
        )
        require(x.dtype.is_float, f"a recurrent layer over {x.dtype}")
        require(x.rank == 3 and w.rank == 3 and r.rank == 3, "x, w and r need rank 3")
        count, (time, batch, features), hidden = (
            len(DIRECTIONS[self.direction]),
            x.shape,
            r.shape[-1],
        )
        for what, given, expected in (
            ("w", w, (count, hidden * gates, features)),
            ("r", r, (count, hidden * gates, hidden)),
        ):
            require(
                same_shape(given.shape, expected),
                f"{what} is {given}, not [{','.join(map(str, expected))}]",
            )
        return (
            hidden,
            x.with_shape((time, batch, hidden * count)),
            x.with_shape((count, batch, hidden)),
        )

    def biases(self, w: TensorType, *biases: TensorType | None) -> None:
        """Raise TypeRuleError unless each bias has a number for each row of each direction."""
        for bias in biases:
            same_dtype(w, bias)
            require(
                bias is None or same_shape(bias.shape, w.shape[:2]),
                f"a bias is {bias}, the weights have rows {w.shape}",
            )

    def starts(self, state: TensorType, lengths: TensorType | None, *initial: TensorType | None) -> None:
        """Raise TypeRuleError unless initial states and lengths have their shapes."""
        for given in initial:
            same_dtype(state, given)
            require(
                given is None or same_shape(given.shape, state.shape),
                f"an initial state is {given}, not {state}",
            )
        if lengths is not None:
            fits = lengths.dtype == I64 and lengths.rank == 1 and same(lengths.shape[0], state.shape[1])
            require(fits, f"lengths is {lengths}, not i64[{state.shape[1]}]")

    # ---- semantics -------------------------------------------------------------------------------------

    def unroll(
        self,
        m: Arithmetic,
        projected: Sequence[Array],
        steps: Sequence[Step],
        initial: Sequence[Array | None],
        hidden: int,
        lengths: Array | None,
    ) -> tuple[Array, ...]:
        """Outputs [t, b, d·h] and last states [d, b, h] from the projected inputs [t, b, g·h] of each direction."""
        outputs: list[Array] = []
        finals: list[list[Array]] = []
        for index, backwards in enumerate(DIRECTIONS[self.direction]):
            seen = projected[index]
            zeros = np.zeros((seen.shape[1], hidden), getattr(seen, "dtype", np.float64))
            states: list[Array] = [zeros if s is None else s[index] for s in initial]
            given: list[Array] = []
            order = range(seen.shape[0])
            for at in reversed(order) if backwards else order:
                new = steps[index](seen[at], states)
                alive = None if lengths is None else (at < lengths)[:, None]
                states = new if alive is None else [m.where(alive, n, s) for n, s in zip(new, states, strict=True)]
                given.append(states[0] if alive is None else m.where(alive, states[0], 0.0))
            if backwards:
                given.reverse()
            # With no step at all, the stack is an empty slice of the state.
            outputs.append(m.move(lambda *a: np.stack(a), *given) if given else states[0][None][:0])
            finals.append(states)
        y = m.move(lambda *a: np.concatenate(a, axis=-1), *outputs)
        return (
            y,
            *(m.move(lambda *a: np.stack(a), *column) for column in zip(*finals, strict=True)),
        )

    # ---- decomposition ---------------------------------------------------------------------------------

    def scanned(
        self,
        b: Builder,
        projected: Sequence[Value],
        steps: Sequence[Callable[..., list[Value]]],
        constants: Sequence[Sequence[Value]],
        initial: Sequence[Value | None],
        state: TensorType,
        lengths: Value | None,
    ) -> tuple[Value, ...]:
        """The same as `unroll` by the `scan` op; each `step(b, seen, states, *constants)` writes a direction's body."""
        outputs: list[Value] = []
        finals: list[list[Value]] = []
        for index, backwards in enumerate(DIRECTIONS[self.direction]):
            carries = [row(b, s, index) if s is not None else _zeros(b, state) for s in initial]
            results = _scan(b, projected[index], steps[index], constants[index], carries, lengths, backwards)
            finals.append(results[:-1])
            outputs.append(results[-1])
        y = outputs[0] if len(outputs) == 1 else b.concat(*outputs, axis=2)
        return (y, *(_stack(b, column) for column in zip(*finals, strict=True)))


def row(b: Builder, x: Value, index: int) -> Value:
    """x[index], the leading axis gone."""
    if x.type.shape[0] != 1:
        x = b.slice(x, axes=(0,), starts=(index,), stops=(index + 1,), steps=(1,))
    return b.reshape(x, shape=x.type.shape[1:])


def _stack(b: Builder, rows: Sequence[Value]) -> Value:
    """Rows along a new leading axis."""
    lifted = [b.reshape(row, shape=(1, *row.type.shape)) for row in rows]
    return lifted[0] if len(lifted) == 1 else b.concat(*lifted, axis=0)


def _zeros(b: Builder, state: TensorType) -> Value:
    return b.broadcast_to(b.const(0.0, state.dtype), shape=state.shape[1:])


def _scan(
    b: Builder,
    seen: Value,
    step: Callable[..., list[Value]],
    constants: Sequence[Value],
    carries: Sequence[Value],
    lengths: Value | None,
    backwards: bool,
) -> list[Value]:
    """One direction: the last states, then the outputs over time."""
    from dragoman.ir.builder import trace

    time = seen.type.shape[0]
    sequences = [seen] if lengths is None else [seen, b.iota(size=time)]
    invariants = [*constants, *([] if lengths is None else [lengths])]
    count = len(carries)

    def body(c: Builder, *values: Value) -> list[Value]:
        states, (element, *clock) = (
            list(values[:count]),
            values[count : count + len(sequences)],
        )
        rest = values[count + len(sequences) :]
        new = step(c, element, states, *rest[: len(constants)])
        if not clock:
            return [*new, new[0]]
        alive = c.reshape(c.less(clock[0], rest[-1]), shape=(states[0].type.shape[0], 1))
        kept = [c.where(alive, n, s) for n, s in zip(new, states, strict=True)]
        return [*kept, c.where(alive, kept[0], c.const(0.0, kept[0].type.dtype))]

    types = [v.type for v in carries]
    types += [v.type.with_shape(v.type.shape[1:]) for v in sequences]
    region = trace(body, *types, *(v.type for v in invariants))
    return list(
        b.scan(
            *carries,
            *sequences,
            *invariants,
            body=region,
            carries=count,
            length=time,
            reverse=backwards,
            invariants=len(invariants),
        )
    )


def project(m: Arithmetic, x: Array, w: Array, bias: Array | None) -> Array:
    """x·wᵀ + bias for one direction."""
    y = m.matmul(x, m.move(np.transpose, w))
    return y if bias is None else y + bias


def projections(b: Builder, x: Value, w: Value, bias: Value | None) -> list[Value]:
    """x·wᵀ + bias for each direction."""
    count = w.type.shape[0]
    assert isinstance(count, int)
    return [b.linear(x, row(b, w, i), None if bias is None else row(b, bias, i)) for i in range(count)]


def blocks(x: Array, count: int) -> list[Array]:
    """The last axis in equal parts."""
    width = x.shape[-1] // count
    return [x[..., i * width : (i + 1) * width] for i in range(count)]


def split_blocks(b: Builder, x: Value, count: int, hidden: Dim) -> list[Value]:
    """The last axis in `count` parts of `hidden`."""
    axis = x.type.rank - 1
    return [b.slice(x, axes=(axis,), starts=(hidden * i,), stops=(hidden * (i + 1),), steps=(1,)) for i in range(count)]


def sigmoid(m: Arithmetic, x: Array) -> Array:
    """The logistic function."""
    return 1 / (1 + m.exp(-x))


def layer_samples(gates: int) -> Iterable[tuple[list[OperandSample], dict[str, Any]]]:
    """x, w and r, with attributes, on which all layers are tested; t = 3, b = 2, i = 4, h = 2."""
    for direction, count in (("forward", 1), ("reverse", 1), ("bidirectional", 2)):
        shapes = ("[3,2,4]", f"[{count},{2 * gates},4]", f"[{count},{2 * gates},2]")
        yield (
            [operand("f32" + s, low=-1, high=1) for s in shapes],
            {"direction": direction},
        )


LENGTHS = operand("i64[2]", values=(2, 3))
