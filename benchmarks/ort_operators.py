#!/usr/bin/env python3
"""The cost table behind the forms that we write for ONNX Runtime: each beside the form that it replaces.

    python benchmarks/ort_operators.py                               # about two minutes
    python benchmarks/ort_operators.py --markdown docs/benchmarks/ort_operators.md

Each pair is emitted from two small graphs of the IR, runs in ONNX Runtime with its optimiser on, one thread, in turns
in random order; results must agree. "ours" is what a conversion writes, "other" what it would write without the rule
or operator. Below 1 the choice is right. A form that is slower somewhere says so in its row.
"""

from __future__ import annotations

import argparse
import os
import random
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")

import numpy as np
from command_line import add_outputs, finish
from tables import Demand, Page, Table

from dragoman.backends.onnx import to_model_proto
from dragoman.ir.builder import Builder
from dragoman.ir.graph import Graph, Value
from dragoman.ir.types import parse_type
from dragoman.ir.weights import ArrayWeight

Make = Callable[["Layer"], Value]


class Layer:
    """A small graph being built: inputs and weights of random numbers."""

    def __init__(self) -> None:
        self.graph = Graph("layer")
        self.b = Builder(self.graph)
        self.given: list[np.ndarray] = []
        self._numbers = np.random.default_rng(0)

    def input(self, *shape: int) -> Value:
        """Numbers that are given in each run."""
        self.given.append(self._numbers.standard_normal(shape).astype(np.float32))
        return self.graph.add_input(parse_type(f"f32[{','.join(map(str, shape))}]"), f"x{len(self.given)}")

    def weight(self, *shape: int) -> Value:
        """Numbers that are in the model."""
        values = self._numbers.standard_normal(shape) * shape[-1] ** -0.5
        return self.graph.add_weight(f"w{len(self.graph.weights)}", ArrayWeight(values.astype(np.float32)))


@dataclass(frozen=True)
class Pair:
    """Two forms of one computation, and whether each may use operators of ONNX Runtime's own."""

    choice: str
    sizes: str
    ours: Make
    other: Make
    contrib: tuple[bool, bool] = (False, False)


def pairs() -> Iterator[Pair]:
    """Every choice at sizes from small to large."""
    for rows, inner, outer in ((16, 256, 256), (128, 768, 768), (128, 768, 3072), (1024, 512, 512)):
        sizes = f"{rows}×{inner}→{outer}"
        yield Pair("linear over rows, not stacks", sizes, _rows(rows, inner, outer), _stack(rows, inner, outer))
    for rows, width in ((16, 256), (128, 768), (1024, 512)):
        sizes = f"{rows}×{width}"
        yield Pair("three projections, not one and a Split", sizes, _three(rows, width), _one(rows, width))
        yield Pair("add and norm over rows, not fused", sizes, _add_norm(rows, width), _skip_norm(rows, width))
    for length, heads, depth in ((50, 12, 64), (128, 12, 64), (512, 12, 64), (1500, 6, 64)):
        for causal in (False, True):
            make = _attention(length, heads, depth, causal=causal)
            name = "GroupQueryAttention" if causal else "MultiHeadAttention"
            yield Pair(name, f"{heads} heads, {length}×{depth}", make, make, (True, False))
        yield Pair(
            "RotaryEmbedding", f"{heads} heads, {length}×{depth}", *[_rotary(length, heads, depth)] * 2, (True, False)
        )
    for length in (128, 512):
        make = _attention(length, 8, 64, causal=True, key_heads=2)
        yield Pair("GroupQueryAttention, shared heads", f"8 heads on 2, {length}×64", make, make, (True, False))


def _rows(rows: int, inner: int, outer: int) -> Make:
    return lambda g: g.b.linear(
        g.b.reshape(g.input(1, rows, inner), shape=(rows, inner)), g.weight(outer, inner), g.weight(outer)
    )


def _stack(rows: int, inner: int, outer: int) -> Make:
    return lambda g: g.b.reshape(
        g.b.linear(g.input(1, rows, inner), g.weight(outer, inner), g.weight(outer)), shape=(rows, outer)
    )


def _one(rows: int, width: int) -> Make:
    def make(g: Layer) -> Value:
        x = g.input(rows, width)
        for _ in range(4):  # more weights than caches hold, as in a model
            q, k, v = g.b.split(g.b.linear(x, g.weight(3 * width, width)), axis=1, sizes=(width,) * 3)
            x = g.b.add(g.b.mul(q, k), v)
        return x

    return make


