"""Reads ONNX models: files and ModelProtos of every opset, functions, control flow, external data.

Owns the translation of ONNX's operators into the IR, and the checks that make reading a stranger's file safe. Shape
arithmetic is evaluated symbolically; sizes that only a run tells get symbols of their own. Refuses operators without
translation, all of them at once, and never guesses.
"""

from __future__ import annotations

from dragoman.frontends.imported import Imported
from dragoman.frontends.onnx.load import import_file, import_model
from dragoman.frontends.onnx.registry import translates

__all__ = ["Imported", "import_file", "import_model", "translates"]
