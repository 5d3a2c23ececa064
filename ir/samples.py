"""Random operands for an op's samples, and the one-node graph that a sample stands for.

Tests of ops, self-tests of rules and completeness tests of backends all start here, so that each meets the same values.
"""

from __future__ import annotations

import zlib
from collections.abc import Mapping, Sequence
from functools import cache
from typing import Any

import numpy as np

from dragoman.ir.builder import make
from dragoman.ir.graph import Graph
from dragoman.ir.interpreter import evaluate_type
from dragoman.ir.op import Op, OperandSample, Sample
from dragoman.ir.types import DType, TensorType, parse_type

_WORDS = ("", "a", "lorem", "ipsum dolor", "ß", "12")


def operand_types(sample: Sample) -> tuple[TensorType | None, ...]:
    """The types of a sample's operands; None where an optional one is left out."""
    return tuple(_type(o.type) if o is not None else None for o in sample.operands)


@cache
def _type(text: str) -> TensorType:
    return parse_type(text)


def random_operands(sample: Sample, seed: int = 0, extents: Mapping[str, int] | None = None) -> list[Any]:
    """One NumPy array per operand, of its dtype and within its domain; None where an optional one is left out.

    Floats are standard normal without a domain and uniform in it with one; integers are uniform in −8…8 (unsigned
    0…15) or in their inclusive domain. `extents` gives sizes to symbols. The same seed gives the same values.
    """
    return [
        _random_array(given, np.random.default_rng([seed, index]), extents or {}) if given is not None else None
        for index, given in enumerate(sample.operands)
    ]


def random_array(
    type: TensorType,
    seed: int = 0,
    low: float | None = None,
    high: float | None = None,
    extents: Mapping[str, int] = {},
) -> Any:
    """One NumPy array of a type, as `random_operands` draws it."""
    return _random_array(OperandSample(str(type), low, high), np.random.default_rng(seed), extents or {})


def _random_array(given: OperandSample, random: np.random.Generator, extents: Mapping[str, int]) -> Any:
    type = parse_type(given.type)
    shape = evaluate_type(type, extents)
    if given.values is not None:
        return np.array(given.values, _wide(type.dtype)).reshape(shape).astype(type.dtype.numpy)
    return _draw(type.dtype, shape, given.low, given.high, random).astype(type.dtype.numpy)


def _wide(dtype: DType) -> Any:
    # The small types of ml_dtypes are not made from Python numbers directly.
    return {"int": np.int64, "uint": np.uint64, "float": np.float64}.get(dtype.kind, dtype.numpy)


def _draw(
    dtype: DType, shape: tuple[int, ...], low: float | None, high: float | None, random: np.random.Generator
) -> Any:
    if dtype.kind == "bool":
        return random.random(shape) < 0.5
    if dtype.kind == "string":
        return np.array(_WORDS, np.object_)[random.integers(0, len(_WORDS), shape)]
    if dtype.is_complex:
        return _draw_real(shape, low, high, random) + 1j * _draw_real(shape, low, high, random)
    if dtype.is_float:
        return _draw_real(shape, low, high, random)
    smallest, largest = (-8, 7) if dtype.kind == "int" else (0, 15)
    return random.integers(
        int(low if low is not None else smallest), int(high if high is not None else largest) + 1, shape
    )


def _draw_real(shape: tuple[int, ...], low: float | None, high: float | None, random: np.random.Generator) -> Any:
    if low is None and high is None:
        return random.standard_normal(shape)
    bottom = low if low is not None else (high or 0.0) - 2.0
    return random.uniform(bottom, high if high is not None else bottom + 2.0, shape)


def sample_seed(op: str, index: int) -> int:
    """A seed for the n-th sample of an op: stable across runs, different between ops."""
    return zlib.crc32(f"{op} {index}".encode())


def sample_graph(cls: type[Op], sample: Sample) -> Graph:
    """A graph with the op of one sample as its only node. Left-out operands are no inputs."""
    graph = Graph(cls.name)
    types = operand_types(sample)
    inputs = [graph.add_input(t, f"x{i}") if t is not None else None for i, t in enumerate(types)]
    node = graph.insert(make(cls, dict(sample.attributes)), inputs)
    graph.set_outputs(node.results)
    return graph


def given_operands(operands: Sequence[Any]) -> list[Any]:
    """The operands that are there: the inputs of `sample_graph`, in order."""
    return [x for x in operands if x is not None]
