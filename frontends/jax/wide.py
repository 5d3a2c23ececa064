"""A traced program run in double: every real number in float64, whatever the model writes down.

Integers and booleans keep their dtypes. Only what looks at the bits of a number is done in the dtype the model has.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import jax
import numpy as np
from jax import lax
from jax import numpy as jnp
from jax.extend.core import ClosedJaxpr, Jaxpr, Literal, Var

from dragoman.frontends.jax.walker import parts_of, wanted_equations

_NESTED = frozenset(
    {"jit", "pjit", "closed_call", "core_call", "remat", "remat2", "checkpoint", "custom_jvp_call", "custom_vjp_call"}
)
_BITS = frozenset({"bitcast_convert_type", "nextafter"})


def widened(x: Any) -> Any:
    """An array or number in float64 or complex128 if it holds real or complex numbers."""
    dtype = getattr(x, "dtype", None)
    if dtype is None or jnp.issubdtype(dtype, jax.dtypes.extended):
        return x
    return x.astype(wide_dtype(dtype)) if wide_dtype(dtype) != dtype else x


def wide_dtype(dtype: Any) -> Any:
    """float64 and complex128 for real and complex dtypes; others as they are."""
    if jnp.issubdtype(dtype, np.complexfloating):
        return np.dtype(np.complex128)
    return np.dtype(np.float64) if jnp.issubdtype(dtype, np.floating) else dtype


def run_wide(program: Any, args: Sequence[Any]) -> list[Any]:
    """The outputs of a program in double. Call it with 64-bit types enabled."""
    jaxpr, consts = parts_of(program)
    values: dict[Var, Any] = dict(zip(jaxpr.constvars, map(_array, consts), strict=True))
    values.update(zip(jaxpr.invars, args, strict=True))

    def read(atom: Any) -> Any:
        return _array(atom.val) if isinstance(atom, Literal) else values[atom]

    for equation in wanted_equations(jaxpr):
        results = _equation(equation, [read(v) for v in equation.invars])
        values.update(zip(equation.outvars, results, strict=True))
    return [read(v) for v in jaxpr.outvars]


def _array(x: Any) -> Any:
    dtype = getattr(x, "dtype", None)
    if dtype is not None and jnp.issubdtype(dtype, jax.dtypes.extended):
        return x
    return widened(jnp.asarray(np.asarray(x)))


def _equation(equation: Any, args: list[Any]) -> list[Any]:
    name, params = equation.primitive.name, equation.params
    if name in _NESTED:
        return run_wide(params.get("jaxpr") or params.get("call_jaxpr") or params.get("fun_jaxpr"), args)
    special = _SPECIAL.get(name)
    if special is not None:
        return special(equation, args)
    if any(isinstance(p, (ClosedJaxpr, Jaxpr)) for p in params.values()) and name not in _BITS:
        raise NotImplementedError(f"{name} in double precision")
    if name in _BITS:
        args = [a.astype(v.aval.dtype) for a, v in zip(args, equation.invars, strict=True)]
    else:
        params = {k: _param(v) for k, v in params.items()}
    results = equation.primitive.bind(*args, **params)
    return [widened(r) for r in (results if equation.primitive.multiple_results else [results])]


def _param(value: Any) -> Any:
    return wide_dtype(value) if isinstance(value, np.dtype) else value


def _reduce_precision(equation: Any, args: list[Any]) -> list[Any]:
    return args


def _scan(equation: Any, args: list[Any]) -> list[Any]:
    p = equation.params
    constants, carries = p["num_consts"], p["num_carry"]
    held, begun, sequences = args[:constants], args[constants : constants + carries], args[constants + carries :]

    def body(carry: list[Any], elements: list[Any]) -> tuple[list[Any], list[Any]]:
        results = run_wide(p["jaxpr"], [*held, *carry, *elements])
        return results[:carries], results[carries:]

    last, stacked = lax.scan(body, list(begun), list(sequences), length=p["length"], reverse=p["reverse"])
    return [*last, *stacked]


def _while(equation: Any, args: list[Any]) -> list[Any]:
    p = equation.params
    asked, done = p["cond_nconsts"], p["body_nconsts"]
    for_condition, for_body, state = args[:asked], args[asked : asked + done], args[asked + done :]
    return lax.while_loop(
        lambda s: run_wide(p["cond_jaxpr"], [*for_condition, *s])[0],
        lambda s: run_wide(p["body_jaxpr"], [*for_body, *s]),
        list(state),
    )


def _cond(equation: Any, args: list[Any]) -> list[Any]:
    which, *operands = args
    branches = [_branch(b) for b in equation.params["branches"]]
    return lax.switch(which, branches, *operands)


def _branch(program: Any) -> Callable[..., list[Any]]:
    return lambda *operands: run_wide(program, operands)


def _scatter(equation: Any, args: list[Any]) -> list[Any]:
    p = equation.params
    function = _SCATTERS[equation.primitive.name.replace("-", "_")]
    settings = {k: p[k] for k in ("indices_are_sorted", "unique_indices", "mode")}
    return [function(*args, p["dimension_numbers"], **settings)]


_SCATTERS: dict[str, Callable[..., Any]] = {
    "scatter": lax.scatter,
    "scatter_add": lax.scatter_add,
    "scatter_mul": lax.scatter_mul,
    "scatter_min": lax.scatter_min,
    "scatter_max": lax.scatter_max,
}


def _combining(program: Any) -> Callable[..., Any]:
    def combine(*operands: Any) -> Any:
        flat = jax.tree_util.tree_leaves(operands)
        results = run_wide(program, flat)
        return results[0] if len(results) == 1 else tuple(results)

    return combine


def _reduce(equation: Any, args: list[Any]) -> list[Any]:
    p = equation.params
    half = len(args) // 2
    operands, initial = tuple(args[:half]), tuple(args[half:])
    if half == 1:
        return [lax.reduce(operands[0], initial[0], _combining(p["jaxpr"]), p["dimensions"])]
    return list(lax.reduce(operands, initial, _combining(p["jaxpr"]), p["dimensions"]))


def _reduce_window(equation: Any, args: list[Any]) -> list[Any]:
    p = equation.params
    half = len(args) // 2
    geometry = (p["window_dimensions"], p["window_strides"], p["padding"], p["base_dilation"], p["window_dilation"])
    operands, initial = tuple(args[:half]), tuple(args[half:])
    if half == 1:
        return [lax.reduce_window(operands[0], initial[0], _combining(p["jaxpr"]), *geometry)]
    return list(lax.reduce_window(operands, initial, _combining(p["jaxpr"]), *geometry))


def _cholesky(equation: Any, args: list[Any]) -> list[Any]:
    return [jnp.tril(equation.primitive.bind(*args, **equation.params))]  # what is above is left over


_SPECIAL: dict[str, Callable[[Any, list[Any]], list[Any]]] = {
    "scan": _scan,
    "while": _while,
    "cholesky": _cholesky,
    "cond": _cond,
    "reduce": _reduce,
    "reduce_precision": _reduce_precision,
    "reduce_window": _reduce_window,
    **dict.fromkeys([*_SCATTERS, *(name.replace("_", "-") for name in _SCATTERS)], _scatter),
}
