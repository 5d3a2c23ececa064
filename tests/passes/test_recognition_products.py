"""Products of matrices are found however they are written, and come out as one matmul with few moves."""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from dragoman.ir.builder import Builder, trace
from dragoman.ir.graph import Graph, Value
from dragoman.ir.interpreter import run
from dragoman.ir.samples import random_array
from dragoman.ir.types import parse_type
from dragoman.passes.check import RewriteChecker
from dragoman.passes.manager import Context, run_passes
from dragoman.passes.pipelines import IMPORTED, OPTIMISE

_SIZES = {"b": 3, "h": 4, "s": 5}


def found(function: Callable[..., Any], *types: str) -> tuple[Graph, list[str]]:
    """The graph as optimised, every rewrite proved and the whole compared in float64, and its ops."""
    graph = trace(function, *map(parse_type, types))
    arrays = [random_array(parse_type(t), i, extents=_SIZES) for i, t in enumerate(types)]
    expected = run(graph, *arrays)
    run_passes(graph, IMPORTED)
    checker = RewriteChecker()
    run_passes(graph, OPTIMISE, Context(check=checker))
    assert not checker.refused
    for got, wanted in zip(run(graph, *arrays), expected, strict=True):
        assert got.shape == wanted.shape
        np.testing.assert_allclose(got, wanted, rtol=1e-9, atol=1e-9)
    return graph, [n.op.name for n in graph if n.op.name != "constant"]


# ---- sums of products -------------------------------------------------------------------------------------


def written_out(equation: str) -> Callable[[Builder, Value, Value], Value]:
    """A product of two factors, stretched to all letters in the order of the alphabet, multiplied and summed."""
    left, result = equation.split("->")
    first, second = left.split(",")
    letters = sorted(set(first + second))

    def spread(b: Builder, x: Value, term: str) -> Value:
        x = b.transpose(x, perm=tuple(term.index(c) for c in sorted(term)))
        return b.unsqueeze(x, axes=tuple(i for i, c in enumerate(letters) if c not in term))

    def product(b: Builder, x: Value, y: Value) -> Value:
        gone = tuple(i for i, c in enumerate(letters) if c not in result)
        z = b.reduce_sum(b.mul(spread(b, x, first), spread(b, y, second)), axes=gone)
        kept = [c for c in letters if c in result]
        return b.transpose(z, perm=tuple(kept.index(c) for c in result))

    return product


@pytest.mark.parametrize(
    ("equation", "x", "y", "moves"),
    [
        ("ij,jk->ik", "f32[2,3]", "f32[3,4]", 0),
        ("ji,jk->ik", "f32[3,2]", "f32[3,4]", 1),
        ("ij,kj->ik", "f32[2,3]", "f32[4,3]", 1),
        ("ij,jk->ki", "f32[2,3]", "f32[3,4]", 2),
        ("bij,bjk->bik", "f32[b,2,3]", "f32[b,3,4]", 0),
        ("bhqd,bhkd->bhqk", "f32[b,2,s,8]", "f32[b,2,6,8]", 1),
        ("hbi,bhj->bhij", "f32[2,b,3]", "f32[b,2,4]", None),  # nothing is summed
    ],
)
def test_a_product_multiplied_and_summed_becomes_a_matmul(equation: str, x: str, y: str, moves: int | None) -> None:
    _, ops = found(written_out(equation), x, y)
    if moves is None:
        assert "matmul" not in ops
    else:
        assert ops.count("matmul") == 1
        assert not {"mul", "reduce_sum"} & set(ops)
        assert len(ops) - 1 <= moves, ops


