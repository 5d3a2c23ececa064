"""Recurrent layers: LSTM, GRU and the plain one, over time-first sequences, in one or both directions.

Shapes: t time steps, b sequences, i inputs, h hidden units, d directions (2 for bidirectional). A sequence shorter than
t keeps its state from its last step on and gives zeros there; backwards it begins at its last step.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

import numpy as np

from dragoman.ir.op import Arithmetic, Array, Sample, TensorType, require, sample
from dragoman.ir.ops.recurrence import (
    DIRECTIONS,
    LENGTHS,
    Recurrent,
    Step,
    blocks,
    layer_samples,
    project,
    projections,
    row,
    sigmoid,
    split_blocks,
)

if TYPE_CHECKING:
    from dragoman.ir.builder import Builder
    from dragoman.ir.graph import Value


class Lstm(Recurrent, name="lstm"):
    """Long short-term memory: c' = σ(f)·c + σ(i)·tanh(g), h' = σ(o)·tanh(c'), where i, f, g, o = x·wᵀ + h·rᵀ + bias.

    x: [t, b, i]   w: [d, 4h, i]   r: [d, 4h, h]   bias: [d, 4h]   h0, c0: [d, b, h], else zeros   lengths: i64[b]
    ->   outputs [t, b, d·h], last h and last c [d, b, h]. Rows in the order i, f, g, o, as torch has it.
    Hochreiter and Schmidhuber 1997, with the forget gate of Gers et al. 2000.
    """

    def infer(
        self,
        x: TensorType,
        w: TensorType,
        r: TensorType,
        bias: TensorType | None = None,
        h0: TensorType | None = None,
        c0: TensorType | None = None,
        lengths: TensorType | None = None,
    ) -> tuple[TensorType, TensorType, TensorType]:
        """Outputs and both states."""
        _, outputs, state = self.layer(4, x, w, r)
        self.biases(w, bias)
        self.starts(state, lengths, h0, c0)
        return outputs, state, state

    def reference(
        self,
        m: Arithmetic,
        x: Array,
        w: Array,
        r: Array,
        bias: Array | None = None,
        h0: Array | None = None,
        c0: Array | None = None,
        lengths: Array | None = None,
    ) -> tuple[Array, ...]:
        """Step by step."""

        def stepping(recurrent: Array) -> Step:
            def step(seen: Array, states: list[Array]) -> list[Array]:
                i, f, g, o = blocks(seen + m.matmul(states[0], recurrent), 4)
                cell = sigmoid(m, f) * states[1] + sigmoid(m, i) * m.special("tanh", g)
                return [sigmoid(m, o) * m.special("tanh", cell), cell]

            return step

        projected = [project(m, x, w[d], None if bias is None else bias[d]) for d in range(len(w))]
        steps = [stepping(m.move(np.transpose, r[d])) for d in range(len(r))]
        return self.unroll(m, projected, steps, (h0, c0), r.shape[-1], lengths)

    def decompose(
        self,
        b: Builder,
        x: Value,
        w: Value,
        r: Value,
        bias: Value | None = None,
        h0: Value | None = None,
        c0: Value | None = None,
        lengths: Value | None = None,
    ) -> tuple[Value, ...]:
        """The input projected at once, then a scan."""
        hidden, _, state = self.layer(4, x.type, w.type, r.type)

        def step(c: Builder, seen: Value, states: list[Value], recurrent: Value) -> list[Value]:
            i, f, g, o = split_blocks(c, c.add(seen, c.linear(states[0], recurrent)), 4, hidden)
            kept, added = c.mul(c.sigmoid(f), states[1]), c.mul(c.sigmoid(i), c.tanh(g))
            cell = c.add(kept, added)
            return [c.mul(c.sigmoid(o), c.tanh(cell)), cell]

        projected = projections(b, x, w, bias)
        constants = [[row(b, r, d)] for d in range(len(projected))]
        return self.scanned(b, projected, [step] * len(projected), constants, (h0, c0), state, lengths)

    @classmethod
    def samples(cls) -> Iterable[Sample]:
        """Each direction, with and without bias, states and lengths."""
        for layer, attributes in layer_samples(4):
            count = len(DIRECTIONS[attributes["direction"]])
            bias, state = f"f32[{count},8]", f"f32[{count},2,2]"
            yield sample(*layer, **attributes)
            yield sample(*layer, bias, state, state, **attributes)
            yield sample(*layer, bias, None, state, LENGTHS, **attributes)
        yield sample("f64[1,1,1]", "f64[1,4,1]", "f64[1,4,1]")
        yield sample("f32[0,2,3]", "f32[1,8,3]", "f32[1,8,2]")


class Gru(Recurrent, name="gru"):
    """Gated recurrent unit: h' = (1 − z)·n + z·h with r, z = σ(x·wᵀ + h·rᵀ + biases).

    x: [t, b, i]   w: [d, 3h, i]   r: [d, 3h, h]   bias_w, bias_r: [d, 3h]   h0: [d, b, h], else zeros   lengths: i64[b]
    ->   outputs [t, b, d·h], last h [d, b, h]. Rows in the order r, z, n, as torch has it. With `reset_after`
    n = tanh(x·wₙᵀ + r·(h·rₙᵀ + bias)), else n = tanh(x·wₙᵀ + (r·h)·rₙᵀ + bias). Cho et al. 2014 (arXiv:1406.1078).
    """

    reset_after: bool = True

    def infer(
        self,
        x: TensorType,
        w: TensorType,
        r: TensorType,
        bias_w: TensorType | None = None,
        bias_r: TensorType | None = None,
        h0: TensorType | None = None,
        lengths: TensorType | None = None,
    ) -> tuple[TensorType, TensorType]:
        """Outputs and the state."""
        _, outputs, state = self.layer(3, x, w, r)
        self.biases(w, bias_w, bias_r)
        self.starts(state, lengths, h0)
        return outputs, state

    def reference(
        self,
        m: Arithmetic,
        x: Array,
        w: Array,
        r: Array,
        bias_w: Array | None = None,
        bias_r: Array | None = None,
        h0: Array | None = None,
        lengths: Array | None = None,
    ) -> tuple[Array, ...]:
        """Step by step."""
        hidden = r.shape[-1]

        def stepping(recurrent: Array, bias: Array) -> Step:
            turned = m.move(np.transpose, recurrent)

            def after(seen: Array, states: list[Array]) -> list[Array]:
                inner = blocks(m.matmul(states[0], turned) + bias, 3)
                given = blocks(seen, 3)
                reset, update = (
                    sigmoid(m, given[0] + inner[0]),
                    sigmoid(m, given[1] + inner[1]),
                )
                new = m.special("tanh", given[2] + reset * inner[2])
                return [(1 - update) * new + update * states[0]]

            def before(seen: Array, states: list[Array]) -> list[Array]:
                given = seen + bias
                gates = given[..., : 2 * hidden] + m.matmul(states[0], turned[:, : 2 * hidden])
                reset, update = (sigmoid(m, g) for g in blocks(gates, 2))
                inner = m.matmul(reset * states[0], turned[:, 2 * hidden :])
                new = m.special("tanh", given[..., 2 * hidden :] + inner)
                return [(1 - update) * new + update * states[0]]

            return after if self.reset_after else before

        projected = [project(m, x, w[d], None if bias_w is None else bias_w[d]) for d in range(len(w))]
        steps = [stepping(r[d], 0.0 if bias_r is None else bias_r[d]) for d in range(len(r))]
        return self.unroll(m, projected, steps, (h0,), hidden, lengths)

    def decompose(
        self,
        b: Builder,
        x: Value,
        w: Value,
        r: Value,
        bias_w: Value | None = None,
        bias_r: Value | None = None,
        h0: Value | None = None,
        lengths: Value | None = None,
    ) -> tuple[Value, ...]:
        """The input projected at once, then a scan."""
        hidden, _, state = self.layer(3, x.type, w.type, r.type)

        def after(c: Builder, seen: Value, states: list[Value], recurrent: Value, *bias: Value) -> list[Value]:
            inner = split_blocks(c, c.linear(states[0], recurrent, *bias), 3, hidden)
            given = split_blocks(c, seen, 3, hidden)
            reset, update = (c.sigmoid(c.add(given[i], inner[i])) for i in (0, 1))
            return _blend(c, update, c.tanh(c.add(given[2], c.mul(reset, inner[2]))), states[0])

        def before(c: Builder, seen: Value, states: list[Value], recurrent: Value, *bias: Value) -> list[Value]:
            given = split_blocks(c, c.add(seen, *bias) if bias else seen, 3, hidden)
            rows = [
                c.slice(
                    recurrent,
                    axes=(0,),
                    starts=(hidden * i,),
                    stops=(hidden * (i + 1),),
                    steps=(1,),
                )
                for i in range(3)
            ]
            reset, update = (c.sigmoid(c.add(given[i], c.linear(states[0], rows[i]))) for i in (0, 1))
            return _blend(
                c,
                update,
                c.tanh(c.add(given[2], c.linear(c.mul(reset, states[0]), rows[2]))),
                states[0],
            )

        projected = projections(b, x, w, bias_w)
        constants = [[row(b, v, d) for v in (r, bias_r) if v is not None] for d in range(len(projected))]
        step = after if self.reset_after else before
        return self.scanned(b, projected, [step] * len(projected), constants, (h0,), state, lengths)

    @classmethod
    def samples(cls) -> Iterable[Sample]:
        """Each direction, the reset before and after the product, with and without biases, state and lengths."""
        for layer, attributes in layer_samples(3):
            count = len(DIRECTIONS[attributes["direction"]])
            bias, state = f"f32[{count},6]", f"f32[{count},2,2]"
            yield sample(*layer, **attributes)
            yield sample(*layer, bias, bias, state, **attributes)
            yield sample(*layer, bias, bias, state, LENGTHS, **attributes, reset_after=False)
        yield sample("f64[1,1,1]", "f64[1,3,1]", "f64[1,3,1]", "f64[1,3]", reset_after=False)


def _blend(b: Builder, update: Value, new: Value, state: Value) -> list[Value]:
    """(1 − update)·new + update·state."""
    one = b.const(1.0, update.type.dtype)
    return [b.add(b.mul(b.sub(one, update), new), b.mul(update, state))]


class Rnn(Recurrent, name="rnn"):
    """The plain recurrent layer: h' = tanh(x·wᵀ + h·rᵀ + bias), or relu. Elman 1990.

    x: [t, b, i]   w: [d, h, i]   r: [d, h, h]   bias: [d, h]   h0: [d, b, h], else zeros   lengths: i64[b]
    ->   outputs [t, b, d·h], last h [d, b, h]
    """

    activation: str = "tanh"

    def infer(
        self,
        x: TensorType,
        w: TensorType,
        r: TensorType,
        bias: TensorType | None = None,
        h0: TensorType | None = None,
        lengths: TensorType | None = None,
    ) -> tuple[TensorType, TensorType]:
        """Outputs and the state."""
        require(
            self.activation in ("tanh", "relu"),
            f"activation={self.activation!r} is neither tanh nor relu",
        )
        _, outputs, state = self.layer(1, x, w, r)
        self.biases(w, bias)
        self.starts(state, lengths, h0)
        return outputs, state

    def reference(
        self,
        m: Arithmetic,
        x: Array,
        w: Array,
        r: Array,
        bias: Array | None = None,
        h0: Array | None = None,
        lengths: Array | None = None,
    ) -> tuple[Array, ...]:
        """Step by step."""

        def stepping(recurrent: Array) -> Step:
            def step(seen: Array, states: list[Array]) -> list[Array]:
                total = seen + m.matmul(states[0], recurrent)
                return [m.special("tanh", total) if self.activation == "tanh" else m.maximum(total, 0.0)]

            return step

        projected = [project(m, x, w[d], None if bias is None else bias[d]) for d in range(len(w))]
        steps = [stepping(m.move(np.transpose, r[d])) for d in range(len(r))]
        return self.unroll(m, projected, steps, (h0,), r.shape[-1], lengths)

    def decompose(
        self,
        b: Builder,
        x: Value,
        w: Value,
        r: Value,
        bias: Value | None = None,
        h0: Value | None = None,
        lengths: Value | None = None,
    ) -> tuple[Value, ...]:
        """The input projected at once, then a scan."""
        state = self.layer(1, x.type, w.type, r.type)[2]

        def step(c: Builder, seen: Value, states: list[Value], recurrent: Value) -> list[Value]:
            total = c.add(seen, c.linear(states[0], recurrent))
            return [c.tanh(total) if self.activation == "tanh" else c.relu(total)]

        projected = projections(b, x, w, bias)
        constants = [[row(b, r, d)] for d in range(len(projected))]
        return self.scanned(b, projected, [step] * len(projected), constants, (h0,), state, lengths)

    @classmethod
    def samples(cls) -> Iterable[Sample]:
        """Each direction, both activations, with and without bias, state and lengths."""
        for layer, attributes in layer_samples(1):
            count = len(DIRECTIONS[attributes["direction"]])
            yield sample(*layer, **attributes)
            yield sample(
                *layer,
                f"f32[{count},2]",
                f"f32[{count},2,2]",
                LENGTHS,
                **attributes,
                activation="relu",
            )
