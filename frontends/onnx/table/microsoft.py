"""Operators of com.microsoft that exporters and optimisers emit. Those that no public text defines are not here."""

from __future__ import annotations

from dragoman.frontends.onnx.call import Call
from dragoman.frontends.onnx.context import Context
from dragoman.frontends.onnx.registry import MICROSOFT, translates
from dragoman.frontends.onnx.table.elementwise import aligned
from dragoman.frontends.onnx.table.matmul import multiplied
from dragoman.ir.errors import Unsupported
from dragoman.ir.graph import Value
from dragoman.ir.types import F32


def _swapped(c: Context, x: Value) -> Value:
    rank = x.type.rank
    return c.b.transpose(x, perm=(*range(rank - 2), rank - 1, rank - 2)) if rank > 1 else x


@translates("FusedMatMul", domain=MICROSOFT)
def fused_matmul(c: Context, n: Call) -> Value:
    """alpha·a·b, either turned around."""
    if n.int("transBatchA", 0) or n.int("transBatchB", 0):
        raise Unsupported("FusedMatMul that moves the batch")
    x = _swapped(c, n[0]) if n.int("transA", 0) else n[0]
    y = _swapped(c, n[1]) if n.int("transB", 0) else n[1]
    alpha = n.float("alpha", 1.0)
    product = multiplied(c, x, y)
    return product if alpha == 1.0 else c.b.mul(product, alpha)


@translates("Gelu", domain=MICROSOFT)
def gelu(c: Context, n: Call) -> Value:
    """x·Φ(x)."""
    return c.b.gelu(n[0])


@translates("BiasGelu", domain=MICROSOFT)
def bias_gelu(c: Context, n: Call) -> Value:
    """gelu(x + bias)."""
    return c.b.gelu(c.b.add(n[0], n[1]))


@translates("FastGelu", domain=MICROSOFT)
def fast_gelu(c: Context, n: Call) -> Value:
    """The approximation by tanh, of x plus a bias."""
    x = c.b.add(n[0], n[1]) if n.has(1) else n[0]
    return c.b.gelu(x, approximate="tanh")


@translates("QuickGelu", domain=MICROSOFT)
def quick_gelu(c: Context, n: Call) -> Value:
    """x·sigmoid(alpha·x)."""
    return c.b.quick_gelu(n[0], alpha=n.float("alpha", 1.702))


@translates("BiasAdd", domain=MICROSOFT)
def bias_add(c: Context, n: Call) -> Value:
    """x + bias + skip."""
    return c.b.add(c.b.add(n[0], n[1]), n[2])


@translates("FusedGemm", domain=MICROSOFT)
def fused_gemm(c: Context, n: Call) -> Value:
    """Gemm and an activation."""
    from dragoman.frontends.onnx.table.matmul import gemm

    return _activated(c, n, gemm(c, n))


@translates("FusedConv", domain=MICROSOFT)
def fused_conv(c: Context, n: Call) -> Value:
    """Conv, another tensor added, and an activation."""
    from dragoman.frontends.onnx.table.windows import conv

    y = conv(c, n)
    return _activated(c, n, c.b.add(y, n[3]) if n.has(3) else y)


def _activated(c: Context, n: Call, x: Value) -> Value:
    name = n.text("activation", "")
    numbers = n.floats("activation_params", [])
    plain = {"": lambda v: v, "Relu": c.b.relu, "Tanh": c.b.tanh, "Sigmoid": c.b.sigmoid}
    if name in plain and not numbers:
        return plain[name](x)
    if name == "LeakyRelu" and (numbers or n.given("activation_alpha")):
        return c.b.leaky_relu(x, alpha=numbers[0] if numbers else n.float("activation_alpha"))
    if name == "Clip" and len(numbers) == 2:
        return c.b.clip(x, low=numbers[0], high=numbers[1])
    if name == "HardSigmoid" and len(numbers) == 2:
        return c.b.hard_sigmoid(x, alpha=numbers[0], beta=numbers[1])
    raise Unsupported(f"{n.op} with the activation {name!r}")


@translates("SkipLayerNormalization", domain=MICROSOFT)
def skip_layer_norm(c: Context, n: Call) -> list[Value | None]:
    """The layer norm of x + skip + bias; and that sum."""
    b = c.b
    total = b.add(*aligned(c, [n[0], n[1]]))
    total = b.add(total, n[4]) if n.has(4) else total
    y = b.layer_norm(total, n[2], n.get(3), axis=total.type.rank - 1, epsilon=n.float("epsilon", 1e-12))
    return _with_sum(c, n, y, total)


@translates("SkipSimplifiedLayerNormalization", domain=MICROSOFT)
def skip_rms_norm(c: Context, n: Call) -> list[Value | None]:
    """The norm by the root mean square of x + skip + bias; and that sum."""
    b = c.b
    total = b.add(*aligned(c, [n[0], n[1]]))
    total = b.add(total, n[3]) if n.has(3) else total
    y = b.rms_norm(total, n[2], axis=total.type.rank - 1, epsilon=n.float("epsilon", 1e-12))
    return _with_sum(c, n, y, total)


def _with_sum(c: Context, n: Call, y: Value, total: Value) -> list[Value | None]:
    if n.wants(1) or n.wants(2):
        raise Unsupported(f"{n.op} that also gives its statistics")
    return [y, None, None, total]


@translates("SimplifiedLayerNormalization", domain=MICROSOFT)
@translates("SimplifiedLayerNormalization")
def rms_norm(c: Context, n: Call) -> list[Value]:
    """By the root of the mean square, over the trailing axes."""
    if n.wants(1):
        raise Unsupported("SimplifiedLayerNormalization that also gives its statistics")
    x = n[0]
    scale = c.cast(n[1], x.type.dtype) if n.type(1).dtype == F32 else n[1]
    return [c.b.rms_norm(x, scale, axis=n.int("axis", -1) % x.type.rank, epsilon=n.float("epsilon", 1e-5))]
