"""How many numbers an op adds up for one element of its result, and how far plain summation in order may go wrong by
that.

Runtimes add up in 32 partial sums (vector lanes, unrolled) and in order within each: n numbers of random rounding err
by √(n/32) units (Higham & Mary 2019, doi:10.1137/18M1226312; measured: ONNX Runtime's InstanceNormalization over 262
144 numbers errs by 22 units, √(n/32) is 90; over 16 384 by 3, and 23). Numbers that hardly differ round alike at each
step, and their errors add up to n/32 and more: `plain_sum_error` does the sums and looks (measured: ONNX Runtime's
ReduceMean of 65 536 numbers near 1.9 errs by 1 503 units, sums in 8 lanes by 1 503).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from dragoman.ir.graph import Node

_LANES = 32
_WIDTHS = (4, 8, 16, 32)  # lanes of vector units, unrolled or not
Shapes = Sequence[tuple[int, ...]]


def summation_units(node: Node, shapes: Shapes) -> float:
    """Units by which a plain summation in this node may be off; `shapes` are those of its operands in this run."""
    return math.sqrt(max(summed(node, shapes), 1) / _LANES)


def summed(node: Node, shapes: Shapes) -> int:
    """How many numbers are added up for one element of the result; 1 where the op adds up nothing."""
    rule = _RULES.get(node.op.name)
    if rule is None or not shapes:
        return 1
    return rule(node.op, shapes)


def plain_sum_error(x: Any, axes: Sequence[int]) -> Any:
    """How far float32 sums of real x over the axes, in order and in vector lanes, err at most: per element of the
    result with the axes kept, in float64.
    """
    axes = sorted(a % x.ndim for a in axes)
    kept = [a for a in range(x.ndim) if a not in axes]
    rows = np.transpose(x, (*kept, *axes)).reshape(*(x.shape[a] for a in kept), -1).astype(np.float32)
    worst = np.zeros(rows.shape[:-1])
    for width in _WIDTHS:
        whole = rows[..., : rows.shape[-1] // width * width].reshape(*rows.shape[:-1], -1, width)
        if whole.shape[-2] > 1:
            with np.errstate(all="ignore"):
                lanes = np.add.accumulate(whole, axis=-2)[..., -1, :]
                off = np.abs((lanes - whole.sum(axis=-2, dtype=np.float64)).sum(axis=-1))
            worst = np.maximum(worst, np.where(np.isfinite(off), off, 0.0))
    return np.expand_dims(worst, tuple(axes))


def _over_axes(op: Any, shapes: Shapes) -> int:
    return math.prod(shapes[0][a] for a in op.axes)


def _over_axis(op: Any, shapes: Shapes) -> int:
    return shapes[0][op.axis] if shapes[0] else 1


def _trailing(op: Any, shapes: Shapes) -> int:
    return math.prod(shapes[0][op.axis :])


def _last(op: Any, shapes: Shapes) -> int:
    return shapes[0][-1] if shapes[0] else 1


def _grouped(op: Any, shapes: Shapes) -> int:
    return math.prod(shapes[0][1:]) // op.groups


def _spatial(op: Any, shapes: Shapes) -> int:
    return math.prod(shapes[0]) // max(shapes[0][0] * shapes[0][op.axis], 1)


def _kernel(op: Any, shapes: Shapes) -> int:
    return math.prod(shapes[1][1:])


def _window(op: Any, shapes: Shapes) -> int:
    return math.prod(op.window)


def _attended(op: Any, shapes: Shapes) -> int:
    return max(shapes[0][-1], shapes[1][-2])


def _recurrent(op: Any, shapes: Shapes) -> int:
    return shapes[0][0] * (shapes[1][-1] + shapes[2][-1])  # an error made in one step goes through all later ones


def _whole(op: Any, shapes: Shapes) -> int:
    return math.prod(shapes[0])


_RULES: dict[str, Callable[[Any, Shapes], int]] = {
    **dict.fromkeys(("reduce_sum", "reduce_mean", "reduce_l1", "reduce_l2", "reduce_sum_square"), _over_axes),
    **dict.fromkeys(("reduce_logsumexp", "reduce_prod", "variance", "l2_normalize"), _over_axes),
    **dict.fromkeys(("softmax", "log_softmax", "cumsum", "cumprod"), _over_axis),
    **dict.fromkeys(("layer_norm", "rms_norm"), _trailing),
    **dict.fromkeys(("matmul", "linear"), _last),
    **dict.fromkeys(("conv", "conv_transpose"), _kernel),
    **dict.fromkeys(("avg_pool", "lp_pool"), _window),
    **dict.fromkeys(("lstm", "gru", "rnn"), _recurrent),
    **dict.fromkeys(("adaptive_avg_pool", "einsum", "scan", "while_loop"), _whole),
    "group_norm": _grouped,
    "instance_norm": _spatial,
    "attention": _attended,
}
