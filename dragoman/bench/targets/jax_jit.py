"""The source compiled by JAX."""

from __future__ import annotations

from typing import Any

from dragoman.bench.target import Loaded, Target, Task


class JaxJit(Target):
    """`jax.jit` of the source."""

    name = "jax"
    needs = ("jax",)
    install = "'dragoman[jax]'"
    kinds = ("jax",)
    as_is = True
    precisions = ("f32",)

    def load(self, task: Task) -> Loaded:
        """Traced here, compiled when it first runs. Arrays are on the device before the clock starts."""
        import jax

        runner: Any = task.model().source
        compiled, weights, given = runner.compiled(list(task.arrays().values()))
        return Loaded(lambda: jax.block_until_ready(compiled(weights, given)), said=jax.devices()[0].platform)


TARGET = JaxJit()
