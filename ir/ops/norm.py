"""Normalisations, all composites. Statistics are biased; half precision computes in f32 throughout and rounds once.

scale and bias are optional where the signature says so; each can be given without the other. Where there are channels,
`axis` is theirs: 1 for channels first, −1 for channels last; the batch is axis 0.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from typing import TYPE_CHECKING, ClassVar

from dragoman.ir.dims import Dim, product, same
from dragoman.ir.guess import Guess, guess, reduced, with_and_without
from dragoman.ir.op import (
    Arithmetic,
    Array,
    Op,
    OperandSample,
    Sample,
    TensorType,
    normal_axis,
    operand,
    require,
    same_dtype,
    sample,
)
from dragoman.ir.ops.elementwise import narrowed, widened
from dragoman.ir.types import DType, Shape, same_shape

if TYPE_CHECKING:
    from dragoman.ir.builder import Builder
    from dragoman.ir.graph import Node, Value


# ---- what they share ------------------------------------------------------------------------------------


def _require_floats(name: str, x: TensorType, *others: TensorType | None) -> None:
    require(x.dtype.is_float, f"{name} of {x.dtype}: floats only")
    same_dtype(x, *others)


def _require_shape(what: str, given: TensorType | None, wanted: Shape) -> None:
    if given is not None:
        expected = "[" + ",".join(map(str, wanted)) + "]"
        require(same_shape(given.shape, wanted), f"{what} is {given}, its shape should be {expected}")


def _aligned(shape: Sequence[Dim], rank: int, axis: int) -> tuple[Dim, ...]:
    """The shape of a parameter per channel such that it broadcasts to x: [c] to [c,1,1] for channels first."""
    return (*shape, *(1 for _ in range(rank - 1 - axis)))


def _align(m: Arithmetic, x: Array, rank: int, axis: int) -> Array:
    return m.move(lambda a: a.reshape(_aligned(a.shape, rank, axis)), x)


def _mean(m: Arithmetic, x: Array, axes: Sequence[int]) -> Array:
    return m.sum(x, axes, True) / float(math.prod(x.shape[a] for a in axes))


def _standardised(m: Arithmetic, x: Array, axes: Sequence[int], epsilon: float) -> Array:
    """(x − mean) / √(variance + epsilon) over the axes."""
    deviation = x - _mean(m, x, axes)
    return deviation / m.sqrt(_mean(m, deviation * deviation, axes) + epsilon)


def _affine(x: Array, scale: Array | None, bias: Array | None) -> Array:
    x = x if scale is None else x * scale
    return x if bias is None else x + bias


def _wide(b: Builder, *values: Value | None) -> list[Value | None]:
    return [None if v is None else widened(b, v) for v in values]


def _finish(b: Builder, x: Value, scale: Value | None, bias: Value | None, dtype: DType) -> Value:
    x = x if scale is None else b.mul(x, scale)
    return narrowed(b, x if bias is None else b.add(x, bias), dtype)


def _channels(b: Builder, parameter: Value | None, rank: int, axis: int) -> Value | None:
    if parameter is None or axis == rank - 1:
        return parameter
    return b.reshape(parameter, shape=_aligned(parameter.type.shape, rank, axis))


Squares = Callable[["Builder", "Value"], "Value"]
Quotient = Callable[["Builder", "Value", "Value"], "Value"]
Form = tuple[Squares, Quotient]

_SQUARES: tuple[Squares, ...] = (lambda b, d: b.mul(d, d), lambda b, d: b.power(d, 2.0))
_QUOTIENTS: tuple[Quotient, ...] = (
    lambda b, d, v: b.div(d, b.sqrt(v)),
    lambda b, d, v: b.mul(d, b.rsqrt(v)),
)
_FORMS: tuple[Form, ...] = tuple((s, q) for q in _QUOTIENTS for s in _SQUARES)
"""How frameworks write d / √(mean(d²) + ε); the first is ours."""


def _standardise(b: Builder, x: Value, axes: tuple[int, ...], epsilon: float, form: Form) -> Value:
    squares, quotient = form
    deviation = b.sub(x, b.reduce_mean(x, axes=axes, keepdims=True))
    variance = b.reduce_mean(squares(b, deviation), axes=axes, keepdims=True)
    return quotient(b, deviation, b.add(variance, epsilon))


def _trailing(root: Node) -> Iterable[int]:
    """The first of the axes to the last one that are reduced upstream, in a tensor of the result's shape."""
    x = root.results[0].type
    found = (axes for type, axes, _ in reduced(root) if axes and same_shape(type.shape, x.shape))
    return dict.fromkeys(axes[0] for axes in found if axes == tuple(range(axes[0], x.rank)))


