"""The source as TensorFlow runs it: one concrete function."""

from __future__ import annotations

from typing import Any

from dragoman.bench.target import Loaded, Target, Task


class TensorFlowFunction(Target):
    """What Dragoman's reader of TensorFlow runs as the source."""

    name = "tensorflow"
    needs = ("tensorflow",)
    install = "'dragoman[tensorflow]'"
    kinds = ("tensorflow", "keras")
    as_is = True
    precisions = ("f32",)

    def load(self, task: Task) -> Loaded:
        """The function as it was read. Arrays become tensors within each call, as they do for a user's."""
        import tensorflow as tf

        tf.config.threading.set_intra_op_parallelism_threads(task.threads)
        runner: Any = task.model().source
        given = list(task.arrays().values())
        return Loaded(lambda: runner.run(given))


TARGET = TensorFlowFunction()
