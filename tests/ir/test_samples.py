"""The operands that derived tests run on: of their type, within their domain, the same for the same seed."""

from __future__ import annotations

import ml_dtypes
import numpy as np
import pytest

from dragoman.ir.op import REGISTRY, operand, sample
from dragoman.ir.samples import given_operands, operand_types, random_array, random_operands, sample_graph, sample_seed
from dragoman.ir.types import DTYPES, parse_type


@pytest.mark.parametrize("dtype", DTYPES.values(), ids=str)
def test_there_are_operands_of_every_dtype(dtype: object) -> None:
    (drawn,) = random_operands(sample(f"{dtype}[40,2]"))
    assert drawn.dtype == parse_type(f"{dtype}[]").dtype.numpy
    assert drawn.shape == (40, 2)
    assert len({str(v) for v in drawn.reshape(-1).tolist()}) > 1


def test_the_same_seed_draws_the_same_numbers_and_operands_differ_from_each_other() -> None:
    pair = sample("f32[5]", "f32[5]")
    first, second = random_operands(pair, seed=3)
    again = random_operands(pair, seed=3)
    np.testing.assert_array_equal(first, again[0])
    assert not np.array_equal(first, second)
    assert not np.array_equal(first, random_operands(pair, seed=4)[0])
    assert sample_seed("add", 0) == sample_seed("add", 0) != sample_seed("add", 1)


def test_a_domain_holds_and_that_of_integers_includes_its_ends() -> None:
    reals, integers, upper, lower = random_operands(
        sample(
            operand("f32[500]", low=0.25, high=0.5),
            operand("u8[500]", low=3, high=5),
            operand("f64[500]", high=-1.0),
            operand("f64[500]", low=4.0),
        )
    )
    assert reals.min() >= 0.25
    assert reals.max() <= 0.5
    assert set(integers.tolist()) == {3, 4, 5}
    assert -3 <= upper.min() < upper.max() <= -1
    assert 4 <= lower.min() < lower.max() <= 6


def test_given_values_are_laid_out_row_by_row_and_rounded_to_their_dtype() -> None:
    (given,) = random_operands(sample(operand("bf16[2,2]", values=(1.0, 2.0, 3.0, 0.1))))
    np.testing.assert_array_equal(given.astype(np.float32), [[1.0, 2.0], [3.0, 0.10009765625]])
    assert given.dtype == ml_dtypes.bfloat16


def test_a_symbol_takes_the_extent_given_and_an_operand_left_out_stays_out() -> None:
    drawn = random_operands(sample("f32[s,2*s]", None, "f32[3]"), extents={"s": 4})
    assert drawn[1] is None
    assert [x.shape for x in given_operands(drawn)] == [(4, 8), (3,)]
    assert random_array(parse_type("f32[s]"), extents={"s": 7}).shape == (7,)


def test_the_graph_of_a_sample_has_the_op_as_its_only_node() -> None:
    chosen = sample("f32[5,6]", None, "f32[6]", axis=1, epsilon=1e-6)
    graph = sample_graph(REGISTRY["layer_norm"], chosen)
    (node,) = graph
    assert node.op == REGISTRY["layer_norm"](axis=1, epsilon=1e-6)
    assert [t and str(t) for t in operand_types(chosen)] == ["f32[5,6]", None, "f32[6]"]
    assert [str(v.type) for v in graph.inputs] == ["f32[5,6]", "f32[6]"]
    assert [v is None for v in node.operands] == [False, True, False]
