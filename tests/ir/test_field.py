from __future__ import annotations

import math
from collections.abc import Callable
from fractions import Fraction
from typing import Any

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from dragoman.ir.arithmetic import Inexact
from dragoman.ir.errors import DragomanError
from dragoman.ir.field import FIELD, PRIMES, Field, FieldArray, embed
from dragoman.ir.types import BF16, BOOL, C64, F16, F32, F64, I8, I64, STRING, U8
from tests.ir.residues import SHAPE, equal, numbers, residues

P = PRIMES[0]
finite = st.floats(allow_nan=False, allow_infinity=False)


def modulo(value: Fraction, p: int) -> int:
    return value.numerator * pow(value.denominator, -1, p) % p


class TestRingAndField:
    @given(numbers, numbers, numbers)
    def test_sums_and_products_obey_their_laws(self, a: FieldArray, b: FieldArray, c: FieldArray) -> None:
        assert equal(a + b, b + a)
        assert equal((a + b) + c, a + (b + c))
        assert equal(a * b, b * a)
        assert equal((a * b) * c, a * (b * c))
        assert equal(a * (b + c), a * b + a * c)
        assert equal(a - b, -(b - a))
        assert equal(a - a, np.zeros(SHAPE))
        assert equal(a + 0, a)
        assert equal(1 * a, a)
        assert equal(+1 - a, -(a - 1))

    @given(numbers, numbers)
    def test_quotients_undo_products(self, a: FieldArray, b: FieldArray) -> None:
        assert equal(a / b * b, a)
        assert equal(a / a, np.ones(SHAPE))
        assert equal(1 / (1 / a), a)
        assert equal(a / 4, a * 0.25)
        assert equal(FIELD.divide(a, b), a / b)

    @given(numbers)
    def test_powers_are_repeated_products(self, a: FieldArray) -> None:
        assert equal(a**2, a * a)
        assert equal(FIELD.power(a, np.array(3.0)), a * a * a)
        assert equal(a**-2, 1 / (a * a))
        assert equal(a**0, np.ones(SHAPE))
        assert equal(a**0.5, FIELD.sqrt(a))
        assert equal(a**-0.5, 1 / FIELD.sqrt(a))
        assert not equal(a**2.5, a**3.5)

    def test_division_by_zero_is_inexact(self) -> None:
        one, zero = embed(np.ones(3)), embed(np.array([1.0, 0.0, 2.0]))
        for attempt in (lambda: one / zero, lambda: 1 / zero, lambda: zero**-1, lambda: FIELD.divide(one, 0.0)):
            with pytest.raises(Inexact, match="division by zero"):
                attempt()

    def test_numpy_arrays_and_numbers_take_part_on_either_side(self) -> None:
        a = residues(1)
        for other in (np.full(SHAPE, 3), np.full(SHAPE, 1.5), np.float64(0.5), np.int8(-2), 2, np.ones(SHAPE, bool)):
            assert equal(a + other, embed(other) + a)
            assert equal(other * a, a * embed(other))
            assert equal(other - a, embed(other) - a)
            assert equal(other / a, embed(other) / a)
            assert isinstance(other + a, FieldArray)