# ---- over trailing axes -----------------------------------------------------------------------------------


def _layer_norm_form(form: Form) -> Callable[..., Value]:
    def written(op: LayerNorm, b: Builder, x: Value, scale: Value | None = None, bias: Value | None = None) -> Value:
        wide, factor, shift = _wide(b, x, scale, bias)
        assert wide is not None
        return _finish(b, _standardise(b, wide, op.axes(x.type), op.epsilon, form), factor, shift, x.type.dtype)

    return written


def _layer_norm_with_variance(quotient: Quotient) -> Callable[..., Value]:
    def written(op: LayerNorm, b: Builder, x: Value, scale: Value | None = None, bias: Value | None = None) -> Value:
        wide, factor, shift = _wide(b, x, scale, bias)
        assert wide is not None
        axes = op.axes(x.type)
        deviation = b.sub(wide, b.reduce_mean(wide, axes=axes, keepdims=True))
        variance = b.variance(wide, axes=axes, keepdims=True, correction=0)
        return _finish(b, quotient(b, deviation, b.add(variance, op.epsilon)), factor, shift, x.type.dtype)

    return written


def _layer_norm_scaled_first(with_variance: bool) -> Callable[..., Value]:
    """What multiplies the deviation as one factor, scale / √(variance + epsilon), as flax and Haiku have it."""

    def written(op: LayerNorm, b: Builder, x: Value, scale: Value | None = None, bias: Value | None = None) -> Value:
        wide, factor, shift = _wide(b, x, scale, bias)
        assert wide is not None
        axes = op.axes(x.type)
        deviation = b.sub(wide, b.reduce_mean(wide, axes=axes, keepdims=True))
        if with_variance:
            variance = b.variance(wide, axes=axes, keepdims=True, correction=0)
        else:
            variance = b.reduce_mean(b.square(deviation), axes=axes, keepdims=True)
        inverse = b.rsqrt(b.add(variance, op.epsilon))
        scaled = b.mul(deviation, inverse if factor is None else b.mul(inverse, factor))
        return _finish(b, scaled, None, shift, x.type.dtype)

    return written


class LayerNorm(Op, name="layer_norm"):
    """(x − mean) / √(variance + epsilon) over the axes from `axis` on, then ·scale + bias.

    x: […, *n]   scale, bias: [*n]   ->   […, *n], as in Ba et al. 2016 (arXiv:1607.06450), eq. 3.
    """

    axis: int
    epsilon: float

    def axes(self, x: TensorType) -> tuple[int, ...]:
        """The normalised axes."""
        return tuple(range(normal_axis(self.axis, x.rank), x.rank))

    def infer(self, x: TensorType, scale: TensorType | None = None, bias: TensorType | None = None) -> TensorType:
        """The type of x; scale and bias have the extents of the normalised axes."""
        _require_floats(self.name, x, scale, bias)
        wanted = x.shape[normal_axis(self.axis, x.rank) :]
        _require_shape("scale", scale, wanted)
        _require_shape("bias", bias, wanted)
        return x

    def reference(self, m: Arithmetic, x: Array, scale: Array | None = None, bias: Array | None = None) -> Array:
        """In two passes."""
        axes = tuple(range(normal_axis(self.axis, x.ndim), x.ndim))
        return _affine(_standardised(m, x, axes, self.epsilon), scale, bias)

    decompose = _layer_norm_form(_FORMS[0])
    spellings = (
        *(_layer_norm_form(form) for form in _FORMS[1:]),
        *(_layer_norm_with_variance(quotient) for quotient in _QUOTIENTS),
        _layer_norm_scaled_first(False),
        _layer_norm_scaled_first(True),
    )

    @classmethod
    def guesses(cls, root: Node) -> Iterable[Guess]:
        """The trailing axes of means upstream."""
        x = root.results[0].type
        for axis in _trailing(root):
            kept = x.with_shape(x.shape[axis:])
            yield from with_and_without(x, (kept, kept), [{"axis": axis}])

    @classmethod
    def samples(cls) -> Iterable[Sample]:
        """One and more trailing axes; with and without each parameter."""
        yield sample("f32[2,3,8]", "f32[8]", "f32[8]", axis=2, epsilon=1e-5)
        yield sample("f64[2,3,4]", "f64[3,4]", "f64[3,4]", axis=-2, epsilon=1e-12)
        yield sample("f32[5,6]", None, None, axis=1, epsilon=1e-6)
        yield sample("f16[2,8]", "f16[8]", None, axis=-1, epsilon=1e-5)
        yield sample("bf16[2,8]", None, "bf16[8]", axis=-1, epsilon=1e-3)
        yield sample("f32[7]", "f32[7]", "f32[7]", axis=0, epsilon=1e-5)


