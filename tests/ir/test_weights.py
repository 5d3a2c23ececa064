from __future__ import annotations

import os
import resource
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from dragoman.ir.dims import Symbol
from dragoman.ir.errors import Malformed, TypeRuleError, UnsafeInput, UsageError
from dragoman.ir.types import BF16, BOOL, DTYPES, F8E8M0, F32, I4, I64, STRING, U4, DType, TensorType
from dragoman.ir.weights import (
    AbsentWeight,
    Array,
    ArrayWeight,
    ComputedWeight,
    FileWeight,
    FrameworkWeight,
    Weight,
    fingerprint,
    pack_small,
    unpack_small,
    weight_type,
)

NUMBERS = [d for d in DTYPES.values() if d is not STRING]


def values(dtype: DType, shape: tuple[int, ...] = (2, 3, 5)) -> Array:
    count = int(np.prod(shape))
    first = dtype is F8E8M0  # which has no zero
    return (np.arange(count) % 7 + first).astype(np.float32).astype(dtype.numpy).reshape(shape)


def stored(array: Array, dtype: DType, folder: Path, lead: int = 0) -> FileWeight:
    raw = pack_small(array) if 0 < dtype.bits < 8 else array
    path = folder / "weights.bin"
    path.write_bytes(b"\xff" * lead + raw.tobytes())
    return FileWeight(path, lead, dtype, array.shape)


def never() -> Array:
    raise AssertionError("asking for the shape read the weight")


class TestNoInput:
    @pytest.mark.parametrize(
        "weight",
        [
            FileWeight(Path("/nowhere/at/all"), 1 << 50, F32, (1 << 20, 1 << 10)),
            FrameworkWeight(F32, (1 << 20, 1 << 10), never),
            ComputedWeight(F32, (1 << 20, 1 << 10), never),
            AbsentWeight(F32, (1 << 20, 1 << 10)),
        ],
        ids=lambda w: type(w).__name__,
    )
    def test_dtype_shape_and_size_are_known_without_reading(self, weight: Weight) -> None:
        assert (weight.dtype, weight.shape, weight.nbytes) == (F32, (1 << 20, 1 << 10), 1 << 32)
        assert weight_type(weight) == TensorType(F32, (1 << 20, 1 << 10))
        assert isinstance(weight, Weight)

    def test_mapping_a_file_does_not_read_it(self, tmp_path: Path) -> None:
        path = tmp_path / "sparse"
        with path.open("wb") as file:
            file.truncate(1 << 34)
        before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        mapped = FileWeight(path, 0, F32, (1 << 32,)).array()
        assert (mapped[0], mapped[-1], mapped.size) == (0, 0, 1 << 32)
        assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 64 << 10


