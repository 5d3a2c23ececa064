"""The launch of each template: which tensors, sizes and hooks it gets for a node, and what it goes on to."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from dragoman.backends.triton import hooks, table
from dragoman.backends.triton.body import Body, Index, Term
from dragoman.backends.triton.hooks import Function, Rows, Sink
from dragoman.backends.triton.program import Program, told
from dragoman.ir.dims import Dim, product
from dragoman.ir.graph import Node, Value
from dragoman.ir.ops.attention import Attention
from dragoman.ir.ops.conv import CHANNELS_LAST, Conv, spatial_axes
from dragoman.ir.ops.norm import LayerNorm, RmsNorm
from dragoman.ir.ops.pool import AvgPool, MaxPool
from dragoman.ir.ops.reduce import Reduction
from dragoman.ir.types import Shape


def emit_anchor(program: Program, node: Node, final: Value) -> None:
    """Launch the template of a node; `final` is what is stored: its result, or what its epilogue makes of it."""
    _EMITTERS[node.op.name](program, node, final)


def _operand(node: Node, number: int) -> Value:
    value = node.operands[number]
    assert value is not None
    return value


def _optional(node: Node, number: int) -> Value | None:
    return node.operands[number] if number < len(node.operands) else None


def _report(node: Node, *made: Function) -> str:
    return told([node, *(n for each in made for n in each.nodes)])


# ---- over rows ------------------------------------------------------------------------------------------


def _over_rows(
    program: Program, node: Node, final: Value, kernel: str, rows: Rows, pair: tuple[Function, Function], more: str = ""
) -> None:
    load, store = pair
    names = program.shared.function(load, "load"), program.shared.function(store, "store")
    sources = program.tuple_of(load)
    given = program.tuple_of(store, "{out}")
    out = program.buffer(final)
    extents = f"({program.shared.dim(product(rows.rows))}, {program.shared.dim(product(rows.cols))})"
    hooks_text = f"LOAD=fused.{names[0]}, STORE=fused.{names[1]}"
    text = f"rows({kernel}, {sources}, {given.format(out=out)}, {extents}, {more}{hooks_text})"
    program.launch(text, _report(node, load, store))


def _softmax(program: Program, node: Node, final: Value) -> None:
    x = _operand(node, 0)
    rows = hooks.axis_rows(x.type.shape, node.op.axis % x.type.rank)  # type: ignore[attr-defined]
    load = hooks.load_rows(x, rows, program.loadable)
    store = Sink(node.results[0], final, program.loadable).rows(rows)
    _over_rows(program, node, final, "softmax_kernel", rows, (load, store), f"LOG={node.op.name == 'log_softmax'}, ")


def _norm(program: Program, node: Node, final: Value) -> None:
    op, x = node.op, _operand(node, 0)
    assert isinstance(op, (LayerNorm, RmsNorm))
    axis = op.axis % x.type.rank
    rows = hooks.trailing_rows(x.type.shape, axis)
    scale, bias = _optional(node, 1), _optional(node, 2)

    def affine(made: Body, term: Term, index: Index) -> Term:
        if scale is not None:
            term = made.call("{0} * {1}", term, made.value(scale, index[axis:]))
        return term if bias is None else made.call("{0} + {1}", term, made.value(bias, index[axis:]))

    load = hooks.load_rows(x, rows, program.loadable)
    store = Sink(node.results[0], final, program.loadable, affine).rows(rows)
    settings = f"{op.epsilon!r}, CENTRED={isinstance(op, LayerNorm)}, "
    _over_rows(program, node, final, "norm_kernel", rows, (load, store), settings)


_KINDS = {"reduce_sum": "sum", "reduce_max": "max", "reduce_min": "min", "reduce_logsumexp": "logsumexp"} | {
    "reduce_any": "max",
    "reduce_all": "min",
}


def _reduce(program: Program, node: Node, final: Value) -> None:
    op, x = node.op, _operand(node, 0)
    assert isinstance(op, Reduction)
    rows = hooks.reduced_rows(op, x.type.shape)
    load = hooks.load_rows(x, rows, program.loadable)
    flag = node.results[0].type.dtype.kind == "bool"

    def whether(made: Body, term: Term, index: Index) -> Term:
        return made.call("{0} > 0", term)

    store = Sink(node.results[0], final, program.loadable, whether if flag else None).reduced(rows)
    _over_rows(program, node, final, "reduce_kernel", rows, (load, store), f'KIND="{_KINDS[op.name]}", ')


def _pool(program: Program, node: Node, final: Value) -> None:
    op, x = node.op, _operand(node, 0)
    assert isinstance(op, (MaxPool, AvgPool))
    shape, axes = node.results[0].type.shape, spatial_axes(x.type.rank, op.layout)
    rows = Rows(shape, op.window, lambda row, col: row)
    made, index, _, inside = _window(program, op, x, shape, op.window)
    neutral = 'float("-inf")' if isinstance(op, MaxPool) else "0.0"
    with made.where(inside):
        term = made.value(x, index)
    load = hooks.load_tile(made, made.call(f"tl.where({{0}}, {{1}}, {neutral})", inside, term))
    before = None if isinstance(op, MaxPool) else _mean(op, x.type.shape, axes)
    store = Sink(node.results[0], final, program.loadable, before).reduced(rows)
    kind = "max" if isinstance(op, MaxPool) else "sum"
    _over_rows(program, node, final, "reduce_kernel", rows, (load, store), f'KIND="{kind}", ')


def _window(
    program: Program, op: MaxPool | AvgPool | Conv, x: Value, shape: Shape, kernel: Shape
) -> tuple[Body, Index, Index, Term]:
    """The body of a LOAD whose rows are elements of the result and whose columns are taps: where x is read, the tap,
    and whether that is inside of x.
    """
    made = hooks.body(program.loadable)
    made.conditions.append(Term(f"(row < {made.extent(product(shape)).text})", hooks.ROW))
    made.conditions.append(Term(f"(col < {made.extent(product(kernel)).text})", hooks.COL))
    index = list(made.split(Term("row", hooks.ROW), shape))
    taps = made.split(Term("col", hooks.COL), kernel)
    inside = Term("mask", hooks.ROW | hooks.COL)
    for i, axis in enumerate(spatial_axes(x.type.rank, op.layout)):
        at = made.plus(made.times(index[axis], op.strides[i]), made.times(taps[i], op.dilations[i]))
        at = made.plus(at, made.extent(op.padding[i][0]), "-")
        index[axis] = at = made.put(at.text, at.axes)
        here = made.call("({0} >= 0) & ({0} < {1})", at, made.extent(x.type.shape[axis]))
        inside = made.call("{0} & {1}", inside, here)
    return made, tuple(index), taps, inside


def _mean(op: AvgPool, shape: Shape, axes: Sequence[int]) -> Callable[[Body, Term, Index], Term]:
    """The division of a window's sum by the number of its places."""

    def divided(made: Body, term: Term, index: Index) -> Term:
        if op.divisor is not None:
            return made.call(f"{{0}} / {op.divisor}", term)
        if not op.ceil_mode and (op.count_include_pad or not any(low or high for low, high in op.padding)):
            return made.call(f"{{0}} / {product(op.window)}", term)
        for i, axis in enumerate(axes):
            start = made.plus(made.times(index[axis], op.strides[i]), made.extent(op.padding[i][0]), "-")
            low, high = op.padding[i] if op.count_include_pad else (0, 0)
            end = made.extent(shape[axis] + high)
            places = [f"{{1}} + {tap * op.dilations[i]}" for tap in range(op.window[i])]
            counted = [f"(({place} >= {-low}) & ({place} < {{2}})).to(tl.float32)" for place in places]
            start = made.call("{0} + tl.zeros_like(row)", start)
            term = made.call(f"{{0}} / ({' + '.join(counted)})", term, start, end)
        return term

    return divided