def _rms_norm_form(form: Form) -> Callable[..., Value]:
    squares, quotient = form

    def written(op: RmsNorm, b: Builder, x: Value, scale: Value | None = None) -> Value:
        wide, factor = _wide(b, x, scale)
        assert wide is not None
        mean = b.reduce_mean(squares(b, wide), axes=op.axes(x.type), keepdims=True)
        return _finish(b, quotient(b, wide, b.add(mean, op.epsilon)), factor, None, x.type.dtype)

    return written


class RmsNorm(Op, name="rms_norm"):
    """x / √(mean(x²) + epsilon) over the axes from `axis` on, then ·scale (Zhang and Sennrich 2019, arXiv:1910.07467).

    x: […, *n]   scale: [*n]   ->   […, *n]
    """

    axis: int
    epsilon: float

    def axes(self, x: TensorType) -> tuple[int, ...]:
        """The normalised axes."""
        return tuple(range(normal_axis(self.axis, x.rank), x.rank))

    def infer(self, x: TensorType, scale: TensorType | None = None) -> TensorType:
        """The type of x; the scale has the extents of the normalised axes."""
        _require_floats(self.name, x, scale)
        _require_shape("scale", scale, x.shape[normal_axis(self.axis, x.rank) :])
        return x

    def reference(self, m: Arithmetic, x: Array, scale: Array | None = None) -> Array:
        """By the definition."""
        axes = tuple(range(normal_axis(self.axis, x.ndim), x.ndim))
        return _affine(x / m.sqrt(_mean(m, x * x, axes) + self.epsilon), scale, None)

    decompose = _rms_norm_form(_FORMS[0])
    spellings = tuple(_rms_norm_form(form) for form in _FORMS[1:])

    @classmethod
    def guesses(cls, root: Node) -> Iterable[Guess]:
        """The trailing axes of means upstream."""
        x = root.results[0].type
        for axis in _trailing(root):
            yield from with_and_without(x, (x.with_shape(x.shape[axis:]),), [{"axis": axis}])

    @classmethod
    def samples(cls) -> Iterable[Sample]:
        """One and more trailing axes; with and without a scale."""
        yield sample("f32[2,3,8]", "f32[8]", axis=2, epsilon=1e-6)
        yield sample("f64[2,3,4]", "f64[3,4]", axis=-2, epsilon=1e-5)
        yield sample("f32[5,6]", axis=1, epsilon=1e-6)
        yield sample("f16[2,8]", "f16[8]", axis=-1, epsilon=1e-5)


# ---- over all but the channels ------------------------------------------------------------------------------


