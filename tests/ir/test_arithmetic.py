from __future__ import annotations

import math
import warnings
from typing import Any

import ml_dtypes
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from dragoman.ir.arithmetic import FLOAT64, NATIVE, Arithmetic
from dragoman.ir.types import (
    BF16,
    BOOL,
    C64,
    C128,
    DTYPES,
    F8E4M3FN,
    F8E5M2,
    F16,
    F32,
    F64,
    I4,
    I8,
    I16,
    I32,
    I64,
    STRING,
    U4,
    U8,
    U16,
    U64,
    DType,
    dtype_of,
)

BOTH = pytest.mark.parametrize("m", [FLOAT64, NATIVE], ids=lambda m: m.name)
INT64 = st.integers(-(2**63), 2**63 - 1)


class TestRepresentation:
    @pytest.mark.parametrize("dtype", DTYPES.values(), ids=str)
    def test_float64_widens_real_and_complex_numbers_and_nothing_else(self, dtype: DType) -> None:
        wide = {"float": np.dtype(np.float64), "complex": np.dtype(np.complex128)}
        assert FLOAT64.working(dtype) == wide.get(dtype.kind, dtype.numpy)
        assert NATIVE.working(dtype) == dtype.numpy

    @pytest.mark.parametrize("dtype", [d for d in DTYPES.values() if d.is_float and d.bits < 64], ids=str)
    def test_every_small_float_is_exact_in_float64(self, dtype: DType) -> None:
        bits = np.arange(2 ** min(dtype.bits, 16), dtype=np.uint32)
        unsigned = f"u{max(dtype.bits // 8, 1)}"
        narrow = (bits << 16 if dtype.bits == 32 else bits).astype(unsigned).view(dtype.numpy)
        with np.errstate(invalid="ignore"):  # signalling NaNs among them
            back = FLOAT64.embed(narrow, dtype).astype(dtype.numpy)
            nan = np.isnan(narrow.astype(np.float64))
        assert np.array_equal(back.view(unsigned)[~nan], narrow.view(unsigned)[~nan])

    @BOTH
    def test_what_is_stored_is_an_array_even_of_rank_0(self, m: Arithmetic) -> None:
        for dtype in (F32, I64, BOOL, STRING, BF16, I4):
            zero = np.zeros((), dtype.numpy if dtype is not STRING else object)
            stored = m.store(m.load(m.embed(zero, dtype), dtype), dtype)
            assert isinstance(stored, np.ndarray)
            assert (stored.shape, stored.dtype) == ((), m.working(dtype))
        assert isinstance(m.store(m.embed(np.array(2.0), F32) + m.embed(np.array(1.0), F32), F32), np.ndarray)

    @pytest.mark.parametrize("dtype", [F16, BF16, F8E4M3FN, F8E5M2], ids=str)
    def test_native_computes_small_floats_in_f32_within_a_node(self, dtype: DType) -> None:
        x = NATIVE.embed(np.array([0.1, 3.0]), dtype)
        assert x.dtype == dtype.numpy
        loaded = NATIVE.load(x, dtype)
        assert loaded.dtype == np.float32
        assert NATIVE.store(loaded + loaded, dtype).dtype == dtype.numpy
        assert NATIVE.load(NATIVE.embed(1.5, F64), F64).dtype == np.float64

    @BOTH
    @pytest.mark.parametrize(("dtype", "wide"), [(I4, np.int8), (U4, np.uint8)])
    def test_four_bit_integers_compute_in_eight_bits(self, m: Arithmetic, dtype: DType, wide: Any) -> None:
        loaded = m.load(np.array([1, 7]).astype(dtype.numpy), dtype)
        assert loaded.dtype == wide
        assert not m.is_real(loaded)
        assert m.store(loaded * wide(3), dtype).astype(int).tolist() == [3, 5]

    @BOTH
    def test_real_numbers_are_told_from_others(self, m: Arithmetic) -> None:
        for dtype in DTYPES.values():
            if dtype is not STRING:
                assert m.is_real(np.zeros(2, dtype.numpy)) is dtype.is_inexact, dtype
        assert not m.is_real(np.array(["a"]))
        assert m.is_real(1.5)