# ---- products -------------------------------------------------------------------------------------------


def _biased(bias: Value | None, axis: int) -> Callable[[Body, Term, Index], Term] | None:
    if bias is None:
        return None
    return lambda made, term, index: made.call("{0} + {1}", term, made.value(bias, (index[axis],)))


def _linear(program: Program, node: Node, final: Value) -> None:
    x, weight = _operand(node, 0), _operand(node, 1)
    sink = Sink(node.results[0], final, program.loadable, _biased(_optional(node, 2), -1))
    lead, depth = x.type.shape[:-1], x.type.shape[-1]
    left = f"{program.whole(x)}.view(({program.shared.dim(product(lead))}, {program.shared.dim(depth)}))"
    store = sink.product((), lead, node.results[0].type.shape[-1])
    _product(program, node, final, (left, f"{program.name(weight)}.mT"), store)


def _matmul(program: Program, node: Node, final: Value) -> None:
    x, y = _operand(node, 0), _operand(node, 1)
    sink = Sink(node.results[0], final, program.loadable)
    left, right = program.name(x), program.name(y)
    left = f"{left}[None, :]" if x.type.rank == 1 else left
    right = f"{right}[:, None]" if y.type.rank == 1 else right
    shape = list(node.results[0].type.shape)
    cols = shape.pop() if y.type.rank > 1 else 1
    rows = shape.pop() if x.type.rank > 1 else 1
    if y.type.rank == 2 and x.type.rank > 2:
        depth = program.shared.dim(x.type.shape[-1])
        left = f"{program.whole(x)}.view(({program.shared.dim(product((*shape, rows)))}, {depth}))"
        store = sink.product((), (*shape, rows), cols)
    else:
        store = _with_units(sink, tuple(shape), rows, cols, (x.type.rank > 1, y.type.rank > 1))
    _product(program, node, final, (left, right), store)


