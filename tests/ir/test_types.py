from __future__ import annotations

import copy
import pickle

import ml_dtypes
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from dragoman.ir.dims import Dim, Symbol, floordiv, parse_dim
from dragoman.ir.errors import Malformed, TypeRuleError
from dragoman.ir.types import (
    BF16,
    BOOL,
    C64,
    DTYPES,
    F8E5M2,
    F32,
    I4,
    I64,
    STRING,
    U4,
    DType,
    TensorType,
    broadcast,
    dtype_of,
    parse_dtype,
    parse_type,
    same_type,
    split_dims,
)
from tests.ir.cost import seconds

N, M = Symbol("n", 1, 64), Symbol("m")
n, m = N.dim, M.dim


class TestElementTypes:
    @pytest.mark.parametrize("dtype", [d for d in DTYPES.values() if d is not STRING], ids=str)
    def test_each_is_found_from_its_numpy_dtype(self, dtype: DType) -> None:
        assert dtype_of(dtype.numpy) is dtype
        assert dtype_of(np.zeros((2,), dtype.numpy)) is dtype
        assert dtype_of(dtype.numpy.type) is dtype
        assert dtype.numpy.itemsize * 8 == max(dtype.bits, 8)

    @pytest.mark.parametrize(
        ("numpy", "expected"),
        [(">f4", F32), ("<i8", I64), ("U5", STRING), ("S3", STRING), (object, STRING), (np.float32, F32)],
    )
    def test_byte_order_and_width_of_text_do_not_matter(self, numpy: object, expected: DType) -> None:
        assert dtype_of(np.dtype(numpy)) is expected  # type: ignore[call-overload]

    @pytest.mark.parametrize("other", ["M8[s]", np.longdouble, np.dtype([("a", "i4")]), np.void(3)])
    def test_what_the_ir_does_not_have_is_refused(self, other: object) -> None:
        with pytest.raises(TypeRuleError, match="is not an element type of the IR; those are bool, i2, i4, i8"):
            dtype_of(other)

    def test_what_is_no_dtype_is_refused(self) -> None:
        with pytest.raises(TypeRuleError, match="neither a NumPy array nor a NumPy dtype"):
            dtype_of("no such thing")

    def test_kinds(self) -> None:
        assert {d.name for d in DTYPES.values() if d.is_float} == {
            *("f4e2m1", "f8e8m0", "f8e4m3fn", "f8e4m3fnuz", "f8e5m2", "f8e5m2fnuz", "f16", "bf16", "f32", "f64")
        }
        assert {d.name for d in DTYPES.values() if d.is_integer} == {
            f"{k}{b}" for k in "iu" for b in (2, 4, 8, 16, 32, 64)
        }
        assert C64.is_inexact
        assert not BOOL.is_integer

    def test_four_bit_integers_are_packed(self) -> None:
        assert (I4.nbytes(3), U4.nbytes(4), BF16.nbytes(3), F8E5M2.nbytes(3), STRING.nbytes(5)) == (2, 2, 6, 3, 0)

    @pytest.mark.parametrize("dtype", DTYPES.values(), ids=str)
    def test_there_is_one_object_for_each(self, dtype: DType) -> None:
        assert parse_dtype(dtype.name) is dtype
        assert copy.deepcopy(dtype) is dtype
        assert pickle.loads(pickle.dumps(dtype)) is dtype

    def test_an_unknown_name_gets_the_list(self) -> None:
        with pytest.raises(Malformed, match=r"'f33' is not an element type; those are bool, .*, string"):
            parse_dtype("f33")


class TestTensorTypes:
    def test_text(self) -> None:
        assert str(TensorType(F32, (n, 3, 2 * m + 1))) == "f32[n,3,2*m + 1]"
        assert str(TensorType(BF16, ())) == "bf16[]"

    def test_extents_become_plain_integers(self) -> None:
        given = TensorType(F32, (np.int64(3), np.uint8(0), True))
        assert given == TensorType(F32, (3, 0, 1))
        assert [type(d) for d in given.shape] == [int, int, int]
        assert hash(given) == hash(TensorType(F32, (3, 0, 1)))

    @pytest.mark.parametrize(
        ("extent", "complaint"),
        [
            (-1, "the extent -1 is negative"),
            (2**63, "is above 2^63 - 1"),
            (1.5, "an extent is an integer or a dimension expression, not 1.5"),
            ("3", "an extent is an integer or a dimension expression, not '3'"),
            (n - 65, "the extent n - 65 is negative for every value"),
        ],
    )
    def test_what_cannot_be_an_extent_is_refused(self, extent: Dim, complaint: str) -> None:
        with pytest.raises(TypeRuleError) as caught:
            TensorType(F32, (extent,))
        assert complaint in str(caught.value)

    def test_size_rank_and_change(self) -> None:
        t = TensorType(F32, (n, 3, 4))
        assert (t.rank, t.size, t.is_static) == (3, 12 * n, False)
        assert t.with_shape([2]).shape == (2,)
        assert t.with_dtype(I64).dtype is I64
        assert t.substitute({"n": 5}) == TensorType(F32, (5, 3, 4))
        assert TensorType(F32, ()).size == 1
        assert TensorType(F32, (0, m)).size == 0
        assert TensorType(F32, (n + m, 3)).symbols() == {"n": N, "m": M}

    def test_the_caller_may_keep_the_symbols(self) -> None:
        t = TensorType(F32, (n,))
        t.symbols().clear()
        assert t.symbols() == {"n": N}

    def test_a_copy_is_equal_and_hashes_alike(self) -> None:
        t = TensorType(F32, (n, floordiv(m, 3)))
        hash(t)
        assert pickle.loads(pickle.dumps(t)) == t
        assert hash(copy.deepcopy(t)) == hash(t)

    def test_same_type_sees_through_the_form(self) -> None:
        left = TensorType(F32, (floordiv(m, 2) + floordiv(m + 1, 2),))
        assert same_type(left, TensorType(F32, (m,)))
        assert not same_type(left, TensorType(I64, (m,)))
        assert not same_type(left, TensorType(F32, (m, 1)))