class TestConstants:
    def test_the_oracle_takes_the_number_as_written_and_native_rounds_it(self) -> None:
        assert float(FLOAT64.constant(0.1, BF16)) == 0.1
        assert float(NATIVE.constant(0.1, BF16)) == float(np.array(0.1).astype(ml_dtypes.bfloat16))
        assert float(NATIVE.constant(1e-5, F16)) == float(np.float16(1e-5))

    @BOTH
    def test_special_values_and_kinds(self, m: Arithmetic) -> None:
        assert math.isnan(m.constant(math.nan, F32))
        assert float(m.constant(-math.inf, BF16)) == -math.inf
        assert math.copysign(1, m.constant(-0.0, F16)) == -1
        assert m.constant(2**64 - 1, U64).tolist() == 2**64 - 1
        assert m.constant(-8, I4).astype(int).tolist() == -8
        assert m.constant(True, BOOL).tolist() is True
        assert m.constant("ä", STRING).tolist() == "ä"
        assert complex(m.constant(1 - 2j, C64)) == 1 - 2j

    @BOTH
    def test_a_number_beyond_its_dtype_is_infinite_without_a_warning(self, m: Arithmetic) -> None:
        with np.errstate(all="ignore"):
            assert float(m.constant(1e30, F16)) == math.inf
            assert float(m.constant(-1e300, F32)) == -math.inf


class TestCasts:
    @BOTH
    @pytest.mark.parametrize(
        ("given", "dtype", "expected"),
        [
            ([1.9, -1.9, 0.5, -0.0], I32, [1, -1, 0, 0]),
            ([300.0, -129.0], U8, [44, 127]),
            ([3e9], I32, [3_000_000_000 - 2**32]),
            ([math.nan, math.inf, -math.inf, 1e30], I64, [-(2**63)] * 4),
            ([math.nan, math.inf, 1e30], I16, [0, 0, 0]),
            ([2.0**63, 2.0**64 - 2048, -1.0, 2.0**64, 5.7], U64, [2**63, 2**64 - 2048, 2**64 - 1, 2**63, 5]),
            ([9223372036854774784.0, -(2.0**63)], I64, [9223372036854774784, -(2**63)]),
            ([0.0, -0.0, math.nan, 1e-45], BOOL, [False, False, True, True]),
        ],
    )
    def test_floats_truncate_and_what_does_not_fit_wraps_as_on_x86(
        self, m: Arithmetic, given: list[float], dtype: DType, expected: list[Any]
    ) -> None:
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            assert m.cast(np.array(given), dtype).tolist() == expected

    @BOTH
    @pytest.mark.parametrize(
        ("given", "dtype", "expected"),
        [
            (np.array([300, -1]), U8, [44, 255]),
            (np.array([8, -9]), I4, [-8, 7]),
            (np.array([True, False]), I64, [1, 0]),
            (np.array([2, 0], np.uint8), BOOL, [True, False]),
            (np.array([True, False]), F32, [1.0, 0.0]),
            (np.array([1 + 2j]), F32, [1.0]),
            (np.array([1 + 2j, 0j, 1j]), BOOL, [True, False, True]),
            (np.array([1.5]), C64, [1.5 + 0j]),
            (np.array([1.5 + 9j]), I64, [1]),
        ],
    )
    def test_between_other_kinds(self, m: Arithmetic, given: Any, dtype: DType, expected: list[Any]) -> None:
        assert m.cast(given, dtype).tolist() == expected

    def test_precision_is_kept_by_the_oracle_and_rounded_by_native(self) -> None:
        x = np.array([0.1])
        for dtype in (F16, BF16, F8E4M3FN, F8E5M2, F32):
            assert FLOAT64.cast(x, dtype)[0] == 0.1
            rounded = NATIVE.cast(x, dtype)
            assert float(rounded[0]) == float(x.astype(dtype.numpy)[0])
            assert rounded.dtype == np.float32

    @BOTH
    def test_numbers_to_text(self, m: Arithmetic) -> None:
        assert m.cast(np.array([1, -2]), STRING).tolist() == ["1", "-2"]
        assert m.cast(np.array([True]), STRING).tolist() == ["True"]


class TestIntegers:
    @given(INT64, INT64)
    def test_division_truncates_toward_zero_and_wraps(self, x: int, y: int) -> None:
        quotient = FLOAT64.divide(np.array([x]), np.array([y]))
        expected = 0 if y == 0 else abs(x) // abs(y) * (1 if (x < 0) == (y < 0) else -1)
        assert int(quotient[0]) == (expected + 2**63) % 2**64 - 2**63

    def test_division_of_unsigned_and_small_ones_keeps_the_width(self) -> None:
        for dtype in (I8, U8, U16, I64, U64):
            x, y = np.array([7, 100, 5], dtype.numpy), np.array([2, 7, 0], dtype.numpy)
            quotient = FLOAT64.divide(x, y)
            assert (quotient.tolist(), quotient.dtype) == ([3, 14, 0], dtype.numpy)

    @given(st.integers(-9, 9), st.integers(-5, 12))
    def test_powers_of_integers_are_integers(self, x: int, y: int) -> None:
        result = FLOAT64.power(np.array([x]), np.array([y]))
        expected = x**y if y >= 0 else {1: 1, -1: 1 if y % 2 == 0 else -1}.get(x, 0)
        assert result.tolist() == [expected]

    @BOTH
    def test_sums_and_products_wrap_in_their_own_width(self, m: Arithmetic) -> None:
        x = np.array([[100, 100], [3, 3]], np.int8)
        assert m.sum(x, 1).tolist() == [-56, 6]
        assert m.prod(x, (1,), keepdims=True).tolist() == [[10000 - 2**8 * 39], [9]]
        assert m.cumsum(x, 1).tolist() == [[100, -56], [3, 6]]
        assert m.cumprod(x, 1).dtype == np.int8
        assert m.sum(x).dtype == np.int8