class TestEmbedding:
    @given(finite)
    @example(5e-324)
    @example(-2.2250738585072014e-308)
    @example(1e30)
    @example(1.7976931348623157e308)
    @example(-0.0)
    def test_every_double_in_an_array_is_exact(self, number: float) -> None:
        array = embed(np.array([number]))
        assert [int(level[0]) for level in array.levels] == [modulo(Fraction(number), p) for p in PRIMES]

    @given(st.lists(finite.filter(lambda x: abs(x) < 1e150), min_size=2, max_size=2))
    def test_arithmetic_is_that_of_fractions(self, pair: list[float]) -> None:
        x, y = (embed(np.array([v])) for v in pair)
        a, b = map(Fraction, pair)
        assert int((x + y).levels[0][0]) == modulo(a + b, P)
        assert int((x * y).levels[0][0]) == modulo(a * b, P)
        if b:
            assert int((x / y).levels[0][0]) == modulo(a / b, P)

    @given(st.integers(-(2**63), 2**64 - 1))
    def test_every_integer_is_exact(self, number: int) -> None:
        array = embed(np.array([number], np.uint64 if number >= 2**63 else np.int64))
        assert [int(level[0]) for level in array.levels] == [number % p for p in PRIMES]

    @pytest.mark.parametrize("dtype", [F16, BF16, F32, F64], ids=str)
    def test_every_float_type_embeds_the_number_it_holds(self, dtype: Any) -> None:
        held = np.array([0.1, -3.0, 1e-7]).astype(dtype.numpy)
        assert equal(FIELD.embed(held, dtype), embed(held.astype(np.float64)))
        assert equal(FIELD.embed(np.array([1, 0], np.int8), dtype), np.array([1.0, 0.0]))

    @pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
    def test_infinities_and_nan_are_inexact(self, value: float) -> None:
        for array in (np.array([0.0, value]), value):
            with pytest.raises(Inexact, match="infinity or NaN among the values"):
                embed(array)
        with pytest.raises(Inexact, match="infinity or NaN"):
            FIELD.constant(value, F32)

    def test_complex_numbers_and_text_are_inexact(self) -> None:
        with pytest.raises(Inexact, match="complex numbers have no exact form here"):
            FIELD.embed(np.array([1j]), C64)
        with pytest.raises(Inexact, match="complex128 has no exact form"):
            embed(np.array([1j]))
        assert FIELD.embed(np.array(["a"], object), STRING).tolist() == ["a"]
        assert FIELD.constant("a", STRING).tolist() == "a"

    def test_integers_and_booleans_stay_numpy_arrays_in_their_width(self) -> None:
        for dtype in (I64, U8, BOOL):
            kept = FIELD.store(FIELD.embed(np.array([1, 0]), dtype), dtype)
            assert isinstance(kept, np.ndarray)
            assert kept.dtype == dtype.numpy

    def test_constants_are_the_numbers_as_written_in_every_precision(self) -> None:
        for dtype in (BF16, F16, F32, F64):
            assert equal(FIELD.constant(1e-5, dtype), embed(1e-5))
        assert equal(FIELD.constant(3.0, BF16), embed(np.array(3)))
        assert not equal(FIELD.constant(1.1e-5, F16), FIELD.constant(1e-5, F16))


class TestExponentials:
    @given(numbers, numbers)
    def test_sums_become_products_even_twice(self, a: FieldArray, b: FieldArray) -> None:
        m = FIELD
        assert equal(m.exp(a + b), m.exp(a) * m.exp(b))
        assert equal(m.exp(a - b), m.exp(a) / m.exp(b))
        assert equal(m.exp(-a) * m.exp(a), np.ones(SHAPE))
        assert equal(m.exp(m.exp(a) * m.exp(b)), m.exp(m.exp(a + b)))
        assert equal(m.exp(m.exp(a) + m.exp(b)), m.exp(m.exp(a)) * m.exp(m.exp(b)))
        assert equal(m.exp(3 * a), m.exp(a) ** 3)

    def test_it_is_no_other_function(self) -> None:
        a = residues(3)
        assert equal(FIELD.exp(a - a), np.ones(SHAPE))
        assert len({int(v) for v in FIELD.exp(residues(4, (1000,))).levels[0]}) == 1000
        assert not equal(FIELD.exp(a), a + 1)
        assert not equal(FIELD.exp(a * a), FIELD.exp(a) ** 2)

    @given(numbers)
    def test_sigmoids_and_hyperbolic_functions_hang_together(self, a: FieldArray) -> None:
        m = FIELD
        sigmoid = 1 / (1 + m.exp(-a))
        assert equal(sigmoid, m.exp(a) / (1 + m.exp(a)))
        assert equal(m.special("tanh", a), 2 / (1 + m.exp(-2 * a)) - 1)
        assert equal(m.special("cosh", a) ** 2 - m.special("sinh", a) ** 2, np.ones(SHAPE))

    def test_softmax_does_not_depend_on_what_is_taken_from_its_row(self) -> None:
        m, a = FIELD, residues(5)

        def softmax(x: FieldArray) -> Any:
            return m.exp(x) / m.sum(m.exp(x), 1, keepdims=True)

        assert equal(softmax(a), softmax(a - m.max(a, 1, keepdims=True)))
        assert equal(m.sum(softmax(a), 1), np.ones(3))


