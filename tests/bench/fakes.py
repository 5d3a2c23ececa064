"""Targets for tests, found by an entry point: one that runs, one that cannot, one that dies, one that lacks a library."""

from __future__ import annotations

import os
from typing import Any

import numpy as np

from dragoman.bench.target import Loaded, Target, Task


class Fake(Target):
    """Computes the model of these tests in NumPy; the variant says how it fails."""

    name = "fake"
    always = False

    def load(self, task: Task) -> Loaded:
        if task.variant == "refuses":
            raise RuntimeError("this build has no kernel for Relu")
        x = next(iter(task.arrays().values()))
        weight = np.random.default_rng(0).standard_normal((64, 64)).astype(np.float32)

        def run() -> list[Any]:
            if task.variant == "dies":
                os._exit(9)
            y = np.maximum(x @ weight, 0)
            return [y[:1] if task.variant == "wrong" else y]

        return Loaded(run)


class Lacking(Target):
    """Needs what nobody has."""

    name = "lacking"
    needs = ("no_such_library",)
    install = "no-such-library"