def _with_units(sink: Sink, batches: Shape, rows: Dim, cols: Dim, has: tuple[bool, bool]) -> Function:
    """STORE of a product one of whose operands may be a vector, whose axis the result lacks."""
    if all(has):
        return sink.product(batches, (rows,), cols)
    made = hooks.body(sink.stored)
    made.conditions.append(Term(f"(m < {made.extent(rows).text})", hooks.ROW))
    made.conditions.append(Term(f"(n < {made.extent(cols).text})", hooks.COL))
    index = made.split(Term("batch"), batches)
    index += made.split(Term("m", hooks.ROW), (rows,)) if has[0] else ()
    index += made.split(Term("n", hooks.COL), (cols,)) if has[1] else ()
    return sink.into(made, "value, batch, m, n, mask, sinks", index, hooks.ROW | hooks.COL)


def _product(program: Program, node: Node, final: Value, pair: tuple[str, str], store: Function) -> None:
    name = program.shared.function(store, "store")
    given = program.tuple_of(store, "{out}")
    out = program.buffer(final)
    text = f"product({pair[0]}, {pair[1]}, {out}, {given.format(out=out)}, fused.{name})"
    program.launch(text, _report(node, store))


def _depthwise(program: Program, node: Node, final: Value) -> None:
    """One filter for each channel: sums over taps alone, an element of the result a row; no product is wasted."""
    op, x, weight = node.op, _operand(node, 0), _operand(node, 1)
    assert isinstance(op, Conv)
    shape, channel = node.results[0].type.shape, x.type.rank - 1 if op.layout == CHANNELS_LAST else 1
    kernel = tuple(weight.type.shape[2:])
    made, index, taps, inside = _window(program, op, x, shape, kernel)
    with made.where(inside):
        term = made.value(x, index)
    factor = made.value(weight, (index[channel], Term("0"), *taps))
    term = made.call("tl.where({0}, {1} * {2}, 0.0)", inside, term, factor)
    load = hooks.load_tile(made, term)
    store = Sink(node.results[0], final, program.loadable, _biased(_optional(node, 2), channel))
    rows = Rows(shape, kernel, lambda row, col: row)
    pair = load, store.reduced(rows)
    _over_rows(program, node, final, "reduce_kernel", rows, pair, 'KIND="sum", ')


def _conv(program: Program, node: Node, final: Value) -> None:
    if table.is_depthwise(node):
        _depthwise(program, node, final)
        return
    op, x, weight = node.op, _operand(node, 0), _operand(node, 1)
    assert isinstance(op, Conv)
    shape, last = node.results[0].type.shape, op.layout == CHANNELS_LAST
    axes = spatial_axes(x.type.rank, op.layout)
    places, filters = tuple(shape[a] for a in axes), weight.type.shape[0] // op.groups
    bias = _biased(_optional(node, 2), len(shape) - 1 if last else 1)
    sink = Sink(node.results[0], final, program.loadable, bias)
    store = sink.convolution(shape[0], places, op.groups, filters, last)
    name = program.shared.function(store, "store")
    tensors = f"{program.name(x)}, {program.name(weight)}"
    given = program.tuple_of(store, "{out}")
    out = program.buffer(final)
    lows = tuple(low for low, _ in op.padding)
    places_text = "(" + "".join(f"{program.shared.dim(d)}, " for d in places).rstrip() + ")"
    window = f"({tuple(op.strides)}, {lows}, {tuple(op.dilations)})"
    text = f'convolution({tensors}, {out}, {places_text}, {window}, {op.groups}, "{op.layout}", '
    program.launch(f"{text}{given.format(out=out)}, fused.{name})", _report(node, store))


def _attention(program: Program, node: Node, final: Value) -> None:
    op, mask = node.op, _optional(node, 3)
    assert isinstance(op, Attention)
    rank = _operand(node, 0).type.rank
    lift = "[None]" if rank == 3 else ""
    tensors = [f"{program.name(_operand(node, k))}{lift}" for k in range(3)]
    tensors.append("None" if mask is None else program.name(mask))
    out = program.buffer(final)
    settings: dict[str, Any] = {"scale": op.scale, "causal": op.causal, "softcap": op.softcap}
    settings["empty_rows"] = op.empty_rows
    told_settings = ", ".join(f"{k}={v!r}" for k, v in settings.items())
    program.launch(f"attend({', '.join(tensors)}, {out}{lift}, {told_settings})", _report(node))


_EMITTERS: dict[str, Callable[[Program, Node, Value], None]] = {
    "softmax": _softmax,
    "log_softmax": _softmax,
    "layer_norm": _norm,
    "rms_norm": _norm,
    "max_pool": _pool,
    "avg_pool": _pool,
    "matmul": _matmul,
    "linear": _linear,
    "conv": _conv,
    "attention": _attention,
    **dict.fromkeys(_KINDS, _reduce),
}