class BatchNorm(Op, name="batch_norm"):
    """(x − mean) / √(variance + epsilon) · scale + bias with given statistics per channel: inference.

    x: [n, c, *]   scale, bias, mean, variance: [c]   ->   [n, c, *] (arXiv:1502.03167); c is at `axis`.
    """

    epsilon: float
    axis: int = 1

    def infer(
        self, x: TensorType, scale: TensorType, bias: TensorType, mean: TensorType, variance: TensorType
    ) -> TensorType:
        """The type of x; the parameters have the extent of the channels."""
        _require_floats(self.name, x, scale, bias, mean, variance)
        channels = (x.shape[normal_axis(self.axis, x.rank)],)
        for what, given in (("scale", scale), ("bias", bias), ("mean", mean), ("variance", variance)):
            _require_shape(what, given, channels)
        return x

    def reference(self, m: Arithmetic, x: Array, scale: Array, bias: Array, mean: Array, variance: Array) -> Array:
        """One factor per channel."""
        axis = normal_axis(self.axis, x.ndim)
        factor = scale / m.sqrt(variance + self.epsilon)
        parameters = (mean, factor, bias)
        mean, factor, bias = (_align(m, p, x.ndim, axis) for p in parameters)
        return (x - mean) * factor + bias

    def decompose(self, b: Builder, x: Value, scale: Value, bias: Value, mean: Value, variance: Value) -> Value:
        """(x − mean)·factor + bias, where factor = scale / √(variance + epsilon)."""
        wide, mean, factor, bias = self._parameters(b, x, scale, bias, mean, variance)
        return narrowed(b, b.add(b.mul(b.sub(wide, mean), factor), bias), x.type.dtype)

    def as_affine(self, b: Builder, x: Value, scale: Value, bias: Value, mean: Value, variance: Value) -> Value:
        """x·factor + (bias − mean·factor)."""
        wide, mean, factor, bias = self._parameters(b, x, scale, bias, mean, variance)
        return narrowed(b, b.add(b.mul(wide, factor), b.sub(bias, b.mul(mean, factor))), x.type.dtype)

    spellings = (as_affine,)

    def _parameters(self, b: Builder, *operands: Value) -> list[Value]:
        """x, mean, factor and bias, wide enough and shaped to broadcast."""
        x, scale, bias, mean, variance = (widened(b, v) for v in operands)
        rank, axis = x.type.rank, normal_axis(self.axis, x.type.rank)
        factor = b.div(scale, b.sqrt(b.add(variance, self.epsilon)))
        shaped = (_channels(b, p, rank, axis) for p in (mean, factor, bias))
        return [x, *(p for p in shaped if p is not None)]

    @classmethod
    def guesses(cls, root: Node) -> Iterable[Guess]:
        """Channels first and last."""
        x = root.results[0].type
        axes = dict.fromkeys((1, x.rank - 1)) if x.rank >= 2 else ()
        return [guess(x, *[x.with_shape((x.shape[axis],))] * 4, axis=axis) for axis in axes]

    @classmethod
    def samples(cls) -> Iterable[Sample]:
        """Each rank, both layouts."""

        def parameters(type: str) -> tuple[str | OperandSample, ...]:
            return type, type, type, operand(type, low=0.1, high=2.0)

        yield sample("f32[2,3]", *parameters("f32[3]"), epsilon=1e-5)
        yield sample("f32[2,3,4]", *parameters("f32[3]"), epsilon=1e-3)
        yield sample("f64[2,3,4,2]", *parameters("f64[3]"), epsilon=1e-5)
        yield sample("f16[2,4,2,3]", *parameters("f16[3]"), epsilon=1e-5, axis=-1)
        yield sample("f32[1,2,3,2,2]", *parameters("f32[2]"), epsilon=1e-5)


class PerChannel(Op):
    """Normalisations with optional scale and bias per channel."""

    kept: ClassVar[int] = 1

    epsilon: float
    axis: int = 1

    def infer(self, x: TensorType, scale: TensorType | None = None, bias: TensorType | None = None) -> TensorType:
        """The type of x; the parameters have the extent of the channels."""
        _require_floats(self.name, x, scale, bias)
        axis = normal_axis(self.axis, x.rank)
        require(axis > 0, "axis 0 is the batch, not the channels")
        _require_shape("scale", scale, (x.shape[axis],))
        _require_shape("bias", bias, (x.shape[axis],))
        return x

    def _affine_per_channel(self, m: Arithmetic, x: Array, scale: Array | None, bias: Array | None) -> Array:
        axis = normal_axis(self.axis, x.ndim)
        scale, bias = (None if p is None else _align(m, p, x.ndim, axis) for p in (scale, bias))
        return _affine(x, scale, bias)

    def _finish_per_channel(self, b: Builder, x: Value, scale: Value | None, bias: Value | None, dtype: DType) -> Value:
        axis = normal_axis(self.axis, x.type.rank)
        factor, shift = (_channels(b, p, x.type.rank, axis) for p in _wide(b, scale, bias))
        return _finish(b, x, factor, shift, dtype)