class TestRootsAndOthers:
    @given(numbers, numbers)
    def test_roots_multiply_and_their_square_is_the_number_or_its_negative(self, a: FieldArray, b: FieldArray) -> None:
        root = FIELD.sqrt
        assert equal(root(a * b), root(a) * root(b))
        assert equal(root(a / b), root(a) / root(b))
        assert equal(root(a * a) ** 2, a * a)
        square = root(a) * root(a)
        assert bool(np.all((square == a) | (square == -a)))

    def test_a_root_is_neither_linear_nor_the_identity(self) -> None:
        a, b = residues(6), residues(7)
        assert not equal(FIELD.sqrt(a + b), FIELD.sqrt(a) + FIELD.sqrt(b))
        assert not equal(FIELD.sqrt(a), a)

    @pytest.mark.parametrize("name", ["erf", "sin", "arcsin", "arctan", "arcsinh", "arctanh", "trunc", "rint", "tanh"])
    def test_odd_functions_are_odd(self, name: str) -> None:
        a = residues(8)
        assert equal(FIELD.special(name, -a), -FIELD.special(name, a))
        assert equal(FIELD.special(name, a - a), np.zeros(SHAPE))
        assert not equal(FIELD.special(name, a), a)

    @pytest.mark.parametrize("name", ["cos", "cosh"])
    def test_even_functions_are_even(self, name: str) -> None:
        a = residues(9)
        assert equal(FIELD.special(name, -a), FIELD.special(name, a))

    def test_functions_differ_from_each_other(self) -> None:
        a = residues(10, (64,))
        names = ["erf", "sin", "cos", "arctan", "gammaln", "psi", "floor", "ceil", "rint", "trunc", "arccos", "erfinv"]
        results = [FIELD.special(n, a).levels[0].tobytes() for n in names]
        assert len({*results, a.levels[0].tobytes(), FIELD.log(a).levels[0].tobytes()}) == len(names) + 1 + 1
        assert equal(FIELD.special("ceil", a), -FIELD.special("floor", -a))

    def test_functions_of_two_arguments_know_their_order(self) -> None:
        a, b = residues(11), residues(12)
        assert equal(FIELD.special2("arctan2", a, b), FIELD.special2("arctan2", a, b))
        assert not equal(FIELD.special2("arctan2", a, b), FIELD.special2("arctan2", b, a))
        assert not equal(FIELD.special2("arctan2", a, b), FIELD.special2("fmod", a, b))

    def test_nothing_is_infinite_or_nan(self) -> None:
        a = residues(13)
        for name in ("isnan", "isinf"):
            assert not FIELD.special(name, a).any()


class TestReductions:
    @pytest.mark.parametrize("axes", [None, 0, 1, (0, 1), (), (-1,)])
    @pytest.mark.parametrize("keepdims", [False, True])
    def test_sums_and_products_agree_with_big_integers(self, axes: Any, keepdims: bool) -> None:
        a = residues(20)
        for mine, theirs in ((FIELD.sum, np.sum), (FIELD.prod, np.prod)):
            result = mine(a, axes, keepdims)
            for level, whole, p in zip(result.levels, a.levels, PRIMES, strict=True):
                expected = theirs(whole.astype(object), axis=axes, keepdims=keepdims) % p
                assert level.shape == np.shape(expected)
                assert level.tolist() == np.asarray(expected).tolist()

    @pytest.mark.parametrize("length", [0, 1, 2, 5, 8])
    def test_running_sums_and_products_agree_with_big_integers(self, length: int) -> None:
        a = residues(21, (2, length))
        for mine, theirs in ((FIELD.cumsum, np.cumsum), (FIELD.cumprod, np.cumprod)):
            level = mine(a, 1).levels[0]
            expected = theirs(a.levels[0].astype(object), axis=1) % P if length else np.zeros((2, 0))
            assert (level == expected.astype(np.int64)).all()

    def test_the_product_of_nothing_is_one_and_its_sum_zero(self) -> None:
        nothing = residues(1, (2, 0))
        assert equal(FIELD.prod(nothing, 1), np.ones(2))
        assert equal(FIELD.sum(nothing, 1), np.zeros(2))

    def test_integers_are_reduced_as_integers(self) -> None:
        x = np.array([[100, 100]], np.int8)
        assert FIELD.sum(x, 1).tolist() == [-56]
        assert FIELD.prod(x, 1).tolist() == [16]
        assert FIELD.max(x, 1).tolist() == [100]
        assert FIELD.cumsum(x, 1).tolist() == [[100, -56]]


