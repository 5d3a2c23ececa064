"""Drives JAX's own test harnesses through jax2onnx and ONNX Runtime, for comparison with `jax_harnesses.py`.

    PEER/bin/python tests/conformance/jax_harnesses_peer.py [--every N] [--report docs/conformance.md]

The interpreter is that of an environment with jax2onnx 0.17, JAX 0.10 and ONNX Runtime, without Dragoman. A result is
right if it has JAX's dtype, shape and places of NaN, equals it in integers, and is within a tolerance that is meant to be
generous: 1e-6 in double precision, 1e-3 in single, 0.05 in half.
"""

from __future__ import annotations

import argparse
import contextlib
import io
import logging
import os
import sys
import warnings
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from suite import Record, Suite, main, verdict  # beside this file, which Python puts on the path

os.environ["ORT_DISABLE_TELEMETRY"] = "1"
DENOMINATOR = 5594  # harnesses in jax 0.10
_MEANING = {
    "right": "converted, and right in ONNX Runtime",
    "runtime": "converted; ONNX Runtime does not take the model or fails in it",
    "refused": "not converted: an exception",
    "wrong": "**another result than JAX, without a word**",
    "error": "a crash or a hang",
    "excluded": "does not run in JAX itself on a processor",
}


def _names(options: argparse.Namespace) -> list[str]:
    import jax_suite

    return list(jax_suite.harnesses())


def _run(name: str, options: argparse.Namespace) -> Iterator[Record]:
    import jax_suite

    harness = jax_suite.harnesses()[name]
    reason = jax_suite.excluded(harness)
    with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()):
        warnings.simplefilter("ignore")
        logging.disable()
        outcome, reason = ("excluded", reason) if reason else _judged(harness)
    yield {"op": name, "case": "", "outcome": outcome, "reason": reason[:300]}


def _judged(harness: Any) -> tuple[str, str]:
    import jax
    import jax2onnx
    import numpy as np
    import onnxruntime

    arguments = harness.dyn_args_maker(np.random.RandomState(0))
    arrays = [np.asarray(a) for a in arguments]
    try:
        wanted = [np.asarray(x) for x in jax.tree_util.tree_leaves(jax.jit(harness.dyn_fun)(*arrays))]
    except Exception as error:
        return "excluded", f"JAX itself does not run it: {type(error).__name__}"
    if not wanted:
        return "excluded", "it gives no array"
    try:
        double = any(a.dtype in (np.float64, np.complex128) for a in (*arrays, *wanted))
        types = [jax.ShapeDtypeStruct(a.shape, a.dtype) for a in arrays]
        model = jax2onnx.to_onnx(harness.dyn_fun, types, enable_double_precision=double)
    except Exception as error:
        return "refused", f"{type(error).__name__}: {error}"
    settings = onnxruntime.SessionOptions()
    settings.log_severity_level = 4
    settings.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    try:
        session = onnxruntime.InferenceSession(model.SerializeToString(), settings, providers=["CPUExecutionProvider"])
        feeds = {i.name: _fed(a) for i, a in zip(session.get_inputs(), arrays, strict=True)}
        got = [_read(value) for value in session.run_with_ort_values(None, feeds)]
    except Exception as error:
        return "runtime", f"{type(error).__name__}: {error}"
    return _compared(wanted, got)


# Element types that NumPy gives no name to: how wide they are, and ONNX's number for them.
_AS_BITS = {"bfloat16": ("uint16", 16), "float8_e4m3fn": ("uint8", 17), "float8_e5m2": ("uint8", 19)}


def _fed(array: Any) -> Any:
    import onnxruntime

    make = onnxruntime.OrtValue
    if array.dtype.name not in _AS_BITS:
        return make.ortvalue_from_numpy(array)
    bits, number = _AS_BITS[array.dtype.name]
    return make.ortvalue_from_numpy_with_onnx_type(array.view(bits), number)


def _read(value: Any) -> Any:
    import ctypes
    import math

    import ml_dtypes
    import numpy as np

    if value.data_type() != "tensor(bfloat16)":
        return value.numpy()
    shape = tuple(value.shape())
    raw = ctypes.string_at(value.data_ptr(), 2 * math.prod(shape))
    return np.frombuffer(raw, np.uint16).view(ml_dtypes.bfloat16).reshape(shape)


def _compared(wanted: Sequence[Any], got: Sequence[Any]) -> tuple[str, str]:
    import numpy as np

    if len(wanted) != len(got):
        return "wrong", f"{len(got)} results for {len(wanted)}"
    for index, (w, g) in enumerate(zip(wanted, map(np.asarray, got), strict=True)):
        if (w.dtype, w.shape) != (g.dtype, g.shape):
            return "wrong", f"result {index} is {g.dtype}{g.shape}, not {w.dtype}{w.shape}"
        if w.dtype.kind in "biu":
            same = np.array_equal(w, g)
        else:
            bits = w.dtype.itemsize // (2 if w.dtype.kind == "c" else 1)
            tolerance = {8: 1e-6, 4: 1e-3}.get(bits, 0.05)
            wide = np.complex128 if w.dtype.kind == "c" else np.float64
            same = np.allclose(g.astype(wide), w.astype(wide), rtol=tolerance, atol=tolerance, equal_nan=True)
        if not same:
            return "wrong", f"result {index} has other numbers"
    return "right", ""


def report(found: Mapping[str, Sequence[Record]]) -> str:
    """The section of docs/conformance.md."""
    counts = Counter(records[0]["outcome"] if len(records) == 1 else verdict(records) for records in found.values())
    lines = [f"| of {len(found)} harnesses, by jax2onnx | | |", "|---|---:|---|"]
    lines += [f"| {kind} | {counts[kind]} | {meaning} |" for kind, meaning in _MEANING.items()]
    run = len(found) - counts["excluded"]
    lines += ["", f"Of {run} that run: {100 * counts['right'] / max(run, 1):.1f} % right in ONNX Runtime."]
    return "\n".join(lines)


SUITE = Suite(Path(__file__), "jax_harnesses_peer", DENOMINATOR, _names, _run, report, lambda _: None)

if __name__ == "__main__":
    sys.exit(main(SUITE))