class GroupNorm(PerChannel, name="group_norm"):
    """Standardises each group of consecutive channels of each sample, then ·scale + bias per channel.

    x: [n, c, *]   scale, bias: [c]   ->   [n, c, *] (Wu and He 2018, arXiv:1803.08494); groups divides c.
    """

    groups: int

    def infer(self, x: TensorType, scale: TensorType | None = None, bias: TensorType | None = None) -> TensorType:
        """The type of x; the channels are a multiple of the groups."""
        super().infer(x, scale, bias)
        channels = x.shape[normal_axis(self.axis, x.rank)]
        require(self.groups > 0, f"groups={self.groups} is not positive")
        require(same(channels // self.groups * self.groups, channels), f"{channels} channels, {self.groups} groups")
        return x

    def _grouped(self, shape: Sequence[Dim]) -> tuple[tuple[Dim, ...], tuple[int, ...]]:
        """The shape with groups apart from the channels in them, and the axes to standardise over."""
        axis = normal_axis(self.axis, len(shape))
        grouped = (*shape[:axis], self.groups, shape[axis] // self.groups, *shape[axis + 1 :])
        return grouped, tuple(a for a in range(1, len(grouped)) if a != axis)

    def reference(self, m: Arithmetic, x: Array, scale: Array | None = None, bias: Array | None = None) -> Array:
        """In two passes."""
        shape, axes = self._grouped(x.shape)
        apart = _standardised(m, m.move(lambda a: a.reshape(shape), x), axes, self.epsilon)
        return self._affine_per_channel(m, m.move(lambda a: a.reshape(x.shape), apart), scale, bias)

    def decompose(self, b: Builder, x: Value, scale: Value | None = None, bias: Value | None = None) -> Value:
        """reshape, standardise, reshape back."""
        shape, axes = self._grouped(x.type.shape)
        apart = _standardise(b, b.reshape(widened(b, x), shape=shape), axes, self.epsilon, _FORMS[0])
        back = b.reshape(apart, shape=x.type.shape)
        return self._finish_per_channel(b, back, scale, bias, x.type.dtype)

    def flattened(self, b: Builder, x: Value, scale: Value | None = None, bias: Value | None = None) -> Value:
        """The same through [n, groups, rest] where the channels come first."""
        if normal_axis(self.axis, x.type.rank) != 1:
            return self.decompose(b, x, scale, bias)
        rest = x.type.shape[1] // self.groups * product(x.type.shape[2:])
        rows = b.reshape(widened(b, x), shape=(x.type.shape[0], self.groups, rest))
        back = b.reshape(_standardise(b, rows, (2,), self.epsilon, _FORMS[0]), shape=x.type.shape)
        return self._finish_per_channel(b, back, scale, bias, x.type.dtype)

    def with_layer_norm(self, b: Builder, x: Value, scale: Value | None = None, bias: Value | None = None) -> Value:
        """The same with a layer norm over each group, where the channels come first and have a scale."""
        shape, _ = self._grouped(x.type.shape)
        return self._over_layers(b, x, shape, scale, bias)

    def with_flat_layer_norm(
        self, b: Builder, x: Value, scale: Value | None = None, bias: Value | None = None
    ) -> Value:
        """The same through [n, groups, rest]."""
        shape, _ = self._grouped(x.type.shape)
        return self._over_layers(b, x, (*shape[:2], product(shape[2:])), scale, bias)

    spellings = (flattened, with_layer_norm, with_flat_layer_norm)

    def _over_layers(self, b: Builder, x: Value, shape: Shape, scale: Value | None, bias: Value | None) -> Value:
        if normal_axis(self.axis, x.type.rank) != 1 or scale is None:
            return self.decompose(b, x, scale, bias)
        apart = b.layer_norm(b.reshape(widened(b, x), shape=shape), axis=2, epsilon=self.epsilon)
        return self._finish_per_channel(b, b.reshape(apart, shape=x.type.shape), scale, bias, x.type.dtype)

    @classmethod
    def guesses(cls, root: Node) -> Iterable[Guess]:
        """As many groups as the means upstream leave, channels first and last."""
        x = root.results[0].type
        for axis in dict.fromkeys((1, x.rank - 1)) if x.rank >= 2 else ():
            means = (t for t, axes, _ in reduced(root) if t.rank >= 3 and 0 not in axes)
            groups = dict.fromkeys(t.shape[axis if axis == 1 else -2] for t in means)
            settings = [{"axis": axis, "groups": g} for g in groups if isinstance(g, int) and g > 0]
            yield from with_and_without(x, [x.with_shape((x.shape[axis],))] * 2, settings)

    @classmethod
    def samples(cls) -> Iterable[Sample]:
        """Each rank, one group, a group per channel, both layouts, with and without each parameter."""
        yield sample("f32[2,6,4]", "f32[6]", "f32[6]", groups=3, epsilon=1e-5)
        yield sample("f64[2,4,3,2]", None, "f64[4]", groups=1, epsilon=1e-6)
        yield sample("f32[2,4,3,2]", "f32[4]", groups=4, epsilon=1e-6)
        yield sample("f16[2,3,2,4]", "f16[4]", "f16[4]", groups=2, epsilon=1e-5, axis=-1)
        yield sample("f32[3,6]", groups=2, epsilon=1e-5)


class InstanceNorm(PerChannel, name="instance_norm"):
    """Standardises each channel of each sample over the remaining axes, then ·scale + bias per channel.

    x: [n, c, *]   scale, bias: [c]   ->   [n, c, *] (Ulyanov et al. 2016, arXiv:1607.08022)
    """

    def _axes(self, rank: int) -> tuple[int, ...]:
        return tuple(a for a in range(1, rank) if a != normal_axis(self.axis, rank))

    def reference(self, m: Arithmetic, x: Array, scale: Array | None = None, bias: Array | None = None) -> Array:
        """In two passes."""
        return self._affine_per_channel(m, _standardised(m, x, self._axes(x.ndim), self.epsilon), scale, bias)

    def decompose(self, b: Builder, x: Value, scale: Value | None = None, bias: Value | None = None) -> Value:
        """Standardise over the other axes."""
        apart = _standardise(b, widened(b, x), self._axes(x.type.rank), self.epsilon, _FORMS[0])
        return self._finish_per_channel(b, apart, scale, bias, x.type.dtype)

    def with_layer_norm(self, b: Builder, x: Value, scale: Value | None = None, bias: Value | None = None) -> Value:
        """The same with a layer norm over the other axes, where the channels come first and have a scale."""
        if normal_axis(self.axis, x.type.rank) != 1 or scale is None:
            return self.decompose(b, x, scale, bias)
        apart = b.layer_norm(widened(b, x), axis=2, epsilon=self.epsilon)
        return self._finish_per_channel(b, apart, scale, bias, x.type.dtype)

    spellings = (with_layer_norm,)

    @classmethod
    def guesses(cls, root: Node) -> Iterable[Guess]:
        """Where means are taken over all axes but the samples and one."""
        x = root.results[0].type
        for axis in dict.fromkeys((1, x.rank - 1)) if x.rank >= 3 else ():
            others = tuple(a for a in range(1, x.rank) if a != axis)
            if any(axes == others for t, axes, _ in reduced(root) if t.rank == x.rank):
                yield from with_and_without(x, [x.with_shape((x.shape[axis],))] * 2, [{"axis": axis}])

    @classmethod
    def samples(cls) -> Iterable[Sample]:
        """Each rank, both layouts, with and without each parameter."""
        yield sample("f32[2,3,6]", "f32[3]", "f32[3]", epsilon=1e-5)
        yield sample("f64[2,4,3,2]", None, "f64[4]", epsilon=1e-6)
        yield sample("f16[2,3,2,4]", "f16[4]", epsilon=1e-5, axis=-1)
        yield sample("f32[1,2,3,2,2]", epsilon=1e-5)
