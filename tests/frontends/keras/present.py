"""Whether TensorFlow and Keras are there, told without importing them: Triton must come before, and only where needed."""

from __future__ import annotations

import importlib.util

import pytest

ABSENT = any(importlib.util.find_spec(name) is None for name in ("keras", "tensorflow"))
with_keras = [pytest.mark.skipif(ABSENT, reason="TensorFlow is not installed"), pytest.mark.xdist_group("keras")]
