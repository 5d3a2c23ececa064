"""Converts every model of keras.applications, weights and statistics random, at the smallest input each allows.

    python tests/conformance/keras_applications.py [--only NAME …] [--again] [--report docs/conformance.md]

How cases run and where results are kept is in `suite.py`. Ends with 1 if anything is wrong.
"""

from __future__ import annotations

import argparse
import contextlib
import io
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from suite import Record, Suite, main  # beside this file, which Python puts on the path

DENOMINATOR = 40  # functions of keras.applications that make a model, in Keras 3.15
_SIZES = (32, 71, 75, 224, 331)  # the least that some model of each family takes
_BUDGET = 60.0  # seconds of verification for a model


def _builders() -> dict[str, Any]:
    from dragoman.frontends.tensorflow_import import load_tensorflow

    load_tensorflow()
    import keras

    names = [n for n in dir(keras.applications) if n[0].isupper()]
    return {n: getattr(keras.applications, n) for n in sorted(names)}


def _names(options: argparse.Namespace) -> list[str]:
    return list(_builders())


def _model(name: str) -> tuple[Any, int]:
    """The model at the smallest size of the list that it takes, with statistics that are not those of no data."""
    import keras
    import numpy as np

    keras.utils.set_random_seed(0)
    failure: Exception | None = None
    for size in _SIZES:
        try:
            model = _builders()[name](weights=None, input_shape=(size, size, 3), classes=10)
        except ValueError as error:
            failure = error
            keras.backend.clear_session()
            continue
        rng = np.random.default_rng(0)
        for layer in model._flatten_layers():
            if isinstance(layer, keras.layers.BatchNormalization):
                layer.moving_mean.assign(rng.normal(0, 0.3, layer.moving_mean.shape))
                layer.moving_variance.assign(rng.uniform(0.5, 2.0, layer.moving_variance.shape))
        return model, size
    raise failure or ValueError(name)


def _run(name: str, options: argparse.Namespace) -> Iterator[Record]:
    import dragoman
    from dragoman.ir.errors import DragomanError, NotEquivalent

    with contextlib.redirect_stdout(io.StringIO()):
        model, size = _model(name)
    started = time.perf_counter()
    with tempfile.TemporaryDirectory(prefix="dragoman-keras-") as folder:
        try:
            report = dragoman.convert(model, Path(folder) / "m.onnx", budget=_BUDGET)
        except NotEquivalent as error:
            yield {"op": name, "case": "", "outcome": "wrong", "reason": str(error)[:300]}
            return
        except DragomanError as error:
            yield {"op": name, "case": "", "outcome": "refused", "reason": f"{type(error).__name__}: {error}"[:300]}
            return
    assert report.comparison is not None
    kind = "right" if report.comparison.verdict.holds else "inconclusive"
    yield {
        "op": name,
        "case": "",
        "outcome": kind,
        "reason": "" if kind == "right" else report.comparison.reason[:300],
        "verdict": str(report.verdict),
        "size": size,
        "nodes": report.nodes_written,
        "weights": report.weight_bytes,
        "seconds": time.perf_counter() - started,
    }


def report(found: Mapping[str, Sequence[Record]]) -> str:
    """The section of docs/conformance.md."""
    records = {name: each[0] for name, each in sorted(found.items())}
    counts = Counter(r["outcome"] for r in records.values())
    told = ", ".join(f"{count} {kind}" for kind, count in counts.most_common())
    lines = [f"Of {len(records)} models: {told}.", ""]
    lines += [
        "| model | verdict | input | nodes | weights, MiB | s, verification included |",
        "|---|---|---:|---:|---:|---:|",
    ]
    for name, r in records.items():
        if "verdict" not in r:
            lines.append(f"| {name} | {r['outcome']}: {r['reason'].replace('|', '/')} | | | | |")
            continue
        verdict = r["verdict"] + (f": {r['reason'].replace('|', '/')}" if r["reason"] else "")
        lines.append(
            f"| {name} | {verdict} | {r['size']} | {r['nodes']} | {r['weights'] / 2**20:.1f} | {r['seconds']:.1f} |"
        )
    return "\n".join(lines)


SUITE = Suite(Path(__file__), "keras_applications", DENOMINATOR, _names, _run, report, lambda _: None, seconds=600.0)

if __name__ == "__main__":
    sys.exit(main(SUITE))