class TestContractions:
    @given(st.integers(0, 2**32), st.integers(1, 5), st.integers(0, 40), st.integers(1, 5))
    def test_matrix_products_agree_with_big_integers(self, seed: int, rows: int, inner: int, columns: int) -> None:
        a, b = residues(seed, (rows, inner)), residues(seed + 1, (inner, columns))
        for x, y, z, p in zip(a.levels, b.levels, FIELD.matmul(a, b).levels, PRIMES, strict=True):
            expected = x.astype(object) @ y.astype(object) if inner else np.zeros((rows, columns), object)
            assert (z == (expected % p).astype(np.int64)).all()

    def test_the_largest_residues_do_not_round(self) -> None:
        top = FieldArray(tuple(np.full((1, 100_000), p - 1, np.int64) for p in PRIMES))
        product = FIELD.matmul(top, FIELD.move(np.transpose, top))
        assert [int(level[0, 0]) for level in product.levels] == [100_000 % p for p in PRIMES]

    @pytest.mark.parametrize(
        ("equation", "shapes"),
        [
            ("ij,jk->ik", [(2, 3), (3, 4)]),
            ("ij,jk", [(2, 3), (3, 4)]),
            ("bij,bkj->bik", [(2, 3, 4), (2, 5, 4)]),
            ("ij,ij->", [(2, 3), (2, 3)]),
            ("i,j->ij", [(2,), (3,)]),
            ("ij->ji", [(2, 3)]),
            ("ij->i", [(2, 3)]),
            ("ii->i", [(3, 3)]),
            ("ij,jk,kl->il", [(2, 3), (3, 4), (4, 2)]),
            ("ij,jk,k->i", [(2, 3), (3, 4), (4,)]),
            ("i,i,i->i", [(3,), (3,), (3,)]),
            ("ij,kl,jl->ik", [(2, 3), (4, 5), (3, 5)]),
            ("a,b,c,d->dcba", [(2,), (2,), (3,), (2,)]),
        ],
    )
    def test_einsum_agrees_with_big_integers(self, equation: str, shapes: list[tuple[int, ...]]) -> None:
        arrays = [residues(30 + i, s) for i, s in enumerate(shapes)]
        result = FIELD.einsum(equation, *arrays).levels[0]
        expected = np.einsum(equation, *(a.levels[0].astype(object) for a in arrays)) % P
        assert result.shape == np.shape(expected)
        assert result.tolist() == np.asarray(expected).tolist()

    def test_mixed_operands_and_vectors_contract(self) -> None:
        a = residues(40, (3,))
        assert equal(FIELD.matmul(a, np.array([1, 2, 3])), a[0] + a[1] * 2 + a[2] * 3)
        assert FIELD.matmul(np.eye(2, dtype=int), np.ones((2, 1), int)).tolist() == [[1], [1]]

    def test_a_contraction_too_long_to_be_exact_is_refused(self) -> None:
        long = FieldArray(tuple(np.ones((1, 1 << 21), np.int64) for _ in PRIMES))
        with pytest.raises(Inexact, match="a contraction of 2097152 terms"):
            FIELD.matmul(long, FIELD.move(np.transpose, long))
        with pytest.raises(Inexact, match="a contraction of 2097152 terms"):
            FIELD.einsum("ij,ij->", long, long)

    def test_an_ellipsis_is_refused(self) -> None:
        with pytest.raises(Inexact, match="ellipsis"):
            FIELD.einsum("...i->...", residues(1))


