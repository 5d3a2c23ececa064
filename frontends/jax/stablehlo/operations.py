"""Operations of StableHLO that need more than a primitive's parameters: computed shapes, calls, regions.

Custom calls are taken by an allow-list: those that compute nothing, and those of LAPACK that `lapack` knows.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

from dragoman.frontends.jax.context import Context
from dragoman.frontends.jax.stablehlo import lapack, programs, table
from dragoman.ir.dims import Dim
from dragoman.ir.errors import Unsupported
from dragoman.ir.graph import Value
from dragoman.ir.types import I64, TensorType

if TYPE_CHECKING:
    from dragoman.frontends.jax.stablehlo.reader import Reader

_Types = tuple[TensorType, ...]
Special = Callable[["Reader", Any, list[Value], _Types], list[Value]]
SPECIAL: dict[str, Special] = {}
# Custom calls that compute nothing where there is one device: their operands come back, or nothing does.
_ALLOWED = {"Sharding": True, "SPMDFullToShardShape": True, "SPMDShardToFullShape": True, "shape_assertion": False}


def _special(*names: str) -> Callable[[Special], Special]:
    def register(function: Special) -> Special:
        SPECIAL.update(dict.fromkeys(names, function))
        return function

    return register


# ---- constants, sizes, calls ------------------------------------------------------------------------------


@_special("constant")
def _constant(r: Reader, operation: Any, args: list[Value], types: _Types) -> list[Value]:
    return [r.constant(operation, types[0])]


@_special("get_dimension_size")
def _size(r: Reader, operation: Any, args: list[Value], types: _Types) -> list[Value]:
    (dim,) = r.sizes[operation.results[0]]
    return [r.builder.extent(dim, types[0].dtype)]


@_special("func.call")
def _call(r: Reader, operation: Any, args: list[Value], types: _Types) -> list[Value]:
    return _called(r, operation, table.symbol(operation, "callee"), args)


@_special("composite")
def _composite(r: Reader, operation: Any, args: list[Value], types: _Types) -> list[Value]:
    """A function of CHLO by its name, any other by what it is composed of."""
    name = str(operation.attributes["name"]).strip('"')
    if name in table.PLAIN:
        return r.primitive(table.PLAIN[name], args, types, {})
    if name == "chlo.top_k":
        k = table.number_in(str(table.attribute(operation, "composite_attributes")), "k")
        return r.primitive("top_k", args, types, {"k": k})
    return _called(r, operation, table.symbol(operation, "decomposition"), args)


def _called(r: Reader, operation: Any, name: str, args: list[Value]) -> list[Value]:
    results, known = r.function(name, args, [r.sizes.get(v) for v in operation.operands])
    r.sizes.update({v: s for v, s in zip(operation.results, known, strict=True) if s is not None})
    return results


@_special("custom_call")
def _custom_call(r: Reader, operation: Any, args: list[Value], types: _Types) -> list[Value]:
    target = str(operation.attributes["call_target_name"]).strip('"')
    call = lapack.call_of(target)
    if call is not None:
        return call(r.context, operation, args, types)
    if target == "ApproxTopK":
        return _approx_top_k(r, operation, args, types)
    if target not in _ALLOWED:
        allowed = ", ".join(sorted(_ALLOWED))
        raise Unsupported(
            f"the custom call {target!r} runs code that is not in the file; allowed are {allowed}, ApproxTopK and some"
            " of LAPACK's"
        )
    return args[: len(types)] if _ALLOWED[target] else []


def _approx_top_k(r: Reader, operation: Any, args: list[Value], types: _Types) -> list[Value]:
    """All of the largest or smallest, whatever share of them is asked for; one array with its places only."""
    config = str(table.attribute(operation, "mhlo.backend_config"))
    comparator = str(table.attribute(operation, "called_computations"))
    greatest, least = "@top_k_gt_" in comparator, "@top_k_lt_" in comparator
    if len(args) != 4 or greatest == least:
        raise Unsupported("ApproxTopK by a function of its own")
    params = {
        "k": table.number_in(config, "top_k"),
        "reduction_dimension": table.number_in(config, "reduction_dim"),
        "is_max_k": greatest,
        "aggregate_to_topk": "aggregate_to_topk = true" in config,
    }
    return r.primitive("approx_top_k", args[:1], types, params)


SPECIAL["optimization_barrier"] = lambda r, operation, args, types: args

# ---- shapes that may be computed --------------------------------------------------------------------------


@_special("broadcast_in_dim", "dynamic_broadcast_in_dim")
def _broadcast(r: Reader, operation: Any, args: list[Value], types: _Types) -> list[Value]:
    shape = r.shape(operation.operands[1]) if len(args) > 1 else types[0].shape
    places = table.numbers(operation, "broadcast_dimensions")
    return r.primitive("broadcast_in_dim", args[:1], types, {"shape": shape, "broadcast_dimensions": places})


@_special("reshape", "dynamic_reshape")
def _reshape(r: Reader, operation: Any, args: list[Value], types: _Types) -> list[Value]:
    shape = r.shape(operation.operands[1]) if len(args) > 1 else types[0].shape
    return r.primitive("reshape", args[:1], types, {"new_sizes": shape})


@_special("iota", "dynamic_iota")
def _iota(r: Reader, operation: Any, args: list[Value], types: _Types) -> list[Value]:
    shape = r.shape(operation.operands[0]) if args else types[0].shape
    dimension = table.number(operation, "iota_dimension")
    return r.primitive("iota", (), (types[0].with_shape(shape),), {"dimension": dimension})


@_special("real_dynamic_slice")
def _slice(r: Reader, operation: Any, args: list[Value], types: _Types) -> list[Value]:
    start, stop, step = list(operation.operands)[1:]
    if start not in r.sizes:
        return [r.builder.dynamic_slice(args[0], r.context.cast(args[1], I64), sizes=_between(r, start, stop, step))]
    names = ("start_indices", "limit_indices", "strides")
    return r.primitive("slice", args[:1], types, dict(zip(names, map(r.shape, (start, stop, step)), strict=True)))


def _between(r: Reader, start: Any, stop: Any, step: Any) -> tuple[Dim, ...]:
    """The extents of a block that begins where values of arrays say, as JAX writes it: up to `start + sizes`. JAX has
    moved it inside before.
    """
    maker: Any = getattr(stop, "owner", None)
    if getattr(maker, "name", "") != "stablehlo.add" or maker.operands[0] != start or set(r.shape(step)) != {1}:
        raise Unsupported("a slice whose extent is computed from values of arrays")
    return r.shape(maker.operands[1])


@_special("dynamic_pad")
def _pad(r: Reader, operation: Any, args: list[Value], types: _Types) -> list[Value]:
    widths = [r.shape(v) for v in list(operation.operands)[2:]]
    return r.primitive("pad", args[:2], types, {"padding_config": tuple(zip(*widths, strict=True))})


@_special("dynamic_conv")
def _convolution(r: Reader, operation: Any, args: list[Value], types: _Types) -> list[Value]:
    widths = r.shape(operation.operands[2])
    primitive, params = table.READERS["convolution"](operation)
    padding = list(zip(widths[::2], widths[1::2], strict=True))
    return r.primitive(primitive, args[:2], types, {**params, "padding": padding})


@_special("gather", "dynamic_gather")
def _gather(r: Reader, operation: Any, args: list[Value], types: _Types) -> list[Value]:
    sizes = r.shape(operation.operands[2]) if len(args) > 2 else table.numbers(operation, "slice_sizes")
    _check_index_axis(operation, args[1])
    return r.primitive("gather", args[:2], types, table.gather_params(operation, sizes))


@_special("convert")
def _convert(r: Reader, operation: Any, args: list[Value], types: _Types) -> list[Value]:
    return r.primitive("convert_element_type", args, types, {"new_dtype": types[0].dtype.numpy})


@_special("bitcast_convert")
def _bitcast(r: Reader, operation: Any, args: list[Value], types: _Types) -> list[Value]:
    return r.primitive("bitcast_convert_type", args, types, {"new_dtype": types[0].dtype.numpy})


@_special("select")
def _select(r: Reader, operation: Any, args: list[Value], types: _Types) -> list[Value]:
    which, then, otherwise = args
    return r.primitive("select_n", [which, otherwise, then], types, {})


@_special("chlo.top_k")
def _top_k(r: Reader, operation: Any, args: list[Value], types: _Types) -> list[Value]:
    return r.primitive("top_k", args, types, {"k": table.number(operation, "k")})


# ---- reductions, windows, scatters: by what their region is ----------------------------------------------


@_special("reduce")
def _reduce(r: Reader, operation: Any, args: list[Value], types: _Types) -> list[Value]:
    """Along axes by one operation and then with the initial value; or by a function of the model."""
    block = _block(operation)
    axes = table.numbers(operation, "dimensions")
    half = len(args) // 2
    primitive = table.REDUCTIONS.get(programs.only_operation(block)) if half == 1 else None
    if primitive is not None:
        found = r.primitive(primitive, args[:1], types, {"axes": axes})
        return _with_initial(r, programs.only_operation(block), found, args[1], types)
    extremum = programs.is_argument_of(block, [t.dtype.numpy for t in types])
    if extremum and _counts(operation.operands[1], axes) and not _is_used(operation.results[0]):
        index = r.primitive(extremum, args[:1], types[1:], {"axes": axes})
        return [Value(types[0].with_shape(index[0].type.shape)), *index]
    program = _program(block)
    return r.primitive("reduce", args, types, {"jaxpr": program, "dimensions": axes})


def _counts(places: Any, axes: Sequence[int]) -> bool:
    """Whether a value of the artefact is the number of each element along the only axis."""
    maker = getattr(places, "owner", None)
    return (
        getattr(maker, "name", "") in ("stablehlo.iota", "stablehlo.dynamic_iota")
        and len(axes) == 1
        and table.number(maker, "iota_dimension") == axes[0]
    )


def _is_used(result: Any) -> bool:
    return any(True for _ in result.uses)


@_special("reduce_window")
def _reduce_window(r: Reader, operation: Any, args: list[Value], types: _Types) -> list[Value]:
    block, geometry = _block(operation), table.window_params(operation)
    name = programs.only_operation(block) if len(args) == 2 else ""
    running = _running_axis(args[0], geometry)
    if name in table.RUNNING and running is not None:
        axis, reverse = running
        found = r.primitive(table.RUNNING[name], args[:1], types, {"axis": axis, "reverse": reverse})
        return _with_initial(r, name, found, args[1], types)
    if name in table.WINDOWS:
        found = r.primitive(table.WINDOWS[name], args[:1], types, geometry)
        return _with_initial(r, name, found, args[1], types)
    return r.primitive("reduce_window", args, types, {"jaxpr": _program(block), **geometry})


def _running_axis(x: Value, geometry: table.Params) -> tuple[int, bool] | None:
    """The axis along which windows hold all elements so far, or all from there on; None if they are others."""
    sizes, rank = geometry["window_dimensions"], x.type.rank
    axes = [a for a in range(rank) if sizes[a] != 1]
    ones = all(n == 1 for k in ("window_strides", "base_dilation", "window_dilation") for n in geometry[k])
    if len(axes) != 1 or not ones or sizes[axes[0]] != x.type.shape[axes[0]]:
        return None
    (axis,) = axes
    others = [p for a, p in enumerate(geometry["padding"]) if a != axis]
    if any(p != (0, 0) for p in others):
        return None
    whole = {(sizes[axis] - 1, 0): False, (0, sizes[axis] - 1): True}
    reverse = whole.get(tuple(geometry["padding"][axis]))
    return None if reverse is None else (axis, reverse)


def _with_initial(r: Reader, name: str, found: list[Value], initial: Value, types: _Types) -> list[Value]:
    """Combined with the initial value; the rules drop one that changes nothing."""
    combine = table.PLAIN[name.removeprefix("stablehlo.")]
    return r.primitive(combine, [found[0], initial], types, {})


@_special("scatter")
def _scatter(r: Reader, operation: Any, args: list[Value], types: _Types) -> list[Value]:
    """Updates put into an operand, or combined with it by one operation; those that stick out are left out."""
    if len(args) != 3:
        raise Unsupported("a scatter into several arrays at once")
    _check_index_axis(operation, args[1])
    block = _block(operation)
    name = "scatter" if programs.returned(block) == [1] else table.SCATTERS.get(_applied(block), "")
    if not name:
        raise Unsupported("a scatter that combines by more than one sum, product, maximum or minimum")
    return r.primitive(name, args, types, table.scatter_params(operation))


def _applied(block: Any) -> str:
    """The operation of a region, its operands in order."""
    name = programs.only_operation(block)
    if name == "stablehlo.subtract" and list(programs.operations_of(block)[0].operands) != list(block.arguments):
        return ""
    return name


def _check_index_axis(operation: Any, indices: Value) -> None:
    """Indices are read along their last axis, as JAX writes them."""
    text = str(
        table.attribute(operation, "dimension_numbers") or table.attribute(operation, "scatter_dimension_numbers")
    )
    last = indices.type.rank - 1
    if table.number_in(text, "index_vector_dim", 0) != last:
        raise Unsupported(f"{operation.name} with indices that are not along the last axis")


@_special("select_and_scatter")
def _select_and_scatter(r: Reader, operation: Any, args: list[Value], types: _Types) -> list[Value]:
    """The gradient of pooling: each element of the source added where its window has its first extremum."""
    chosen, combined = (region.blocks[0] for region in operation.regions)
    inner = programs.operations_of(chosen)
    in_order = len(inner) == 2 and list(inner[0].operands) == list(chosen.arguments)
    direction = table.direction(inner[0]) if in_order and inner[0].name == "stablehlo.compare" else ""
    if direction not in ("ge", "le", "gt", "lt") or programs.only_operation(combined) != "stablehlo.add":
        raise Unsupported("a select_and_scatter that is not the gradient of a maximum or minimum")
    x, source, initial = args
    params = {**table.window_params(operation), "select_prim": direction}
    for unused in ("base_dilation", "window_dilation"):
        params.pop(unused)
    found = r.primitive("select_and_scatter_add", [source, x], types, params)
    return r.primitive("add", [found[0], initial], types, {})


@_special("sort")
def _sort(r: Reader, operation: Any, args: list[Value], types: _Types) -> list[Value]:
    """In the order that `lax.sort` gives."""
    keys = programs.keys_of_sort(_block(operation), [t.dtype.numpy for t in types])
    if keys is None:
        raise Unsupported("a sort by another order than that of lax.sort")
    params = {"dimension": table.number(operation, "dimension"), "num_keys": keys}
    return r.primitive("sort", args, types, params)


def _block(operation: Any) -> Any:
    return operation.regions[0].blocks[0]


def _program(block: Any) -> Any:
    from dragoman.frontends.jax.stablehlo.reader import Program

    return Program(block)


# ---- control flow -----------------------------------------------------------------------------------------


@_special("case")
def _case(r: Reader, operation: Any, args: list[Value], types: _Types) -> list[Value]:
    """The branch of that number, the last for one out of range."""
    branches = tuple(_program(region.blocks[0]) for region in operation.regions)
    return r.primitive("cond", [_branch(r, operation, args[0], len(branches))], types, {"branches": branches})


def _branch(r: Reader, operation: Any, which: Value, count: int) -> Value:
    """The number of the branch, the last for one out of range. JAX moves it inside itself; a condition has two."""
    maker: Any = getattr(operation.operands[0], "owner", None)
    name = getattr(maker, "name", "")
    if name == "stablehlo.clamp" or count == 1:
        return which
    if name == "stablehlo.convert" and "tensor<i1>" in str(maker.operands[0].type):
        return which
    b = r.builder
    return b.where(b.less(which, 0), b.const(count - 1, which.type.dtype), which)


@_special("if")
def _if(r: Reader, operation: Any, args: list[Value], types: _Types) -> list[Value]:
    then, otherwise = (_program(region.blocks[0]) for region in operation.regions)
    return r.primitive("cond", args, types, {"branches": (otherwise, then)})


@_special("while")
def _while(r: Reader, operation: Any, args: list[Value], types: _Types) -> list[Value]:
    """As long as the condition holds. What the body hands on as it got it stays outside of the state."""
    condition, body = (_program(region.blocks[0]) for region in operation.regions)
    handed = programs.returned(body.block)
    state = [i for i in range(len(args)) if handed[i] != i]
    held = [i for i in range(len(args)) if handed[i] == i]
    order = [*state, *held]

    def given(values: Sequence[Value]) -> list[Value]:
        return [values[order.index(i)] for i in range(len(order))]

    def asks(inner: Context, *values: Value) -> list[Value]:
        return inner.inline(condition, given(values))

    def does(inner: Context, *values: Value) -> list[Value]:
        results = inner.inline(body, given(values))
        return [results[i] for i in state]

    kinds = [args[i].type for i in order]
    regions, outside = r.regions([asks, does], [kinds, kinds], within=[condition, body])
    operands = [*(args[i] for i in order), *outside]
    count = len(held) + len(outside)
    found = r.builder.while_loop(*operands, condition=regions[0], body=regions[1], invariants=count)
    left = dict(zip(state, found, strict=True))
    return [left.get(i, args[i]) for i in range(len(args))]