class TestReductions:
    @BOTH
    def test_extrema_of_nothing_are_the_ends_of_the_type(self, m: Arithmetic) -> None:
        assert m.max(np.zeros((2, 0)), 1).tolist() == [-math.inf] * 2
        assert m.min(np.zeros((2, 0), np.float32), 1).tolist() == [math.inf] * 2
        assert m.max(np.zeros(0, np.int8)).tolist() == -128
        assert m.min(np.zeros(0, np.uint8)).tolist() == 255
        assert m.max(np.zeros(0, np.bool_)).tolist() is False
        assert m.min(np.zeros(0, np.bool_)).tolist() is True
        assert m.max(np.zeros((0, 3)), (1,)).shape == (0,)

    @BOTH
    def test_nan_wins_every_extremum(self, m: Arithmetic) -> None:
        x = np.array([1.0, math.nan, 3.0])
        assert math.isnan(m.max(x))
        assert math.isnan(m.min(x))
        assert np.isnan(m.maximum(x, np.full(3, 9.0))).tolist() == [False, True, False]

    @given(st.lists(st.sampled_from([0.0, 1.0, 2.0, -1.0, math.inf, math.nan]), max_size=8))
    def test_sorting_is_stable_both_ways_with_nan_largest(self, numbers: list[float]) -> None:
        x = np.array(numbers)

        def key(index: int) -> tuple[bool, float]:
            return (math.isnan(numbers[index]), 0.0 if math.isnan(numbers[index]) else numbers[index])

        places = range(len(numbers))
        assert FLOAT64.argsort(x, 0).tolist() == sorted(places, key=key)
        assert FLOAT64.argsort(x, 0, descending=True).tolist() == sorted(places, key=key, reverse=True)


class TestScatter:
    @pytest.mark.parametrize(
        ("reduction", "expected"),
        [
            ("none", [10.0, 4.0, 30.0]),
            ("add", [10.0, 29.0, 30.0]),
            ("mul", [10.0, 20.0 * 2 * 3 * 4, 30.0]),
            ("max", [10.0, 20.0, 30.0]),
            ("min", [10.0, 2.0, 30.0]),
        ],
    )
    def test_updates_of_one_place_are_applied_in_order_to_a_copy(self, reduction: str, expected: list[float]) -> None:
        x = np.array([10.0, 20.0, 30.0])
        result = FLOAT64.scatter(x, (np.array([1, 1, 1]),), np.array([2.0, 3.0, 4.0]), reduction)
        assert result.tolist() == expected
        assert x.tolist() == [10.0, 20.0, 30.0]


class TestFunctions:
    @BOTH
    @pytest.mark.parametrize(
        ("name", "x", "expected"),
        [("sin", 0.5, math.sin), ("erf", 0.5, math.erf), ("erfc", 2.0, math.erfc), ("gammaln", 3.5, math.lgamma)],
    )
    def test_special_functions_come_from_numpy_or_scipy(
        self, m: Arithmetic, name: str, x: float, expected: Any
    ) -> None:
        assert float(m.special(name, np.array(x))) == pytest.approx(expected(x), rel=1e-12)

    def test_einsum_of_any_number_of_arrays(self) -> None:
        a, b, c = np.ones((2, 3)), np.ones((3, 4)), np.ones((4,))
        assert FLOAT64.einsum("ij,jk,k->i", a, b, c).tolist() == [12.0, 12.0]
        assert FLOAT64.einsum("ij->j", a).tolist() == [2.0] * 3

    def test_powers_roots_and_products(self) -> None:
        x = np.array([4.0, 9.0])
        assert FLOAT64.power(x, 0.5).tolist() == [2.0, 3.0]
        assert FLOAT64.sqrt(x).tolist() == [2.0, 3.0]
        assert FLOAT64.special2("arctan2", x, -x).tolist() == [math.atan2(4, -4), math.atan2(9, -9)]
        assert FLOAT64.where(np.array([True, False]), x, 0.0).tolist() == [4.0, 0.0]
        assert FLOAT64.absolute(np.array([-3, 3])).tolist() == [3, 3]
        assert complex(FLOAT64.exp(FLOAT64.embed(np.array(1j * math.pi), C128))) == pytest.approx(-1)

    def test_the_dtype_of_a_comparison_is_bool(self) -> None:
        assert dtype_of(FLOAT64.store(np.float64(1) < np.float64(2), BOOL)) is BOOL
