"""Runs the source model on NumPy arrays: compiled by JAX in its own precision, or in float64 as an oracle.

In double, the program that was traced is run with every real number in float64, so that nothing that the model rounds
on the way is rounded. The doubled weights are made when first asked for and given up by `release()`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import jax
import numpy as np
from jax import numpy as jnp

from dragoman.frontends.dynamic import Leaf
from dragoman.frontends.jax.dtypes import is_key
from dragoman.frontends.jax.trace import Call, traced
from dragoman.frontends.jax.weights import Array, to_numpy
from dragoman.frontends.jax.wide import run_wide, widened

Shapes = tuple[tuple[int, ...], ...]


class SourceRunner:
    """A model with the arguments of its call. Inputs come in the order of the graph's inputs, outputs in that of its
    outputs.
    """

    def __init__(self, call: Call, inputs: Sequence[str], states: Sequence[str]) -> None:
        self.name = f"JAX {jax.__version__}"
        self._call = call
        self._inputs = list(inputs)
        self._states = set(states)
        self._compiled: Callable[..., Any] | None = None
        self._wide: dict[Shapes, Callable[..., Any]] = {}
        self._doubled: list[Any] | None = None

    def examples(self) -> list[Array]:
        """The arguments that the model was traced with, in the order of the graph's inputs."""
        known = dict([*self._call.states, *self._call.arrays])
        return [to_numpy(known[name]) for name in self._inputs]

    def run(self, inputs: Sequence[Array], double: bool = False) -> list[Array]:
        """The outputs for these inputs. Floating-point inputs are widened in double; integers never change."""
        given = dict(zip(self._inputs, inputs, strict=True))
        leaves = [*self._call.states, *self._call.arrays]
        arrays = [_as_leaf(given.get(name, leaf), leaf) for name, leaf in leaves]
        results = self._in_double(arrays) if double else self._plainly(arrays)
        count = len(results) - len(self._call.states)
        after = [r for (name, _), r in zip(self._call.states, results[count:], strict=True) if name in self._states]
        return [to_numpy(x) for x in (*results[:count], *after)]

    def compiled(self, inputs: Sequence[Array]) -> tuple[Callable[..., Any], list[Any], list[Any]]:
        """The compiled model with its weights and these inputs as it takes them, for callers that time it."""
        given = dict(zip(self._inputs, inputs, strict=True))
        leaves = [*self._call.states, *self._call.arrays]
        arrays = [_as_leaf(given.get(name, leaf), leaf) for name, leaf in leaves]
        return jax.jit(self._flat), [leaf for _, leaf in self._call.weights], arrays

    @property
    def settings(self) -> list[Leaf]:
        """The numbers among the arguments, which the trace took for constants."""
        return [(name, x) for name, x in self._call.inputs if type(x) in (int, float, complex)]

    def release(self) -> None:
        """Give up the doubled weights and what was compiled."""
        self._doubled = None
        self._wide.clear()

    def _plainly(self, arrays: Sequence[Any]) -> list[Any]:
        if self._compiled is None:
            self._compiled = jax.jit(self._flat)
        return self._compiled([leaf for _, leaf in self._call.weights], arrays)

    def _flat(self, weights: Sequence[Any], arrays: Sequence[Any]) -> list[Any]:
        count = len(self._call.states)
        result, after = self._call.run(weights, arrays[:count], arrays[count:])
        return [*jax.tree_util.tree_leaves(result), *after]

    def _in_double(self, arrays: Sequence[Any]) -> list[Any]:
        shapes = tuple(tuple(a.shape) for a in arrays)
        weights = [leaf for _, leaf in self._call.weights]
        if shapes not in self._wide:
            program = traced(lambda *x: self._flat(x[: len(weights)], x[len(weights) :]), [*weights, *arrays])
            self._wide[shapes] = jax.jit(lambda *x: run_wide(program, x))
        with jax.enable_x64(True):
            if self._doubled is None:
                self._doubled = [_double(w) for w in weights]
            return self._wide[shapes](*self._doubled, *map(_double, arrays))


def _double(x: Any) -> Any:
    return x if is_key(getattr(x, "dtype", None) or np.float64) else widened(jnp.asarray(np.asarray(x)))


def _as_leaf(x: Any, leaf: Any) -> Any:
    """An input in the dtype that the model was traced with; integers as the random key that they are."""
    if is_key(leaf.dtype):
        return x if hasattr(x, "dtype") and is_key(x.dtype) else jax.random.wrap_key_data(jnp.asarray(x))
    return jnp.asarray(x, leaf.dtype)
