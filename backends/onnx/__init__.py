"""Emits ONNX models: idiomatic nodes at a chosen opset, streamed weights, reproducible bytes.

Owns the spelling of IR operations in ONNX and the crash-safe writing of the files. Refuses what the chosen
opset cannot express, with the reason.
"""

from __future__ import annotations

from dragoman.backends.onnx.check import check
from dragoman.backends.onnx.emitter import Emission, emit
from dragoman.backends.onnx.layout import PREFERRED_LAYOUT, channels_first_only
from dragoman.backends.onnx.proto import to_model_proto
from dragoman.backends.onnx.session import Session
from dragoman.backends.onnx.table import legal, supports
from dragoman.backends.onnx.types import DEFAULT as DEFAULT_OPSET
from dragoman.backends.onnx.types import OLDEST as OLDEST_OPSET
from dragoman.backends.onnx.types import newest as newest_opset
from dragoman.backends.onnx.write import Saved, Staging, check_destination, save

__all__ = [
    "DEFAULT_OPSET",
    "OLDEST_OPSET",
    "PREFERRED_LAYOUT",
    "Emission",
    "Saved",
    "Session",
    "Staging",
    "channels_first_only",
    "check",
    "check_destination",
    "emit",
    "legal",
    "newest_opset",
    "save",
    "supports",
    "to_model_proto",
]