def test_products_of_random_equations_become_one_matmul() -> None:
    chance = random.Random(0)
    for _ in range(40):
        letters = chance.sample("abcdefg", 5)
        batch, summed, rows, columns = letters[: chance.randint(0, 1)], letters[1:2], letters[2:3], letters[3:4]
        more = letters[4:] if chance.random() < 0.5 else []
        first, second = [*batch, *summed, *rows, *more], [*batch, *summed, *columns]
        result = [*batch, *rows, *columns, *more]
        for part in (first, second, result):
            chance.shuffle(part)
        sizes = {c: chance.randint(2, 4) for c in letters}
        types = [f"f32[{','.join(str(sizes[c]) for c in part)}]" for part in (first, second)]
        _, ops = found(written_out(f"{''.join(first)},{''.join(second)}->{''.join(result)}"), *types)
        assert ops.count("matmul") == 1
        assert set(ops) <= {"matmul", "transpose", "reshape"}


def test_what_is_no_matmul_stays_as_it_is() -> None:
    weighed = found(lambda b, x, y: b.reduce_sum(b.mul(x, y), axes=(1,)), "f32[4,5]", "f32[5]")[1]
    assert weighed == ["mul", "reduce_sum"]  # nothing is larger for being multiplied first
    outer = found(lambda b, x, y: b.reduce_sum(b.mul(b.unsqueeze(x, axes=(1,)), y), axes=(0,)), "f32[4]", "f32[5]")[1]
    assert "matmul" not in outer  # the axis summed over is of one factor only

    def kept(b: Builder, x: Value, y: Value) -> tuple[Value, Value]:
        product = b.mul(b.unsqueeze(x, axes=(2,)), b.unsqueeze(y, axes=(0,)))
        return b.reduce_sum(product, axes=(1,)), product

    assert "matmul" not in found(kept, "f32[2,3]", "f32[3,4]")[1]
    means = found(lambda b, x, y: b.reduce_max(b.mul(b.unsqueeze(x, axes=(2,)), y), axes=(1,)), "f32[2,3]", "f32[3,4]")
    assert "matmul" not in means[1]


# ---- moves around a product -------------------------------------------------------------------------------


def turn(b: Builder, x: Value) -> Value:
    rank = x.type.rank
    return b.transpose(x, perm=(*range(rank - 2), rank - 1, rank - 2))


def test_transposes_on_both_sides_of_a_product_cancel() -> None:
    assert found(lambda b, x, y: turn(b, b.matmul(turn(b, x), turn(b, y))), "f32[3,2]", "f32[4,3]")[1] == ["matmul"]
    one = found(lambda b, x, y: turn(b, b.matmul(x, turn(b, y))), "f32[b,2,3]", "f32[b,4,3]")[1]
    assert sorted(one) == ["matmul", "transpose"]

    def heads(b: Builder, x: Value, y: Value) -> Value:
        first, second = (b.transpose(v, perm=(1, 0, 2, 3)) for v in (x, y))
        return b.transpose(b.matmul(first, second), perm=(1, 0, 2, 3))

    assert found(heads, "f32[b,h,2,3]", "f32[b,h,3,4]")[1] == ["matmul"]


def test_batches_merged_for_a_product_stay_apart() -> None:
    def merged(b: Builder, q: Value, k: Value, bias: Value) -> Value:
        batch, heads, length, depth = q.type.shape
        flat = (batch * heads, length, depth)
        scores = b.matmul(b.reshape(q, shape=flat), turn(b, b.reshape(k, shape=flat)))
        scores = b.add(b.mul(scores, 0.5), b.reshape(bias, shape=(batch * heads, 1, length)))
        return b.reshape(scores, shape=(batch, heads, length, length))

    graph, ops = found(merged, "f32[b,4,s,8]", "f32[b,4,s,8]", "f32[b,4,s]")
    assert sorted(ops) == ["add", "matmul", "mul", "reshape", "transpose"]
    assert next(n for n in graph if n.op.name == "matmul").result.type.rank == 4

    def unlike(b: Builder, q: Value, k: Value) -> Value:
        return b.matmul(b.reshape(q, shape=(6, 4, 5)), turn(b, b.reshape(k, shape=(6, 4, 5))))

    assert found(unlike, "f32[2,3,4,5]", "f32[3,2,4,5]")[1].count("reshape") == 2


