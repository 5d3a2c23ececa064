"""Nested programs that say nothing of their own: jit, remat, custom derivatives, sharding on one device."""

from __future__ import annotations

from typing import Any

from dragoman.frontends.jax.context import Context
from dragoman.frontends.jax.table.registry import translates
from dragoman.ir.errors import Unsupported
from dragoman.ir.graph import Value


@translates("jit", "pjit", "closed_call", "core_call", "remat", "remat2", "checkpoint", "custom_lin")
def call(c: Context, *args: Value, jaxpr: Any = None, call_jaxpr: Any = None, **_: Any) -> list[Value]:
    """The program itself."""
    return c.inline(jaxpr if jaxpr is not None else call_jaxpr, args)


@translates("custom_jvp_call")
def custom_jvp(c: Context, *args: Value, call_jaxpr: Any, **_: Any) -> list[Value]:
    """The function, without the rule for its derivative."""
    return c.inline(call_jaxpr, args)


@translates("custom_vjp_call", "custom_vjp_call_jaxpr")
def custom_vjp(c: Context, *args: Value, call_jaxpr: Any = None, fun_jaxpr: Any = None, **_: Any) -> list[Value]:
    """The function, without the rule for its derivative."""
    return c.inline(call_jaxpr if call_jaxpr is not None else fun_jaxpr, args)


@translates("shard_map")
def shard_map(c: Context, *args: Value, jaxpr: Any, mesh: Any, **_: Any) -> list[Value]:
    """The program, where there is one device."""
    if mesh.size != 1:
        raise Unsupported(f"it is spread over {mesh.size} devices: trace the model on one")
    return c.inline(jaxpr, args)


@translates("stop_gradient", "copy", "copy_p", "sharding_constraint", "name", "reduce_precision_barrier")
def same(c: Context, x: Value, **_: Any) -> Value:
    """The operand itself."""
    return x


@translates("optimization_barrier", "device_put", "pvary")
def all_same(c: Context, *xs: Value, **_: Any) -> list[Value]:
    """The operands themselves."""
    return list(xs)


# On one device a reduction over devices has one operand.
@translates("psum", "psum2", "psum_invariant", "pmax", "pmin", "pbroadcast")
def over_devices(c: Context, *xs: Value, **_: Any) -> list[Value]:
    """The operands themselves, where there is one device."""
    return list(xs)


@translates("axis_index")
def axis_index(c: Context, **_: Any) -> Value:
    """0: there is one device."""
    return c.b.const(0, c.type.dtype)


_HOST = "it calls Python on the host, which no other runtime can: take it out of the model"


@translates("pure_callback", "io_callback", "debug_callback", "debug_print", "callback", "outside_call")
def callback(c: Context, *_args: Value, **_: Any) -> list[Value]:
    """Refused."""
    raise Unsupported(_HOST)


@translates("dim_as_value")
def dim_as_value(c: Context, *, dim: Any) -> Value:
    """A size as a number."""
    return c.b.extent(c.dim(dim), c.type.dtype)


@translates("shape_assertion")
def shape_assertion(c: Context, *_args: Value, **_: Any) -> list[Value]:
    """Nothing: sizes are checked by the types."""
    return []


@translates("custom_linear_solve")
def custom_linear_solve(c: Context, *args: Value, const_lengths: Any, jaxprs: Any, **_: Any) -> list[Value]:
    """The solver that the model gives, on its constants and the right-hand sides."""
    counts = [int(n) for n in const_lengths]
    start = counts[0] + counts[1]
    operands = [*args[start : start + counts[2]], *args[sum(counts) :]]
    return c.inline(jaxprs.solve, operands)