class TestMovement:
    def test_what_is_moved_keeps_its_levels_together(self) -> None:
        a = residues(50)
        moved = FIELD.move(lambda x: x.T[::-1], a)
        for before, after in zip(a.levels, moved.levels, strict=True):
            assert np.array_equal(before.T[::-1], after)
        parts = FIELD.move(lambda x: np.split(x, 3), a)
        assert [p.shape for p in parts] == [(1, 4)] * 3
        joined = FIELD.move(lambda *x: np.concatenate(x), a, np.ones((1, 4)))
        assert equal(joined[3:], np.ones((1, 4)))
        assert FIELD.move(np.transpose, np.ones((2, 3), int)).shape == (3, 2)

    def test_a_choice_takes_whole_numbers(self) -> None:
        a, flags = residues(51), np.arange(12).reshape(SHAPE) % 2 == 0
        chosen = FIELD.where(flags, a, 0)
        assert bool(np.all((chosen == a) == flags))
        assert FIELD.where(flags, 1, 0).sum() == 6

    def test_a_constant_is_known_only_while_every_element_is_it(self) -> None:
        two, x = embed(2.0), residues(52, (3,))
        assert two.splat == 2.0
        spread = FIELD.move(lambda a: np.broadcast_to(a, (3,)), two)
        assert spread.splat == 2.0
        assert equal(FIELD.power(x, spread), x * x)
        padded = FIELD.move(lambda a: np.pad(a, (0, 1)), FIELD.move(lambda a: np.broadcast_to(a, (2,)), two))
        assert padded.splat is None
        assert equal(FIELD.power(x, padded)[:2], FIELD.power(x, np.array([2.0, 2.0, 7.0]))[:2])
        assert (two + 1).splat is None
        assert embed(np.array([2.0, 2.0])).splat is None
        assert embed(np.array(7)).splat == 7.0

    def test_scalars_stay_arrays(self) -> None:
        a = residues(53, ())
        for result in (a + a, a * 2, -a, FIELD.exp(a), FIELD.sum(residues(1)), a / 3, FIELD.where(True, a, a)):
            assert all(isinstance(level, np.ndarray) and level.shape == () for level in result.levels)

    def test_numpy_cannot_take_hold_of_residues_unawares(self) -> None:
        a = residues(54)
        for attempt in (lambda: np.asarray(a), lambda: np.exp(a), lambda: FIELD.store(a, I64), lambda: np.sum(a)):
            with pytest.raises((Inexact, TypeError)):
                attempt()
        with pytest.raises(TypeError):
            hash(a)

    @pytest.mark.parametrize(
        ("reduction", "combine"),
        [
            ("none", lambda a, b: b),
            ("add", lambda a, b: a + b),
            ("mul", lambda a, b: a * b),
            ("max", FIELD.maximum),
            ("min", FIELD.minimum),
        ],
    )
    def test_updates_are_scattered_in_order(self, reduction: str, combine: Callable[..., Any]) -> None:
        x, updates = residues(55, (4,)), residues(56, (3,))
        result = FIELD.scatter(x, (np.array([1, 3, 1]),), updates, reduction)
        assert equal(result[1], combine(combine(x[1], updates[0]), updates[2]))
        assert equal(result[3], combine(x[3], updates[1]))
        assert equal(result[::2], x[::2])


class TestCasts:
    def test_between_floats_and_from_integers_they_are_exact(self) -> None:
        a = residues(60)
        assert equal(FIELD.cast(a, BF16), a)
        assert equal(FIELD.cast(np.array([3, -4]), F32), np.array([3, -4]))
        assert FIELD.cast(embed(np.array([0.0, 2.0])), BOOL).tolist() == [False, True]
        assert FIELD.cast(np.array([300]), U8).tolist() == [44]

    def test_what_would_round_is_inexact_and_an_error_of_ours(self) -> None:
        for dtype in (I64, I8):
            with pytest.raises(Inexact, match=f"a cast from float to {dtype} rounds"):
                FIELD.cast(residues(1), dtype)
        assert issubclass(Inexact, DragomanError)

    def test_residues_are_told_from_integers(self) -> None:
        assert FIELD.is_real(residues(1))
        assert not FIELD.is_real(np.ones(2))
        assert isinstance(FIELD, Field)