@pytest.mark.parametrize("kind", ["matmul", "linear"])
def test_rows_flattened_for_a_layer_stay_as_they_are(kind: str) -> None:
    def layer(b: Builder, x: Value, w: Value, bias: Value) -> Value:
        batch, length, width = x.type.shape
        flat = b.reshape(x, shape=(batch * length, width))
        y = b.linear(flat, w, bias) if kind == "linear" else b.add(b.matmul(flat, turn(b, w)), bias)
        return b.reshape(b.gelu(y), shape=(batch, length, 6))

    _, ops = found(layer, "f32[b,s,4]", "f32[6,4]", "f32[6]")
    assert "reshape" not in ops
    assert len(ops) <= 4

    def regrouped(b: Builder, x: Value, w: Value) -> Value:
        return b.matmul(b.reshape(x, shape=(4, 6)), w)

    assert found(regrouped, "f32[2,3,4]", "f32[6,5]")[1] == ["reshape", "matmul"]


def test_a_lone_row_needs_no_axis_of_its_own() -> None:
    def row(b: Builder, x: Value, w: Value) -> Value:
        return b.squeeze(b.matmul(b.unsqueeze(x, axes=(1,)), w), axes=(1,))

    assert found(row, "f32[b,4]", "f32[4,5]")[1] == ["matmul"]


# ---- attention around them --------------------------------------------------------------------------------


def attend(b: Builder, scores: Value, v: Value) -> Value:
    return b.matmul(b.softmax(scores, axis=-1), v)


def test_attention_with_heads_merged_into_the_batch_and_linear_biases() -> None:
    def bloom(b: Builder, q: Value, k: Value, v: Value, slopes: Value, mask: Value) -> Value:
        batch, heads, length, depth = q.type.shape
        flat = (batch * heads, length, depth)
        products = b.matmul(b.reshape(q, shape=flat), turn(b, b.reshape(k, shape=flat)))
        scores = b.add(b.reshape(slopes, shape=(batch * heads, 1, length)), b.mul(products, 8**-0.5))
        apart = b.reshape(scores, shape=(batch, heads, length, length))
        weights = b.softmax(b.add(apart, mask), axis=-1)
        mixed = b.matmul(b.reshape(weights, shape=(batch * heads, length, length)), b.reshape(v, shape=flat))
        return b.reshape(mixed, shape=q.type.shape)

    graph, ops = found(bloom, *["f32[b,4,s,8]"] * 3, "f32[b,4,s]", "f32[b,1,s,s]")
    assert sorted(ops) == ["add", "attention", "reshape"]
    assert next(n for n in graph if n.op.name == "attention").op.scale in (None, pytest.approx(8**-0.5))  # type: ignore[attr-defined]


@pytest.mark.parametrize("masked", [False, True])
def test_attention_with_a_bias_that_is_scaled_and_keys_of_one_head(masked: bool) -> None:
    def falcon(b: Builder, q: Value, k: Value, v: Value, slopes: Value, mask: Value) -> Value:
        scores = b.mul(b.add(b.matmul(q, turn(b, k)), slopes), 0.25)
        return attend(b, b.add(scores, mask) if masked else scores, v)

    graph, ops = found(falcon, "f32[b,4,s,8]", "f32[b,1,s,8]", "f32[b,1,s,8]", "f32[b,4,1,s]", "f32[b,1,s,s]")
    assert sorted(ops) == (["add", "attention", "mul"] if masked else ["attention", "mul"])
    key = next(n for n in graph if n.op.name == "attention").operands[1]
    assert key is not None
    assert key.type.shape[1] == 1


def test_a_choice_among_biased_scores_is_no_attention() -> None:
    def deberta(b: Builder, q: Value, k: Value, v: Value, bias: Value, mask: Value) -> Value:
        scores = b.add(b.mul(b.matmul(q, turn(b, k)), 0.25), bias)
        return attend(b, b.where(mask, scores, -1e4), v)  # −10⁴ + bias would be another number

    assert "attention" not in found(deberta, *["f32[b,4,s,8]"] * 3, "f32[1,4,s,s]", "bool[b,1,1,s]")[1]
