from __future__ import annotations

import itertools
import threading

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from dragoman.ir.errors import Inexact
from dragoman.ir.field import FIELD, PRIMES, FieldArray, embed
from dragoman.ir.order import note_constant, order_key
from tests.ir.residues import SHAPE, equal, numbers, residues


class TestOrder:
    @given(numbers, numbers, numbers)
    def test_extrema_obey_the_laws_of_a_lattice(self, a: FieldArray, b: FieldArray, c: FieldArray) -> None:
        high, low = FIELD.maximum, FIELD.minimum
        assert equal(high(a, b), high(b, a))
        assert equal(low(a, low(b, c)), low(low(a, b), c))
        assert equal(high(a, a), a)
        assert equal(high(a, low(a, b)), a)
        assert equal(low(a, high(b, c)), high(low(a, b), low(a, c)))
        assert equal(high(a, b) + low(a, b), a + b)
        assert equal(-high(a, b), low(-a, -b))

    @given(numbers)
    def test_absolute_values_signs_and_rectifiers_hang_together(self, a: FieldArray) -> None:
        m = FIELD
        assert equal(abs(a), m.maximum(a, -a))
        assert equal(m.absolute(-a), m.absolute(a))
        assert equal(m.special("sign", a) * abs(a), a)
        assert equal(m.maximum(a, 0) - m.maximum(-a, 0), a)
        assert equal(m.maximum(a, 0) + m.maximum(-a, 0), abs(a))
        assert equal(m.maximum(m.maximum(a, 0), 0), m.maximum(a, 0))

    def test_half_of_the_numbers_are_positive(self) -> None:
        a = residues(14, (10_000,))
        positive = int(np.count_nonzero(a > 0))
        assert 4_700 < positive < 5_300
        assert not equal(FIELD.maximum(a, 0), a)
        assert not equal(abs(a), a)

    def test_comparisons_are_those_of_one_order(self) -> None:
        a, b = residues(15), residues(16)
        assert np.array_equal(a < b, b > a)
        assert np.array_equal(a <= b, ~(a > b))
        assert np.array_equal((a == b) | (a != b), np.ones(SHAPE, bool))
        assert bool(np.all(a >= a))
        assert np.array_equal(a < 0, -a > 0)

    @given(st.lists(st.floats(-1e12, 1e12), min_size=2, max_size=6, unique=True))
    @example([0.0, 5e-324, 1.1754943508222875e-38, 1e-5, 1.1e-5])
    @example([999999995905.0, 999999995905.5])
    def test_constants_keep_their_real_order(self, constants: list[float]) -> None:
        for x, y in itertools.pairwise(sorted(constants)):
            if np.float32(x) != np.float32(y):  # fractions are embedded as f32 has them, whole numbers as they are
                assert bool(embed(x) < embed(y))
                assert bool(embed(-x) > embed(-y))

    @pytest.mark.parametrize(("low", "high"), [(0.0, 6.0), (-1.0, 1.0), (0.0, 1.0), (-65504.0, 65504.0), (0.1, 0.9)])
    def test_a_clip_neither_hides_its_operand_nor_is_the_identity(self, low: float, high: float) -> None:
        a = residues(17, (5_000,))
        clipped = FIELD.minimum(FIELD.maximum(a, low), high)
        shares = [int(np.count_nonzero(clipped == c)) / a.size for c in (low, a, high)]
        assert min(shares) > 0.02, shares
        assert sum(shares) == pytest.approx(1)
        assert equal(FIELD.minimum(FIELD.maximum(clipped, low), high), clipped)
        assert equal(FIELD.maximum(FIELD.minimum(a, high), low), clipped)

    def test_small_whole_numbers_keep_their_order_wherever_they_come_from(self) -> None:
        numbers = np.arange(-50, 51)
        assert np.array_equal(FIELD.argsort(embed(numbers[::-1]), 0), np.arange(101)[::-1])
        assert equal(FIELD.maximum(embed(numbers), 3), np.maximum(numbers, 3))
        assert equal(embed(3) * 2 - 6 + embed(np.array([1.0])), np.array([1.0]))

    @given(numbers)
    def test_reductions_and_sorting_follow_the_order(self, a: FieldArray) -> None:
        m = FIELD
        pairwise = a[:, 0]
        for column in range(1, 4):
            pairwise = m.maximum(pairwise, a[:, column])
        assert equal(m.max(a, 1), pairwise)
        assert equal(m.min(a, (0, 1)), -m.max(-a))
        assert equal(m.max(a, 0, keepdims=True), m.max(a, (-2,))[None])
        order = m.argsort(a, 1)
        ordered = m.move(lambda x: np.take_along_axis(x, order, 1), a)
        assert bool(np.all(ordered[:, :-1] <= ordered[:, 1:]))
        assert np.array_equal(m.argsort(a, 1, descending=True)[:, 0], np.argmax(np.asarray(ordered[:, 3:] == a), 1))

    def test_the_extremum_of_nothing_is_inexact(self) -> None:
        with pytest.raises(Inexact, match="the maximum of nothing is infinite"):
            FIELD.max(residues(1, (2, 0)), 1)
        assert FIELD.max(residues(1, (0, 2)), 1).shape == (0,)


def test_keys_are_distinct_and_antisymmetric() -> None:
    p = PRIMES[0]
    some = np.unique(np.concatenate([np.arange(10_000), np.random.default_rng(0).integers(0, p, 100_000)]))
    keys = order_key(some)
    assert len(np.unique(keys)) == len(some)
    assert np.array_equal(order_key((p - some) % p), -keys)
    assert keys.dtype == np.int64


def test_constants_noted_by_many_threads_are_all_there() -> None:
    values = {int(embed(np.array([n])).levels[0][0]): float(n) for n in range(100_000, 100_400)}
    items = list(values.items())
    threads = [threading.Thread(target=lambda i=i: [note_constant(*x) for x in items[i::8]]) for i in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    keys = order_key(np.array(list(values)))
    assert np.array_equal(keys, np.sort(keys))
