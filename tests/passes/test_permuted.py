"""The table of permuted ops, proved on the samples of every op for every permutation of its axes."""

from __future__ import annotations

import itertools
from collections.abc import Iterator

import numpy as np
import pytest

from dragoman.ir.builder import Builder
from dragoman.ir.exact import Outcome, prove_exact
from dragoman.ir.graph import Graph
from dragoman.ir.local import check_local
from dragoman.ir.op import REGISTRY, Op, Sample
from dragoman.ir.samples import given_operands, operand_types, random_operands, sample_graph
from dragoman.ir.types import parse_type, same_type
from dragoman.passes.layout import FIRST, Move, moved
from dragoman.passes.permuted import (
    Perm,
    composed,
    identity,
    inverse,
    is_reshape,
    operand_permutation,
    permuted,
    permuted_rank,
    reshaped_permutation,
    to_channels_first,
    to_channels_last,
)

_STAYING = {  # by the order of their axes, or with several operands that would all have to move
    *("constant", "dimension", "iota", "attention", "rotary_embedding", "cond", "while_loop", "scan", "einsum"),
    *("take_along_axis", "gather_nd", "nonzero", "one_hot", "dynamic_slice", "dynamic_update_slice"),
    *("depth_to_space", "space_to_depth", "triangle", "diagonal", "grid_sample", "lstm", "gru", "rnn"),
    *("scatter_elements", "scatter_nd"),
    *("bits_of_float", "fft", "rfft", "irfft", "threefry2x32", "multi_head_attention"),
    *("cholesky", "triangular_solve", "lu", "qr", "svd", "eigh", "det"),
    *("non_max_suppression", "roi_align", "deform_conv", "tree_ensemble"),
    *(
        "dynamic_iota",
        "dynamic_reshape",
        "dynamic_broadcast",
        "dynamic_strided_slice",
        "dynamic_reduce",
        "dynamic_resize",
    ),
    *("string_concat", "string_split", "regex_full_match", "string_normalize", "count_ngrams", "lookup"),
    *("dft", "conv_integer"),
}
MOVING = [cls for cls in REGISTRY.values() if cls.name not in _STAYING]


def movements(cls: type[Op], sample: Sample) -> Iterator[tuple[Graph, Graph]]:
    """The graph of a sample as it is, and with its op moved by each permutation for which it can be."""
    types = operand_types(sample)
    before = sample_graph(cls, sample)
    (node,) = before.nodes
    for perm in itertools.permutations(range(permuted_rank(node.op, types))):
        found = permuted(node.op, perm, types)
        if found is None or perm == identity(len(perm)):
            continue
        after = sample_graph(cls, sample)
        (old,) = after.nodes
        results = moved(Builder(after, before=old), old, Move(FIRST, perm, *found))
        for given, made in zip(old.results, results, strict=True):
            assert same_type(given.type, made.type), f"{old} by {perm} gives {made.type}"
            given.replace_all_uses(made)
        after.erase(old)
        yield before, after


@pytest.mark.parametrize("cls", MOVING, ids=lambda cls: cls.name)
def test_an_op_moved_by_any_permutation_between_transposes_computes_the_same(cls: type[Op]) -> None:
    count = 0
    for sample in cls.samples():
        operands = given_operands(random_operands(sample))
        for before, after in movements(cls, sample):
            count += 1
            exact = prove_exact(before, after)
            if exact.outcome is Outcome.UNDECIDED:
                local = check_local(before, after, operands)
                assert local.ok, f"{local.reason}\n{before}\n{after}"
            else:
                assert exact.outcome is Outcome.EQUAL, f"{exact.reason}\n{before}\n{after}"
    assert count


@pytest.mark.parametrize("cls", MOVING, ids=lambda cls: cls.name)
def test_the_permutation_of_operands_found_from_that_of_results_gives_it_again(cls: type[Op]) -> None:
    for sample in cls.samples():
        (node,) = sample_graph(cls, sample).nodes
        result = node.results[0].type
        for perm in itertools.permutations(range(min(result.rank, 4))):
            back = operand_permutation(node.op, perm, node.operand_types, result)
            if back is not None:
                forward = permuted(node.op, back, node.operand_types)
                assert forward is not None
                assert forward[1] == perm


@pytest.mark.parametrize(
    ("before", "after", "perm", "expected"),
    [
        ("f32[2,3,4,5]", "f32[2,3,20]", (0, 2, 3, 1), (0, 2, 1)),  # rows and columns stay together
        ("f32[2,3,4,5]", "f32[2,3,20]", (0, 3, 2, 1), None),  # columns before rows
        ("f32[2,4,5,3]", "f32[2,60]", (0, 3, 1, 2), None),  # channels would come first in the flattened
        ("f32[2,1,1,3]", "f32[2,3]", (0, 3, 1, 2), (0, 1)),
        ("f32[n,h,w,c]", "f32[n,h*w,c]", (0, 3, 1, 2), (0, 2, 1)),
        ("f32[2,6,4]", "f32[2,2,3,4]", (0, 2, 1), (0, 3, 1, 2)),
        ("f32[2,0,4]", "f32[0,2,4]", (0, 2, 1), None),
    ],
)
def test_a_reshape_moves_if_axes_that_it_merges_stay_together(
    before: str, after: str, perm: Perm, expected: Perm | None
) -> None:
    assert reshaped_permutation(parse_type(before).shape, parse_type(after).shape, perm) == expected


def test_permutations_compose_and_invert_as_transposes_do() -> None:
    x = np.arange(24).reshape(2, 3, 4)
    for p, q in itertools.product(itertools.permutations(range(3)), repeat=2):
        np.testing.assert_array_equal(x.transpose(p).transpose(q), x.transpose(composed(p, q)))
        np.testing.assert_array_equal(x.transpose(p).transpose(inverse(p)), x)
    assert to_channels_first(4) == inverse(to_channels_last(4))
    assert x.transpose(to_channels_last(3)).shape == (2, 4, 3)


def test_only_axes_of_extent_1_may_move_for_a_transpose_to_be_a_reshape() -> None:
    assert is_reshape(parse_type("f32[2,1,1,3]").shape, (0, 3, 1, 2))
    assert not is_reshape(parse_type("f32[2,1,2,3]").shape, (0, 3, 1, 2))
    assert not is_reshape(parse_type("f32[2,n,3]").shape, (0, 2, 1))
    assert is_reshape(parse_type("f32[n,1,3]").shape, (0, 2, 1))
    assert not is_reshape(parse_type("f32[1,n,m]").shape, (1, 2, 0))  # the shape would have to be computed