def _three(rows: int, width: int) -> Make:
    def make(g: Layer) -> Value:
        x = g.input(rows, width)
        for _ in range(4):
            w = g.weight(3 * width, width)
            parts = np.split(w.weight.array(), 3) if w.weight is not None else []
            q, k, v = (
                g.b.linear(x, g.graph.add_weight(f"{w.name}.{i}", ArrayWeight(part))) for i, part in enumerate(parts)
            )
            x = g.b.add(g.b.mul(q, k), v)
        return x

    return make


def _add_norm(rows: int, width: int) -> Make:
    return lambda g: g.b.layer_norm(
        g.b.add(g.input(rows, width), g.input(rows, width)), g.weight(width), g.weight(width), axis=1, epsilon=1e-5
    )


def _skip_norm(rows: int, width: int) -> Make:
    def make(g: Layer) -> Value:
        total = g.b.add(*(g.b.reshape(g.input(rows, width), shape=(1, rows, width)) for _ in range(2)))
        y = g.b.layer_norm(total, g.weight(width), g.weight(width), axis=2, epsilon=1e-5)
        return g.b.reshape(y, shape=(rows, width))

    return make


def _attention(length: int, heads: int, depth: int, *, causal: bool, key_heads: int = 0) -> Make:
    def make(g: Layer) -> Value:
        own = key_heads or heads
        q, k, v = (g.input(1, length, n * depth) for n in (heads, own, own))
        return g.b.multi_head_attention(q, k, v, heads=heads, key_heads=own, causal=causal)

    return make


def _rotary(length: int, heads: int, depth: int) -> Make:
    return lambda g: g.b.rotary_embedding(
        g.input(1, heads, length, depth), g.input(length, depth // 2), g.input(length, depth // 2)
    )


def measure(pair: Pair, seconds: float) -> dict[str, Any]:
    """Medians of both forms in milliseconds."""
    import onnxruntime

    runs: list[Callable[[], np.ndarray]] = []
    for make, contrib in zip((pair.ours, pair.other), pair.contrib, strict=True):
        layer = Layer()
        layer.graph.set_outputs([make(layer)])
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads, options.log_severity_level = 1, 4
        model = to_model_proto(layer.graph, contrib=contrib).SerializeToString()
        session = onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])
        feeds = {i.name: x for i, x in zip(session.get_inputs(), layer.given, strict=True)}
        runs.append(lambda s=session, f=feeds: s.run(None, f)[0])
    first, second = (run() for run in runs)
    difference = float(np.max(np.abs(first - second)) / np.max(np.abs(second)))
    taken: list[list[float]] = [[], []]
    end = time.perf_counter() + seconds
    while time.perf_counter() < end or len(taken[0]) < 10:
        for i in random.sample(range(2), 2):
            started = time.perf_counter()
            runs[i]()
            taken[i].append(time.perf_counter() - started)
    ours, other = (float(np.median(t)) * 1e3 for t in taken)
    return {"choice": pair.choice, "sizes": pair.sizes, "ours": ours, "other": other, "difference": difference}


def page(seconds: float) -> Page:
    """Measure every pair."""
    samples: list[dict[str, Any]] = []
    table = Table("Forms for ONNX Runtime", ("choice", "sizes", "ours, ms", "other, ms", "ratio"))
    for pair in pairs():
        found = measure(pair, seconds)
        samples.append(found)
        numbers = (found["ours"], found["other"], found["ours"] / found["other"])
        table.rows.append((pair.choice, pair.sizes, *(f"{n:.3f}" for n in numbers)))
        print("  ".join(table.rows[-1]), file=sys.stderr, flush=True)
    about = (__doc__ or "").rsplit("\n\n", maxsplit=1)[-1].replace("\n", " ").strip()
    worst = max(found["difference"] for found in samples)
    agree = Demand("both forms of each pair agree", f"to {worst:.1e} of the largest value", worst < 1e-4)
    return Page("What ONNX Runtime takes for each form", about, [table], [agree], samples)


def main() -> int:
    """Measure and print; 1 if two forms differ."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n\n", maxsplit=1)[0])
    parser.add_argument("--seconds", type=float, default=2.0, help="for each pair")
    add_outputs(parser)
    options = parser.parse_args()
    return finish(page(options.seconds), options)


if __name__ == "__main__":
    sys.exit(main())
