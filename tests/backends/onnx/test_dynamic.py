"""Dynamic extents: read off tensors only where a number will not do, and right at every size."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from itertools import product
from typing import Any

import numpy as np
import pytest

from dragoman.backends.onnx import check, to_model_proto
from dragoman.ir.builder import Builder, trace
from dragoman.ir.dims import Dim, Symbol, ceildiv, maximum, minimum
from dragoman.ir.errors import DragomanError, EmitRefused, TypeRuleError
from dragoman.ir.graph import Graph, Value
from dragoman.ir.op import REGISTRY, Sample
from dragoman.ir.samples import given_operands, random_array, random_operands, sample_graph, sample_seed
from dragoman.ir.types import F32, I64, TensorType, parse_type
from tests.backends.onnx.judging import disagreement, evaluate, unwitnessed

KNOWN = {"b": Symbol("b", 1, 64), "s": Symbol("s", 1, 512), "h": Symbol("h", 4, 64), "z": Symbol("z", 0, 64)}
SIZES = ({"b": 1, "s": 1, "h": 4, "z": 0}, {"b": 2, "s": 5, "h": 7, "z": 3}, {"b": 3, "s": 2, "h": 16, "z": 1})


def typed(*texts: str) -> list[TensorType]:
    return [parse_type(text, KNOWN) for text in texts]


def agrees_at_all_sizes(graph: Graph, sizes: Sequence[dict[str, int]] = SIZES, opset: int = 20) -> Any:
    model = to_model_proto(graph, opset=opset)
    check(model)
    for size in sizes:
        inputs = [random_array(v.type, seed, extents=size) for seed, v in enumerate(graph.inputs)]
        for optimise in (False, True):
            outputs, _ = evaluate(model, inputs, optimise=optimise)
            assert disagreement(graph, inputs, outputs) == "", f"at {size}, optimise={optimise}"
    return model


def op_types(model: Any) -> list[str]:
    return [node.op_type for node in model.graph.node]


# ---- what costs no node -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("before", "after", "target"),
    [
        ("f32[b,s,8]", "b,s,2,4", [0, 0, 2, 4]),
        ("f32[b,3,4,5]", "b,60", [0, 60]),
        ("f32[b,s,8]", "b*s,8", [-1, 8]),
        ("f32[b,s,8]", "8,b,s", None),
        ("f32[2,b,4]", "b,8", [-1, 8]),
        ("f32[b,6]", "b,1,6", [0, 1, 6]),
        ("f32[z,6]", "z,3,2", [0, 3, 2]),
        ("f32[6,z]", "3,2*z", [3, -1]),
    ],
)
def test_a_reshape_copies_and_infers_extents_where_that_suffices(
    before: str, after: str, target: list[int] | None
) -> None:
    (x,) = typed(before)
    shape = parse_type(f"f32[{after}]", KNOWN).shape
    model = agrees_at_all_sizes(trace(lambda b, v: b.reshape(v, shape=shape), x))
    if target is None:
        assert "Shape" in op_types(model)
        return
    assert op_types(model) == ["Reshape"]
    given = {t.name: np.frombuffer(t.raw_data, np.int64).tolist() for t in model.graph.initializer}
    assert given[model.graph.node[0].input[1]] == target


def test_a_broadcast_computes_only_the_extents_that_are_new() -> None:
    x, y = typed("f32[b,1,8]", "f32[s]")
    graph = trace(lambda b, v, w: b.broadcast_to(v, shape=(v.type.shape[0], w.type.shape[0], 8)), x, y)
    model = agrees_at_all_sizes(graph)
    assert op_types(model).count("Shape") == 1
    still = agrees_at_all_sizes(trace(lambda b, v: b.broadcast_to(v, shape=(3, *v.type.shape)), x))
    assert op_types(still) == ["Expand"]


def test_a_slice_to_the_end_of_a_dynamic_axis_is_constant() -> None:
    (x,) = typed("f32[b,s]")
    end = x.shape[1]
    graph = trace(lambda b, v: b.slice(v, axes=(1,), starts=(0,), stops=(end,), steps=(2,)), x)
    assert op_types(agrees_at_all_sizes(graph)) == ["Slice"]


def test_an_extent_is_computed_once_however_often_it_is_needed() -> None:
    (x,) = typed("f32[b,s]")

    def twice(b: Builder, v: Value) -> list[Value]:
        batch, length = v.type.shape
        wide = [b.iota(size=length * 2 + 1) for _ in range(3)]
        return [b.add(wide[0], wide[1]), b.mul(wide[2], b.extent(batch, I64)), b.mul(v, b.extent(length, F32))]

    model = agrees_at_all_sizes(trace(twice, x))
    counts = {name: op_types(model).count(name) for name in ("Shape", "Mul", "Add")}
    assert counts == {"Shape": 2, "Mul": 1 + 2, "Add": 1 + 1}


# ---- expressions ------------------------------------------------------------------------------------------------


EXPRESSIONS: dict[str, Callable[[Dim, Dim, Dim], Dim]] = {
    "sum": lambda b, s, h: b + s + 3,
    "difference": lambda b, s, h: 600 - s,
    "product": lambda b, s, h: b * s * 2,
    "square": lambda b, s, h: s * s + b,
    "quotient": lambda b, s, h: h // 2,
    "quotient that may be negative before it is clipped": lambda b, s, h: maximum((s - 9) // 4, 0) + 1,
    "ceiling": lambda b, s, h: ceildiv(h * 3, 4),
    "remainder": lambda b, s, h: h % 3 + 1,
    "smaller": lambda b, s, h: minimum(s, h),
    "larger": lambda b, s, h: maximum(s, h * 2),
}


@pytest.mark.parametrize("name", EXPRESSIONS)
def test_an_expression_of_extents_has_its_value(name: str) -> None:
    (x,) = typed("f32[b,s,h]")
    dim = EXPRESSIONS[name](*x.shape)
    agrees_at_all_sizes(trace(lambda b, v: [b.iota(size=dim), b.extent(dim, I64), b.extent(dim, F32)], x))


def test_a_symbol_that_no_axis_has_is_solved_for() -> None:
    (x,) = typed("f32[2*s+1,b]")
    s = KNOWN["s"].dim
    agrees_at_all_sizes(trace(lambda b, v: b.extent(s, I64), x))


def test_an_extent_that_only_the_data_tells_is_read_off_its_tensor() -> None:
    (x,) = typed("f32[b,s]")
    found = Symbol("found", 0, 4096).dim

    def places(b: Builder, v: Value) -> list[Value]:
        where = b.nonzero(b.greater(v, 0.0), size=found)
        return [b.transpose(where, perm=(1, 0)), b.extent(found * 2, I64), b.iota(size=found + 1)]

    agrees_at_all_sizes(trace(places, x))


@pytest.mark.parametrize("opset", [13, 17, 23])
def test_a_block_of_a_transformer_keeps_its_dynamic_batch_and_length(opset: int) -> None:
    x, w = typed("f32[b,s,16]", "f32[48,16]")

    def attend(b: Builder, v: Value, weight: Value) -> Value:
        batch, length, _ = v.type.shape
        parts = b.split(b.linear(v, weight), axis=2, sizes=(16, 16, 16))
        heads = [b.transpose(b.reshape(p, shape=(batch, length, 4, 4)), perm=(0, 2, 1, 3)) for p in parts]
        mixed = b.attention(*heads, causal=True)
        return b.reshape(b.transpose(mixed, perm=(0, 2, 1, 3)), shape=(batch, length, 16))

    agrees_at_all_sizes(trace(attend, x, w), opset=opset)


def test_extents_are_visible_in_the_branches_and_bodies_of_control_flow() -> None:
    x, flag = typed("f32[b,s]", "bool[]")
    state = TensorType(F32, x.shape[1:])
    flat = trace(lambda b, v: b.reshape(v, shape=(v.type.size,)), x)
    turned = trace(lambda b, v: b.reshape(b.transpose(v, perm=(1, 0)), shape=(v.type.size,)), x)
    body = trace(
        lambda b, total, row: [b.add(total, row), b.mul(row, b.extent(row.type.shape[0], F32))],
        state,
        state,
    )

    def choose(b: Builder, v: Value, p: Value) -> list[Value]:
        batch, length = v.type.shape
        zeros = b.broadcast_to(b.const(0.0, F32), shape=(length,))
        return [*b.cond(p, v, then=flat, orelse=turned), *b.scan(zeros, v, body=body, carries=1, length=batch)]

    agrees_at_all_sizes(trace(choose, x, flag))


# ---- the samples of all ops, their extents made dynamic -----------------------------------------------------------


def lifted(sample: Sample) -> Iterator[tuple[Sample, dict[str, int]]]:
    """The sample with its leading extents, and with all equal extents, replaced by symbols; where that makes sense."""
    types = [parse_type(o.type) if o is not None else None for o in sample.operands]
    leading = {t.shape[0] for t in types if t is not None and t.rank and isinstance(t.shape[0], int)}
    every = {d for t in types if t is not None for d in t.shape if isinstance(d, int)}
    for chosen, axes in ((leading, 1), (every, 9)):
        sizes = {f"d{d}": d for d in chosen if d > 1}
        if not sizes:
            continue
        operands = [
            None if o is None or t is None else replace(o, type=symbolic(t, sizes, axes))
            for o, t in zip(sample.operands, types, strict=True)
        ]
        yield Sample(tuple(operands), sample.attributes), sizes


def symbolic(type: TensorType, sizes: dict[str, int], axes: int) -> str:
    dims = [f"d{d}" if axis < axes and f"d{d}" in sizes else str(d) for axis, d in enumerate(type.shape)]
    return f"{type.dtype}[{','.join(dims)}]"


@pytest.mark.parametrize("name", [name for name, cls in REGISTRY.items() if any(True for _ in cls.samples())])
def test_samples_with_dynamic_extents_give_what_those_with_numbers_give(name: str) -> None:
    cls = REGISTRY[name]
    for (index, sample), opset in product(enumerate(cls.samples()), (13, 17, 23)):
        for variant, sizes in lifted(sample):
            inputs = given_operands(random_operands(variant, sample_seed(name, index), sizes))
            try:
                graph = sample_graph(cls, variant)
                model = to_model_proto(graph, opset=opset)
            except (TypeRuleError, EmitRefused):
                continue  # the attributes fix an extent, or the op is refused for its dtype as well
            label = (
                f"sample {index} at opset {opset}: {next(iter(graph)).op.describe(tuple(v.type for v in graph.inputs))}"
            )
            check(model)
            if unwitnessed(graph, opset):
                continue
            try:
                outputs, by_runtime = evaluate(model, inputs)
            except DragomanError as error:
                pytest.fail(f"{label}: {error}")
            assert disagreement(graph, inputs, outputs, coarse=not by_runtime) == "", label
