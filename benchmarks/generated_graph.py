"""Graphs of any size, generated: what a large network is made of, with work for every pass.

Owns the blocks: matmuls with weights, attention, norms whole and spelled out, pointwise chains, moves that undo each
other, things computed twice, arithmetic on weights that folds, slices and joins. Several streams run side by side, so
the graph is both deep and wide; each ends in an output. The same size and seed give the same graph.
"""

from __future__ import annotations

import random
from collections.abc import Callable

import numpy as np

from dragoman.ir.builder import Builder
from dragoman.ir.graph import Graph, Value
from dragoman.ir.types import F32, I64, parse_type
from dragoman.ir.weights import ArrayWeight

STREAMS = 8
ROWS, WIDTH, HEADS = 8, 32, 4
_POOL = 1 << 20  # random numbers that weights are windows of: each differs, none costs memory of its own


class Maker:
    """Adds blocks to a graph. Every block takes and gives f32[batch, ROWS, WIDTH]."""

    def __init__(self, seed: int) -> None:
        self.graph = Graph("generated")
        self.b = Builder(self.graph)
        self.chance = random.Random(seed)
        self._pool = np.random.default_rng(seed).standard_normal(_POOL).astype(np.float32)
        self._at = 0

    def weight(self, *shape: int, scale: float | None = None) -> Value:
        """A weight of normal numbers; by default such that a matmul keeps its operand's size."""
        count = int(np.prod(shape))
        self._at = (self._at + 1) % (_POOL - count)
        values = self._pool[self._at : self._at + count].reshape(shape)
        factor = np.float32(scale if scale is not None else shape[-1] ** -0.5)
        return self.graph.add_weight(f"w{len(self.graph.weights)}", ArrayWeight(values * factor))

    def feed_forward(self, x: Value) -> Value:
        """x + linear(gelu(linear(x)))"""
        hidden = self.b.gelu(self.b.linear(x, self.weight(WIDTH, WIDTH), self.weight(WIDTH, scale=0.1)))
        return self.b.add(x, self.b.linear(hidden, self.weight(WIDTH, WIDTH), self.weight(WIDTH, scale=0.1)))

    def attention(self, x: Value) -> Value:
        """Softmax attention over the rows, spelled out."""
        batch = x.type.shape[0]
        q, k, v = (self._heads(self.b.linear(x, self.weight(WIDTH, WIDTH))) for _ in range(3))
        scores = self.b.mul(self.b.matmul(q, self.b.transpose(k, perm=(0, 1, 3, 2))), (WIDTH // HEADS) ** -0.5)
        mixed = self.b.transpose(self.b.matmul(self.b.softmax(scores, axis=3), v), perm=(0, 2, 1, 3))
        return self.b.add(x, self.b.reshape(mixed, shape=(batch, ROWS, WIDTH)))

    def _heads(self, x: Value) -> Value:
        split = self.b.reshape(x, shape=(x.type.shape[0], ROWS, HEADS, WIDTH // HEADS))
        return self.b.transpose(split, perm=(0, 2, 1, 3))

    def norm(self, x: Value) -> Value:
        """A layer norm kept whole."""
        scale, bias = self.weight(WIDTH, scale=0.5), self.weight(WIDTH, scale=0.1)
        return self.b.layer_norm(x, scale, bias, axis=2, epsilon=1e-5)

    def spelled_norm(self, x: Value) -> Value:
        """The same as frameworks spell it out."""
        centred = self.b.sub(x, self.b.reduce_mean(x, axes=(2,), keepdims=True))
        variance = self.b.reduce_mean(self.b.power(centred, 2.0), axes=(2,), keepdims=True)
        return self.b.div(centred, self.b.sqrt(self.b.add(variance, 1e-5)))

    def pointwise(self, x: Value) -> Value:
        """A chain of activations."""
        y = self.b.mul(x, self.b.sigmoid(self.b.mul(x, 1.702)))
        return self.b.tanh(self.b.add(self.b.mul(y, 0.5), self.b.relu(x)))

    def idle_moves(self, x: Value) -> Value:
        """Moves that undo each other."""
        y = self.b.transpose(self.b.transpose(x, perm=(0, 2, 1)), perm=(0, 2, 1))
        flat = self.b.reshape(y, shape=(y.type.shape[0], ROWS * WIDTH))
        return self.b.add(self.b.reshape(flat, shape=y.type.shape), 0.0)

    def folded(self, x: Value) -> Value:
        """A matmul with a matrix computed from weights."""
        matrix = self.b.add(self.b.mul(self.weight(WIDTH, WIDTH), 0.5), self.weight(WIDTH, WIDTH))
        return self.b.matmul(x, self.b.transpose(matrix, perm=(1, 0)))

    def twice(self, x: Value) -> Value:
        """The same thing computed twice."""
        left, right = (self.b.tanh(self.b.mul(x, 0.25)) for _ in range(2))
        return self.b.add(x, self.b.mul(left, right))

    def choose(self, x: Value) -> Value:
        """A comparison and a selection."""
        return self.b.where(self.b.greater(x, 0.1), x, self.b.neg(self.b.abs(x)))

    def halves(self, x: Value) -> Value:
        """Cut in two, one half changed, joined again."""
        batch = x.type.shape[0]
        half = ROWS // 2
        first = self.b.slice(x, axes=(1,), starts=(0,), stops=(half,), steps=(1,))
        second = self.b.slice(x, axes=(1,), starts=(half,), stops=(ROWS,), steps=(1,))
        return self.b.reshape(self.b.concat(self.b.neg(first), second, axis=1), shape=(batch, ROWS, WIDTH))

    def rows(self, x: Value) -> Value:
        """Rows in another order, by a constant index."""
        order = np.asarray(self.chance.sample(range(ROWS), ROWS), np.int64)
        index = self.graph.add_weight(f"order{len(self.graph.weights)}", ArrayWeight(order))
        assert index.type.dtype is I64
        return self.b.take(x, index, axis=1)


BLOCKS: tuple[tuple[Callable[[Maker, Value], Value], int], ...] = (
    (Maker.feed_forward, 4),
    (Maker.attention, 1),
    (Maker.norm, 6),
    (Maker.spelled_norm, 2),
    (Maker.pointwise, 2),
    (Maker.idle_moves, 2),
    (Maker.folded, 2),
    (Maker.twice, 2),
    (Maker.choose, 2),
    (Maker.halves, 1),
    (Maker.rows, 1),
)
"""Each block and how often it is drawn."""


def generate(nodes: int, seed: int = 0) -> Graph:
    """A graph of at least so many nodes, and hardly more."""
    maker = Maker(seed)
    start = maker.graph.add_input(parse_type(f"f32[batch,{ROWS},{WIDTH}]"), "x")
    streams = [start] * STREAMS
    drawn, often = zip(*BLOCKS, strict=True)
    while len(maker.graph) < nodes:
        block = maker.chance.choices(drawn, often)[0]
        at = maker.chance.randrange(STREAMS)
        streams[at] = block(maker, streams[at])
        if maker.chance.random() < 0.02:  # streams meet
            other = maker.chance.randrange(STREAMS)
            streams[at] = maker.norm(maker.b.add(streams[at], streams[other]))
    assert streams[0].type.dtype is F32
    maker.graph.set_outputs([maker.norm(s) for s in streams], [f"stream{i}" for i in range(STREAMS)])
    return maker.graph