class TestFiles:
    @pytest.mark.parametrize("dtype", NUMBERS, ids=str)
    @pytest.mark.parametrize("lead", [0, 3, 4096 + 1])
    def test_every_dtype_reads_back_at_any_offset(self, dtype: DType, lead: int, tmp_path: Path) -> None:
        expected = values(dtype)
        found = stored(expected, dtype, tmp_path, lead).array()
        assert found.dtype == dtype.numpy
        np.testing.assert_array_equal(found, expected)

    @pytest.mark.parametrize("shape", [(), (0,), (2, 0, 3), (1,)])
    def test_scalars_and_empty_weights(self, shape: tuple[int, ...], tmp_path: Path) -> None:
        found = stored(values(F32, shape), F32, tmp_path).array()
        assert found.shape == shape

    def test_the_view_is_read_only_and_outlives_the_weight(self, tmp_path: Path) -> None:
        array = stored(values(F32), F32, tmp_path).array()
        assert type(array) is np.ndarray
        with pytest.raises(ValueError, match="read-only"):
            array[0] = 1
        assert array[1, 2, 4] == values(F32)[1, 2, 4]

    def test_any_byte_but_zero_is_true(self, tmp_path: Path) -> None:
        (tmp_path / "b").write_bytes(bytes([0, 1, 2, 255]))
        found = FileWeight(tmp_path / "b", 0, BOOL, (4,)).array()
        assert found.view(np.uint8).tolist() == [0, 1, 1, 1]

    @pytest.mark.parametrize(("offset", "count"), [(0, 5), (13, 1), (1 << 62, 1)])
    def test_a_file_too_short_is_malformed(self, offset: int, count: int, tmp_path: Path) -> None:
        (tmp_path / "w").write_bytes(bytes(16))
        with pytest.raises(Malformed, match="w has 16 bytes, too few for a weight of"):
            FileWeight(tmp_path / "w", offset, F32, (count,)).array()

    def test_what_is_not_a_regular_file_is_unsafe_and_never_waited_for(self, tmp_path: Path) -> None:
        os.mkfifo(tmp_path / "pipe")
        for path in (tmp_path / "pipe", Path("/dev/zero"), tmp_path):
            with pytest.raises(UnsafeInput, match="is not a regular file"):
                FileWeight(path, 0, F32, (4,)).array()

    def test_a_missing_file_is_named(self, tmp_path: Path) -> None:
        with pytest.raises(UsageError, match="gone cannot be read: No such file"):
            FileWeight(tmp_path / "gone", 0, F32, (1,)).array()

    def test_impossible_ranges_and_strings_are_refused_at_once(self) -> None:
        with pytest.raises(Malformed, match="offset -1"):
            FileWeight(Path("w"), -1, F32, (1,))
        with pytest.raises(Malformed, match=r"shape \[-1\]"):
            FileWeight(Path("w"), 0, F32, (-1,))
        with pytest.raises(Malformed, match="strings have no fixed width"):
            FileWeight(Path("w"), 0, STRING, (1,))

    def test_no_file_stays_open(self, tmp_path: Path) -> None:
        weight = stored(values(F32), F32, tmp_path)
        before = len(os.listdir("/proc/self/fd"))  # noqa: PTH208
        for _ in range(50):
            weight.array()
        assert len(os.listdir("/proc/self/fd")) <= before + 1  # noqa: PTH208


class TestArrays:
    def test_an_array_is_not_copied(self) -> None:
        array = values(F32)
        assert ArrayWeight(array).array() is array

    def test_foreign_byte_order_becomes_native(self) -> None:
        weight = ArrayWeight(np.array([1.5, 2], ">f4"))
        assert weight.dtype is F32
        assert weight.array().dtype.isnative
        assert weight.array().tolist() == [1.5, 2]

    def test_a_numpy_scalar_is_an_array_of_rank_0(self) -> None:
        weight = ArrayWeight(np.float32(3))  # type: ignore[arg-type]
        assert isinstance(weight.array(), np.ndarray)
        assert (weight.shape, weight.nbytes) == ((), 4)

    def test_size_counts_four_bit_integers_as_packed(self) -> None:
        assert ArrayWeight(values(I4, (3,))).nbytes == 2

    def test_a_symbolic_shape_is_no_weight(self) -> None:
        with pytest.raises(TypeRuleError):
            weight_type(AbsentWeight(F32, (Symbol("n").dim * -1 - 1,)))  # type: ignore[arg-type]


@pytest.mark.parametrize("kind", [FrameworkWeight, ComputedWeight])
class TestCallables:
    Kind = Callable[[DType, tuple[int, ...], Callable[[], Array]], Weight]

    def test_each_request_calls_once_and_nothing_is_kept(self, kind: Kind) -> None:
        made: list[Array] = []

        def make() -> Array:
            made.append(values(F32))
            return made[-1]

        weight = kind(F32, (2, 3, 5), make)
        assert made == []
        assert weight.array() is made[0]
        assert weight.array() is made[1]

    def test_another_type_than_declared_is_malformed(self, kind: Kind) -> None:
        with pytest.raises(Malformed, match=r"is f32\[2, 3, 5\], declared f32\[30\]"):
            kind(F32, (30,), lambda: values(F32)).array()
        with pytest.raises(Malformed, match=r"is f32\[2, 3, 5\], declared i64\[2, 3, 5\]"):
            kind(I64, (2, 3, 5), lambda: values(F32)).array()