class TestBroadcast:
    @pytest.mark.parametrize(
        ("shapes", "result"),
        [
            ((), ()),
            (((),), ()),
            (((2, 3), (3,)), (2, 3)),
            (((4, 1, 3), (2, 1)), (4, 2, 3)),
            (((0,), (1,)), (0,)),
            (((n, 1), (m,)), (n, m)),
            (((n,), (1,), (n,)), (n,)),
            (((2 * n,), (n + n,)), (2 * n,)),
        ],
    )
    def test_follows_numpy(self, shapes: tuple[tuple[Dim, ...], ...], result: tuple[Dim, ...]) -> None:
        assert broadcast(*shapes) == result

    @given(st.lists(st.lists(st.sampled_from([0, 1, 2, 3]), max_size=3).map(tuple), max_size=3))
    def test_agrees_with_numpy_on_numbers(self, shapes: list[tuple[int, ...]]) -> None:
        try:
            expected = np.broadcast_shapes(*shapes)
        except ValueError:
            with pytest.raises(TypeRuleError):
                broadcast(*shapes)
            return
        assert broadcast(*shapes) == expected

    @pytest.mark.parametrize(
        ("shapes", "complaint"),
        [
            (((2,), (3,)), r"\[2\] and \[3\] do not broadcast: 2 against 3"),
            (((n,), (3,)), r"\[n\] and \[3\] do not broadcast: n against 3"),
            (((2, n), (2, m)), r"\[2,n\] and \[2,m\] do not broadcast: n against m"),
            (((n,), (Symbol("n").dim,)), r"n against n \(one name with two ranges\)"),
        ],
    )
    def test_a_stretch_that_is_not_certain_is_refused(
        self, shapes: tuple[tuple[Dim, ...], ...], complaint: str
    ) -> None:
        with pytest.raises(TypeRuleError, match=complaint):
            broadcast(*shapes)


class TestReading:
    @pytest.mark.parametrize(
        "text", ["f32[]", "bf16[n,3]", "i4[2*n + 1,floordiv(m, 2)]", "string[max(3, m)]", "bool[0,1]", "f8e4m3fn[7]"]
    )
    def test_text_reads_back(self, text: str) -> None:
        assert str(parse_type(text, {"n": N, "m": M})) == text

    def test_known_symbols_keep_their_ranges(self) -> None:
        assert parse_type(" f32 [ n , k ] ", {"n": N}).shape == (n, Symbol("k").dim)

    @pytest.mark.parametrize(
        ("text", "complaint"),
        [
            ("", "is not a type: write dtype"),
            ("f32", "is not a type: write dtype"),
            ("f32[2", "is not a type: write dtype"),
            ("f32[2]x", "is not a type: write dtype"),
            ("f99[2]", "'f99' is not an element type"),
            ("f32[2,]", "lacks an operand"),
            ("f32[,]", "lacks an operand"),
            ("f32[-1]", "the extent -1 is negative"),
            ("f32[0 - n]", "is negative for every value"),
            ("f32[18446744073709551616]", "a number of 20 digits"),
            ("f32[2.5]", r"has '\.' at column 2"),
            ("x" * 10_000, "is not a type"),
            ("x" * 10_000 + "[]", "is not an element type"),
            ("f32[" + "] " * 100_000 + "x", "is not a type"),
        ],
    )
    def test_malformed_text_is_refused_quickly_and_briefly(self, text: str, complaint: str) -> None:
        caught: list[Malformed] = []

        def refused() -> None:
            with pytest.raises(Malformed, match=complaint) as found:
                parse_type(text)
            caught.append(found.value)

        assert seconds(refused) < 2
        assert len(str(caught[0])) < 300

    def test_commas_within_calls_do_not_split(self) -> None:
        assert [d.strip() for d in split_dims("a, max(b, min(c, 2)),3")] == ["a", "max(b, min(c, 2))", "3"]
        assert parse_type("f32[max(n, m),2]").shape == (parse_dim("max(n, m)"), 2)


def test_small_floats_come_from_ml_dtypes() -> None:
    assert BF16.numpy == np.dtype(ml_dtypes.bfloat16)
