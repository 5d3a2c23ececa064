"""Importing TensorFlow where Triton may be needed as well: Triton must come first, or the process aborts.

Both carry a copy of LLVM and register the same options; only TensorFlow's copy tolerates that they are there already.
"""

from __future__ import annotations

import importlib
import importlib.util
import os
import sys
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path
from typing import Any


def load_tensorflow() -> Any:
    """TensorFlow, imported after Triton where that is installed. Raises ImportError."""
    if "tensorflow" not in sys.modules:
        os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
        if "triton" not in sys.modules and importlib.util.find_spec("triton") is not None:
            importlib.import_module("triton")
        with _unheard():
            importlib.import_module("tensorflow")
    return sys.modules["tensorflow"]


@contextmanager
def _unheard() -> Generator[None]:
    """Without what TensorFlow's libraries write to the standard error while they are loaded, whatever its log level."""
    try:
        kept = os.dup(2)
    except OSError:  # a process without a standard error
        yield
        return
    try:
        with Path(os.devnull).open("wb") as nowhere:
            os.dup2(nowhere.fileno(), 2)
        yield
    finally:
        os.dup2(kept, 2)
        os.close(kept)
