"""Faults in the meaning of ops: what a wrong attribute, operand, constant or reference does to a model."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np

from dragoman.ir.builder import Builder
from dragoman.ir.graph import Graph, Node, Value
from dragoman.ir.types import BF16, F32, I64
from dragoman.ir.weights import ArrayWeight
from tests.faults import hosts
from tests.faults.mutants import Change, Fault, attr, instead, operand, result, swapped


def weight(index: int, change: Any) -> Change:
    """The op with an operand that is a weight replaced by `change(array)`."""

    def stale(b: Builder, v: Value) -> Value:
        assert v.weight is not None
        return b.graph.add_weight("stale", ArrayWeight(np.asarray(change(v.weight.array()), v.weight.dtype.numpy)))

    return operand(index, stale)


def region(name: str, change: Any) -> Change:
    """The op with a sub-graph changed by `change(graph)`."""

    def build(b: Builder, node: Node, operands: list[Value | None]) -> Any:
        return b.apply(node.op.with_attributes(**{name: change(getattr(node.op, name))}), *operands)

    return build


def _one_entry_off(w: Any) -> Any:
    changed = np.array(w)
    changed.reshape(-1)[1] += 0.01
    return changed


def _first_zero(w: Any) -> Any:
    changed = np.array(w)
    changed[0] = 0
    return changed


def _truncated(w: Any) -> Any:
    return w.astype(BF16.numpy).astype(w.dtype)


def _gates_exchanged(w: Any) -> Any:
    i, f, g, o = np.split(w, 4, axis=1)
    return np.concatenate([i, f, o, g], axis=1)


def _unbiased_layer_norm(b: Any, x: Value, scale: Value, bias: Value) -> Value:
    centred = b.sub(x, b.reduce_mean(x, axes=(2,), keepdims=True))
    variance = b.variance(x, axes=(2,), keepdims=True, correction=1.0)
    return b.add(b.mul(b.div(centred, b.sqrt(b.add(variance, 1e-5))), scale), bias)


def _without_maximum(b: Any, x: Value) -> Value:
    e = b.exp(x)
    return b.div(e, b.reduce_sum(e, axes=(2,), keepdims=True))


def _last_step_doubled(body: Graph) -> Graph:
    from dragoman.ir.region import clone

    changed = clone(body)
    node = next(n for n in changed if n.op.name == "mul")
    b = Builder(changed, before=node)
    node.set_operand(1, b.const(0.505, F32))
    return changed


def _frozen(b: Any, x: Value) -> Value:
    return b.reshape(b.slice(x, axes=(0,), starts=(0,), stops=(3,), steps=(1,)), shape=(3, 18))


def _shifted(b: Any, x: Value) -> Value:
    return b.add(x, b.const(1, I64))


def _first_is_nan_free(b: Any, x: Value) -> Value:
    return b.where(b.isnan(x), b.const(0.0, F32), x)


def _permuted_heads(b: Any, k: Value) -> Value:
    return b.flip(k, axes=(1,))


IN_NORMS = [
    Fault("layer norm epsilon × 1.1", hosts.normed, "layer_norm", attr(epsilon=1.1e-5)),
    Fault("layer norm epsilon 1e-6", hosts.normed, "layer_norm", attr(epsilon=1e-6)),
    Fault(
        "layer norm over one axis too many",
        hosts.normed,
        "layer_norm",
        instead(lambda b, x, scale, bias: b.add(b.mul(b.layer_norm(x, axis=1, epsilon=1e-5), scale), bias)),
    ),
    Fault("layer norm with the unbiased variance", hosts.normed, "layer_norm", instead(_unbiased_layer_norm)),
    Fault(
        "layer norm without its bias",
        hosts.normed,
        "layer_norm",
        instead(lambda b, x, scale, bias: b.layer_norm(x, scale, axis=-1, epsilon=1e-5)),
    ),
    Fault("rms norm epsilon 0", hosts.scaled, "rms_norm", attr(epsilon=0.0)),
    Fault("l2 norm epsilon × 1.1", hosts.scaled, "l2_normalize", attr(epsilon=1.1e-4)),
    Fault(
        "rms norm that subtracts the mean",
        hosts.normed,
        "rms_norm",
        instead(lambda b, x, scale: b.layer_norm(x, scale, axis=-1, epsilon=1e-6)),
    ),
    Fault("running mean and variance exchanged", hosts.convolved, "batch_norm", operand(3, lambda b, v: b.square(v))),
    Fault("batch norm scale and bias exchanged", hosts.convolved, "batch_norm", swapped(1, 2)),
    Fault("batch norm epsilon × 1.1", hosts.convolved, "batch_norm", attr(epsilon=1.1e-3)),
    Fault("group norm with other groups", hosts.convolved, "group_norm", attr(groups=2)),
    Fault("group norm epsilon 1e-3", hosts.convolved, "group_norm", attr(epsilon=1e-3)),
    Fault("softmax over another axis", hosts.normed, "softmax", attr(axis=1)),
    Fault(
        "softmax that overflows",
        hosts.spelled_attention,
        "softmax",
        instead(lambda b, x: b.div(e := b.exp(x), b.reduce_sum(e, axes=(3,), keepdims=True))),
    ),
    Fault("log softmax without the log", hosts.embedded, "log_softmax", instead(lambda b, x: b.softmax(x, axis=1))),
]

IN_WEIGHTS = [
    Fault("a transposed weight", hosts.normed, "linear", weight(1, np.transpose)),
    Fault("a stale weight entry", hosts.normed, "linear", weight(1, _one_entry_off)),
    Fault("a weight × 1.01", hosts.normed, "linear", weight(1, lambda w: w * np.float32(1.01))),
    Fault("a weight cut to bf16", hosts.normed, "linear", weight(1, _truncated)),
    Fault("a bias dropped for one channel", hosts.convolved, "conv", weight(2, _first_zero)),
    Fault("kernel rows mirrored", hosts.convolved, "conv", weight(1, lambda w: w[:, :, ::-1])),
    Fault("group weights permuted", hosts.convolved, "conv", weight(1, lambda w: np.roll(w, 2, axis=0)), nth=1),
    Fault("an embedding table shifted by a row", hosts.embedded, "take", weight(0, lambda w: np.roll(w, 1, axis=0))),
]

IN_CONVOLUTIONS = [
    Fault("pads swapped", hosts.convolved, "conv", attr(padding=((0, 1), (0, 1)))),
    Fault("pads of the axes swapped", hosts.convolved, "conv", attr(padding=((0, 1), (1, 0)))),
    Fault("strides swapped", hosts.convolved, "conv", attr(strides=(1, 2))),
    Fault("a dilation of 2", hosts.convolved, "conv", attr(dilations=(2, 1), padding=((2, 1), (0, 1)))),
    Fault("transposed convolution, pads swapped", hosts.upsampled, "conv_transpose", attr(padding=((0, 1), (1, 0)))),
    Fault("transposed convolution, cut short", hosts.upsampled, "conv_transpose", attr(output_padding=(0, 0))),
    Fault(
        "max pool padded by zeros",
        hosts.convolved,
        "max_pool",
        instead(
            lambda b, x: b.max_pool(
                b.pad(x, padding=((0, 0), (0, 0), (1, 1), (1, 1))),
                window=(3, 3),
                strides=(1, 2),
                padding=((0, 0), (0, 0)),
                dilations=(1, 1),
            )
        ),
    ),
    Fault("max pool with a smaller window", hosts.convolved, "max_pool", attr(window=(2, 3), padding=((1, 0), (1, 1)))),
    Fault("average pool that counts padding", hosts.convolved, "avg_pool", attr(count_include_pad=True)),
    Fault("half-pixel centres dropped", hosts.upsampled, "resize", attr(coordinates="asymmetric")),
    Fault("corners aligned", hosts.upsampled, "resize", attr(coordinates="align_corners")),
    Fault("nearest rounds to the nearest", hosts.upsampled, "resize", attr(rounding="round_prefer_floor"), nth=1),
    Fault("the cubic parameter of others", hosts.upsampled, "resize", attr(cubic_a=-0.5), nth=2),
    Fault("padding repeats the edge", hosts.upsampled, "pad", attr(mode="edge")),
    Fault("depth to space in the other order", hosts.upsampled, "depth_to_space", attr(mode="dcr")),
]

IN_ATTENTION = [
    Fault("scale 1/d for 1/√d", hosts.attended, "attention", attr(scale=1 / 16)),
    Fault("the mask inverted", hosts.attended, "attention", operand(3, lambda b, m: b.logical_not(m))),
    Fault("NaN for an empty row", hosts.attended, "attention", attr(empty_rows="nan")),
    Fault("query groups share the wrong key head", hosts.attended, "attention", operand(1, _permuted_heads)),
    Fault("value heads exchanged", hosts.attended, "attention", operand(2, _permuted_heads)),
    Fault("a forgotten mask", hosts.attended, "attention", instead(lambda b, q, k, v, m: b.attention(q, k, v))),
    Fault("not causal", hosts.causal, "attention", attr(causal=False)),
    Fault("another soft cap", hosts.causal, "attention", attr(softcap=5.05)),
    Fault("interleaved rotary pairs", hosts.causal, "rotary_embedding", attr(interleaved=True)),
    Fault("sine and cosine exchanged", hosts.causal, "rotary_embedding", swapped(1, 2)),
    Fault("the causal mask off by one", hosts.spelled_attention, "triangle", attr(diagonal=1)),
    Fault("the causal mask upside down", hosts.spelled_attention, "triangle", attr(upper=True)),
    Fault(
        "the lowest number for −∞",
        hosts.spelled_attention,
        "where",
        operand(2, lambda b, v: b.const(float(np.finfo(np.float32).min), F32)),
    ),
    Fault("NaN dropped", hosts.spelled_attention, "softmax", result(_first_is_nan_free)),
    Fault("a truncated scale", hosts.spelled_attention, "mul", operand(1, lambda b, v: b.const(0.3535, F32))),
]

IN_RECURRENCES = [
    Fault("lstm gates in another order", hosts.recurrent, "lstm", weight(1, _gates_exchanged)),
    Fault("lstm directions exchanged", hosts.recurrent, "lstm", weight(1, lambda w: w[::-1])),
    Fault("initial hidden and cell state exchanged", hosts.recurrent, "lstm", swapped(4, 5)),
    Fault("gru resets before the product", hosts.recurrent, "gru", attr(reset_after=False)),
    Fault("gru biases exchanged", hosts.recurrent, "gru", swapped(3, 4)),
    Fault("gru backwards", hosts.recurrent, "gru", attr(direction="reverse")),
    Fault("scan in reverse", hosts.looped, "scan", attr(reverse=True)),
    Fault("a constant in a loop body off by 1 %", hosts.looped, "scan", region("body", _last_step_doubled)),
    Fault("the branches of a condition exchanged", hosts.looped, "cond", operand(0, lambda b, v: b.logical_not(v))),
]

IN_MOVEMENT = [
    Fault(
        "a wrong permutation",
        hosts.shuffled,
        "transpose",
        instead(lambda b, x: b.reshape(x, shape=(x.type.shape[0], 8, 6))),
    ),
    Fault("concat in the other order", hosts.shuffled, "concat", swapped(0, 1)),
    Fault("slice off by one", hosts.shuffled, "slice", attr(starts=(0,), stops=(6,))),
    Fault("roll the other way", hosts.shuffled, "roll", attr(shifts=(-4,))),
    Fault("a frozen batch", hosts.shuffled, "reshape", instead(_frozen)),
    Fault("the smallest for the largest", hosts.shuffled, "topk", attr(largest=False)),
    Fault("topk places off by one", hosts.shuffled, "topk", result(_shifted, 1)),
    Fault("index plus one", hosts.embedded, "take", operand(1, lambda b, v: b.minimum(b.add(v, 1), 22))),
    Fault("cumulative sum that starts at zero", hosts.embedded, "cumsum", attr(exclusive=True)),
    Fault("cumulative sum backwards", hosts.embedded, "cumsum", attr(reverse=True)),
    Fault("the last of equal maxima", hosts.embedded, "argmax", result(lambda b, v: b.add(v, 1))),
    Fault("reduction that keeps its axis", hosts.embedded, "reduce_sum", attr(keepdims=True), nth=1),
    Fault("reduction over another axis", hosts.reduced, "reduce_max", attr(axes=(2,))),
]

IN_ARITHMETIC = [
    Fault("gelu by tanh", hosts.normed, "gelu", attr(approximate="tanh")),
    Fault("gelu by sigmoid", hosts.normed, "gelu", instead(lambda b, x: b.quick_gelu(x))),
    Fault("another slope", hosts.pointwise, "leaky_relu", attr(alpha=0.011)),
    Fault("hard sigmoid with Keras's slope", hosts.pointwise, "hard_sigmoid", attr(alpha=0.2)),
    Fault("softplus with another beta", hosts.pointwise, "softplus", attr(beta=1.01)),
    Fault("the sides of where exchanged", hosts.pointwise, "where", swapped(1, 2)),
    Fault("greater or equal for greater", hosts.pointwise, "greater", swapped(0, 1)),
    Fault("a looser clip", hosts.pointwise, "clip", attr(high=0.61)),
    Fault("elu for selu", hosts.pointwise, "elu", instead(lambda b, x: b.selu(x))),
    Fault("remainder with the dividend's sign", hosts.pointwise, "remainder", instead(lambda b, x, y: b.fmod(x, y))),
    Fault("erf by tanh", hosts.pointwise, "erf", instead(lambda b, x: b.tanh(b.mul(x, 1.2)))),
    Fault("a result × 1.00001", hosts.pointwise, "silu", result(lambda b, v: b.mul(v, 1.00001))),
    Fault(
        "halves away from zero",
        hosts.rounded,
        "round",
        instead(lambda b, x: b.mul(b.sign(x), b.floor(b.add(b.abs(x), 0.5)))),
    ),
    Fault("ceil for floor", hosts.rounded, "floor", instead(lambda b, x: b.ceil(x))),
    Fault("a cast that rounds", hosts.rounded, "cast", operand(0, lambda b, v: b.round(v)), nth=1),
    Fault("integer division that floors", hosts.rounded, "div", instead(lambda b, x, y: b.floor_divide(x, y))),
    Fault("the other sample variance", hosts.reduced, "variance", attr(correction=0.0)),
    Fault("an epsilon outside the root", hosts.reduced, "sqrt", instead(lambda b, x: b.add(b.sqrt(x), 1e-5))),
    Fault("maximum for minimum", hosts.reduced, "argmin", instead(lambda b, x: b.argmax(x, axis=2))),
    Fault(
        "a mean that is a sum",
        hosts.reduced,
        "reduce_mean",
        instead(lambda b, x: b.reduce_sum(x, axes=(2,), keepdims=True)),
    ),
    Fault("a zero point off by one", hosts.quantised, "quantize", weight(2, lambda z: z + 1)),
    Fault("a quantiser that truncates", hosts.quantised, "quantize", operand(0, lambda b, v: b.sub(v, 0.025))),
]


def all_graph_faults() -> Iterator[Fault]:
    """Every fault in the meaning of an op."""
    for family in (IN_NORMS, IN_WEIGHTS, IN_CONVOLUTIONS, IN_ATTENTION, IN_RECURRENCES, IN_MOVEMENT, IN_ARITHMETIC):
        yield from family