def test_an_absent_weight_says_how_to_get_it() -> None:
    with pytest.raises(Malformed, match=r"'encoder\.w' was read from text without values; pass weights="):
        AbsentWeight(F32, (2,), "encoder.w").array()


class TestNibbles:
    @given(st.lists(st.integers(-8, 7), max_size=9))
    def test_signed_ones_survive_packing(self, numbers: list[int]) -> None:
        packed = pack_small(np.array(numbers, np.int8).astype(I4.numpy))
        assert packed.size == (len(numbers) + 1) // 2
        assert unpack_small(packed, len(numbers), I4).astype(int).tolist() == numbers

    @given(st.lists(st.integers(0, 15), max_size=9))
    def test_unsigned_ones_survive_packing(self, numbers: list[int]) -> None:
        packed = pack_small(np.array(numbers, np.uint8).astype(U4.numpy))
        assert unpack_small(packed, len(numbers), U4).astype(int).tolist() == numbers

    def test_the_low_nibble_comes_first(self) -> None:
        assert pack_small(np.array([1, 2, -1], np.int8).astype(I4.numpy)).tolist() == [0x21, 0x0F]


class TestFingerprint:
    @pytest.mark.parametrize("dtype", NUMBERS, ids=str)
    def test_is_the_same_for_every_kind_of_weight(self, dtype: DType, tmp_path: Path) -> None:
        array = values(dtype)
        one_by_one = values(dtype, (5, 3, 2))
        kinds: list[Weight] = [
            ArrayWeight(array),
            ArrayWeight(np.asfortranarray(array)),
            ArrayWeight(np.repeat(array, 2, axis=0)[::2]),
            stored(array, dtype, tmp_path, 7),
            FrameworkWeight(dtype, array.shape, lambda: array),
            ComputedWeight(dtype, [2, 3, 5], lambda: array),  # type: ignore[arg-type]
        ]
        assert len({fingerprint(w) for w in kinds}) == 1
        assert fingerprint(ArrayWeight(one_by_one)) != fingerprint(kinds[0])

    def test_foreign_byte_order_does_not_matter(self) -> None:
        assert fingerprint(FrameworkWeight(F32, (2,), lambda: np.array([1, 2], ">f4"))) == fingerprint(
            ArrayWeight(np.array([1, 2], "<f4"))
        )

    def test_four_bit_values_are_hashed_not_their_spare_bits(self) -> None:
        plain = np.array([7, -8, -2], np.int8).astype(I4.numpy)
        cluttered = (plain.view(np.uint8) | 0x50).view(I4.numpy)
        assert cluttered.tolist() == plain.tolist()
        assert fingerprint(ArrayWeight(cluttered)) == fingerprint(ArrayWeight(plain))

    def test_one_element_dtype_or_shape_makes_another(self) -> None:
        base = values(F32, (4,))
        changed = base.copy()
        changed[3] = np.nextafter(changed[3], np.float32(9))
        signed_zero = base.copy()
        signed_zero[0] = -0.0
        others = [changed, signed_zero, base.reshape(2, 2), base.view(np.int32), values(BF16, (4,))]
        assert len({fingerprint(ArrayWeight(a)) for a in [base, *others]}) == 6

    def test_text_is_hashed_with_its_boundaries(self) -> None:
        prints = [
            fingerprint(ArrayWeight(np.array(a, dtype=object))) for a in (["ab", "c"], ["a", "bc"], ["ab", "\ud800"])
        ]
        assert len(set(prints)) == 3
        assert fingerprint(ArrayWeight(np.array(["ab", "c"]))) == prints[0]

    def test_pieces_join_without_a_seam(self, monkeypatch: pytest.MonkeyPatch) -> None:
        array = np.arange(1000, dtype=np.int16)
        whole = fingerprint(ArrayWeight(array))
        monkeypatch.setattr("dragoman.ir.weights._PIECE", 64)
        assert fingerprint(ArrayWeight(array)) == whole
        assert fingerprint(ArrayWeight(np.asfortranarray(array.reshape(20, 50)).reshape(20, 50))) == fingerprint(
            ArrayWeight(array.reshape(20, 50))
        )
