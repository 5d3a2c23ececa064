"""Reads models of TensorFlow from their graphs: concrete functions, and what Keras traces to on TensorFlow.

Owns the table from TensorFlow's operators to the IR's. A graph is read, never run, except as the witness of
verification. Refuses what no table entry translates, naming the scope of each occurrence.
"""

from __future__ import annotations

from dragoman.frontends.tensorflow_import import load_tensorflow

load_tensorflow()  # before anything here names it

from dragoman.frontends.tensorflow.load import import_function  # noqa: E402
from dragoman.frontends.tensorflow.registry import translates  # noqa: E402
from dragoman.frontends.tensorflow.runner import SourceRunner  # noqa: E402

__all__ = ["SourceRunner", "import_function", "translates"]
