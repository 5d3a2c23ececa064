"""Small models for faults to live in: ops among neighbours, dynamic dims, random weights, a module path per node."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from dragoman.ir.builder import Builder
from dragoman.ir.graph import Graph, Value
from dragoman.ir.provenance import Provenance, Source
from dragoman.ir.types import parse_type
from dragoman.ir.weights import ArrayWeight

Body = Callable[..., Any]


class Scope:
    """The builder of a host, and its weights."""

    def __init__(self, graph: Graph) -> None:
        self.graph = graph
        self.b = Builder(graph)
        self.rng = np.random.default_rng(11)

    def weight(self, *shape: int, low: float | None = None, dtype: Any = np.float32) -> Value:
        """Normal numbers, or uniform ones from `low` to `low + 1`."""
        numbers = self.rng.standard_normal(shape) if low is None else self.rng.uniform(low, low + 1, shape)
        return self.array(numbers.astype(dtype))

    def array(self, values: Any) -> Value:
        """A weight with these values."""
        return self.graph.add_weight(f"w{len(self.graph.weights)}", ArrayWeight(np.asarray(values)))


def host(*inputs: str, names: Sequence[str] | None = None) -> Callable[[Body], Callable[[], Graph]]:
    """A model from `body(b, scope, *inputs)`. Node i of op `o` is in the module `name.o_i`."""

    def make(body: Body) -> Callable[[], Graph]:
        def build() -> Graph:
            graph = Graph(body.__name__)
            scope = Scope(graph)
            values = [graph.add_input(parse_type(t), names[i] if names else f"x{i}") for i, t in enumerate(inputs)]
            results = body(scope.b, scope, *values)
            graph.set_outputs([results] if isinstance(results, Value) else list(results))
            for number, node in enumerate(graph):
                module = f"{body.__name__}.{node.op.name}_{number}"
                node.provenance = Provenance((Source(f"test.{node.op.name}", module, f"hosts.py:{number}"),))
            return graph

        build.__name__ = body.__name__
        return build

    return make


@host("f32[batch,seq,16]")
def normed(b: Any, s: Scope, x: Value) -> Value:
    h = b.layer_norm(x, s.weight(16, low=0.5), s.weight(16), axis=-1, epsilon=1e-5)
    h = b.linear(h, s.weight(16, 16), s.weight(16))
    h = b.gelu(h)
    h = b.rms_norm(h, s.weight(16, low=0.5), axis=-1, epsilon=1e-6)
    return b.softmax(h, axis=-1)


@host("f32[batch,5,8]")
def scaled(b: Any, s: Scope, x: Value) -> Value:
    h = b.l2_normalize(x, axes=(1,), epsilon=1e-4)
    return b.rms_norm(b.add(x, h), s.weight(8, low=0.5), axis=-1, epsilon=1e-6)


@host("f32[batch,4,9,11]")
def convolved(b: Any, s: Scope, x: Value) -> Value:
    h = b.conv(
        x, s.weight(6, 4, 3, 3), s.weight(6), strides=(2, 1), padding=((1, 0), (0, 1)), dilations=(1, 1), groups=1
    )
    statistics = (s.weight(6, low=0.5), s.weight(6), s.weight(6), s.weight(6, low=0.001))
    h = b.batch_norm(h, *statistics, epsilon=1e-3, axis=1)
    h = b.hard_swish(h)
    h = b.conv(
        h, s.weight(6, 2, 3, 3), s.weight(6), strides=(1, 1), padding=((1, 1), (1, 1)), dilations=(1, 1), groups=3
    )
    h = b.max_pool(h, window=(3, 3), strides=(1, 2), padding=((1, 1), (1, 1)), dilations=(1, 1))
    h = b.avg_pool(h, window=(2, 2), strides=(1, 1), padding=((1, 0), (0, 1)), dilations=(1, 1))
    return b.group_norm(h, s.weight(6, low=0.5), s.weight(6), groups=3, epsilon=1e-5, axis=1)


@host("f32[batch,4,5,6]")
def upsampled(b: Any, s: Scope, x: Value) -> Value:
    h = b.conv_transpose(
        x, s.weight(4, 3, 3, 2), s.weight(3), strides=(2, 2), padding=((1, 0), (0, 1)), output_padding=(1, 0),
        dilations=(1, 1), groups=1,
    )  # fmt: skip
    h = b.resize(h, sizes=(22, 22), mode="linear", coordinates="half_pixel")
    h = b.resize(h, sizes=(33, 33), mode="nearest", coordinates="asymmetric", rounding="floor")
    h = b.resize(h, sizes=(66, 66), mode="cubic", coordinates="half_pixel", cubic_a=-0.75)
    h = b.pad(h, padding=((0, 0), (0, 0), (1, 1), (2, 2)), mode="reflect")
    h = b.concat(h, b.neg(h), b.slice(h, axes=(1,), starts=(0,), stops=(2,), steps=(1,)), axis=1)
    return b.depth_to_space(h, block=2, mode="crd")


@host(
    "f32[batch,8,len,16]",
    "f32[batch,2,len,16]",
    "f32[batch,2,len,16]",
    "bool[batch,1,1,len]",
    names=("q", "k", "v", "mask"),
)
def attended(b: Any, s: Scope, q: Value, k: Value, v: Value, mask: Value) -> Value:
    return b.attention(q, k, v, mask)


@host("f32[batch,4,len,8]", "f32[len,4]")
def causal(b: Any, s: Scope, x: Value, angles: Value) -> Value:
    x = b.rotary_embedding(x, b.cos(angles), b.sin(angles))
    return b.attention(x, x, x, causal=True, softcap=5.0)


@host("f32[batch,2,len,8]", "i64[batch,len]", names=("x", "attention_mask"))
def spelled_attention(b: Any, s: Scope, x: Value, mask: Value) -> Value:
    length = x.type.shape[2]
    scores = b.mul(b.matmul(x, b.transpose(x, perm=(0, 1, 3, 2))), 0.3535533905932738)
    seen = b.triangle(
        b.broadcast_to(b.const(True, parse_type("bool[]").dtype), shape=(length, length)), upper=False, diagonal=0
    )
    valid = b.reshape(b.cast(mask, dtype=parse_type("bool[]").dtype), shape=(mask.type.shape[0], 1, 1, length))
    scores = b.where(b.logical_and(seen, valid), scores, b.const(float("-inf"), scores.type.dtype))
    weights = b.softmax(scores, axis=-1)
    return b.matmul(weights, x)


@host("f32[batch,4,4]", "f32[batch,4,4]", "f32[batch,1,4]")
def multiplied(b: Any, s: Scope, x: Value, y: Value, bias: Value) -> Value:
    product = b.reduce_sum(b.mul(b.unsqueeze(x, axes=(3,)), b.unsqueeze(y, axes=(1,))), axes=(2,))
    return b.softmax(b.mul(b.add(b.matmul(product, y), bias), 0.5), axis=-1)


@host("i64[batch,seq]", "i64[batch,seq]", names=("ids", "attention_mask"))
def embedded(b: Any, s: Scope, ids: Value, mask: Value) -> Any:
    f32 = parse_type("f32[]").dtype
    h = b.take(s.weight(23, 12), ids, axis=0)
    kept = b.unsqueeze(b.cast(mask, dtype=f32), axes=(2,))
    h = b.mul(h, kept)
    count = b.reduce_sum(kept, axes=(1,))
    pooled = b.div(b.reduce_sum(h, axes=(1,)), count)
    places = b.sub(b.cumsum(mask, axis=1), 1)
    logits = b.matmul(pooled, s.weight(12, 7))
    return b.log_softmax(logits, axis=1), b.argmax(logits, axis=1), places


@host("f32[time,batch,5]")
def recurrent(b: Any, s: Scope, x: Value) -> Any:
    h0 = b.broadcast_to(b.tanh(s.weight(2, 1, 4)), shape=(2, x.type.shape[1], 4))
    c0 = b.broadcast_to(b.sin(s.weight(2, 1, 4)), shape=(2, x.type.shape[1], 4))
    y, h, c = b.lstm(x, s.weight(2, 16, 5), s.weight(2, 16, 4), s.weight(2, 16), h0, c0, direction="bidirectional")
    z, last = b.gru(
        y,
        s.weight(1, 12, 8),
        s.weight(1, 12, 4),
        s.weight(1, 12),
        s.weight(1, 12),
        direction="forward",
        reset_after=True,
    )
    return z, last, h, c


@host("f32[batch,6,8]")
def shuffled(b: Any, s: Scope, x: Value) -> Any:
    h = b.transpose(x, perm=(0, 2, 1))
    first, second = b.split(h, axis=1, sizes=(3, 5))
    h = b.concat(second, first, axis=1)
    h = b.slice(h, axes=(1,), starts=(1,), stops=(7,), steps=(2,))
    h = b.reshape(h, shape=(x.type.shape[0], 18))
    h = b.roll(h, shifts=(4,), axes=(1,))
    h = b.flip(h, axes=(1,))
    values, places = b.topk(h, k=3, axis=1, largest=True)
    return h, values, places


@host("f32[batch,4,5,6]")
def turned(b: Any, s: Scope, x: Value) -> Value:
    h = b.transpose(b.neg(x), perm=(0, 2, 3, 1))
    return b.softmax(h, axis=2)


@host("f32[batch,12]", "f32[batch,12]")
def pointwise(b: Any, s: Scope, x: Value, y: Value) -> Any:
    h = b.leaky_relu(x, alpha=0.01)
    h = b.add(h, b.elu(y, alpha=1.0))
    h = b.hard_sigmoid(h, alpha=1 / 6, beta=0.5)
    g = b.softplus(b.sub(x, y), beta=1.0, threshold=20.0)
    h = b.where(b.greater(x, y), h, g)
    h = b.clip(h, low=0.1, high=0.6)
    return b.mul(h, b.silu(y)), b.remainder(b.mul(x, 3.0), 2.0), b.erf(x)


@host("i64[batch,9]", names=("counts",))
def rounded(b: Any, s: Scope, n: Value) -> Any:
    f32 = parse_type("f32[]").dtype
    halves = b.mul(b.sub(b.cast(n, dtype=f32), 4.0), 0.5)
    whole = b.cast(b.mul(halves, 1.5), dtype=n.type.dtype)
    return b.round(halves), b.floor(halves), whole, b.div(b.sub(n, 4), 3), b.fmod(b.sub(n, 4), 3)


@host("f32[batch,3,10]")
def reduced(b: Any, s: Scope, x: Value) -> Any:
    mean = b.reduce_mean(x, axes=(2,), keepdims=True)
    spread = b.variance(x, axes=(2,), keepdims=True, correction=1.0)
    h = b.div(b.sub(x, mean), b.sqrt(b.add(spread, 1e-5)))
    return (
        h,
        b.reduce_max(h, axes=(1,)),
        b.reduce_logsumexp(h, axes=(2,)),
        b.reduce_l2(h, axes=(1, 2)),
        b.argmin(h, axis=2),
    )


@host("f32[batch,6]")
def quantised(b: Any, s: Scope, x: Value) -> Any:
    from dragoman.ir.types import I8

    scale, zero = s.array(np.float32(0.05)), s.array(np.int8(3))
    q = b.quantize(x, scale, zero, dtype=I8)
    return b.dequantize(q, scale, zero), q


@host("f32[time,batch,3]", "bool[]", names=("x", "flag"))
def looped(b: Any, s: Scope, x: Value, flag: Value) -> Any:
    from dragoman.ir.builder import trace

    row = x.type.with_shape(x.type.shape[1:])
    body = trace(lambda b, carry, x: ((n := b.tanh(b.add(b.mul(carry, 0.5), x))), n), row, row)
    start = b.broadcast_to(b.const(0.25, x.type.dtype), shape=row.shape)
    last, stacked = b.scan(start, x, body=body, carries=1, length=x.type.shape[0])
    then, orelse = trace(lambda b, v: b.exp(v), row), trace(lambda b, v: b.neg(v), row)
    chosen = b.cond(flag, last, then=then, orelse=orelse)
    return chosen[0] if isinstance(chosen, tuple) else chosen, stacked
