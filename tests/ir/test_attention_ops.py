"""Attention under every kind of mask, whole and decomposed, and rotary embedding; torch in double is the witness."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest

from dragoman.ir.arithmetic import Arithmetic
from dragoman.ir.field import FIELD, FieldArray
from tests.ir.one_op import apply, infer, refusal
from tests.ir.spelled import both

torch = pytest.importorskip("torch")
attend = torch.nn.functional.scaled_dot_product_attention

RANDOM = np.random.default_rng(5)
INF = math.inf


def normal(*shape: int) -> Any:
    return RANDOM.standard_normal(shape)


def attention(*arrays: Any, **attributes: Any) -> list[Any]:
    """attention as it is and as its decomposition."""
    return [result for (result,) in both("attention", *arrays, **attributes)]


def same(ours: list[Any], witness: Any) -> None:
    for result in ours:
        np.testing.assert_allclose(result, witness.numpy(), rtol=1e-12, atol=1e-12)


def torch_attention(query: Any, key: Any, value: Any, mask: Any = None, **options: Any) -> Any:
    given = [None if a is None else torch.from_numpy(np.ascontiguousarray(a)) for a in (query, key, value, mask)]
    if given[3] is not None:
        given[3] = torch.atleast_2d(given[3])
    return attend(*given[:3], attn_mask=given[3], **options)


QKV = ((2, 3, 5, 4), (2, 3, 6, 4), (2, 3, 6, 7))
EMPTY = np.array([[True, False, True, True, False, True]] + [[False] * 6] * 2 + [[False, True] * 3] * 2)

MASKS = {
    "none": None,
    "bool for each pair": RANDOM.random((2, 3, 5, 6)) < 0.7,
    "bool of padded keys": np.arange(6) < np.array([4, 6])[:, None, None, None],
    "bool with empty rows": EMPTY,
    "a whole sequence padded": np.array([True, False])[:, None, None, None] & np.ones((1, 1, 1, 6), bool),
    "one bool that forbids all": np.array(False),
    "added": RANDOM.standard_normal((3, 5, 6)),
    "added -inf with empty rows": np.where(EMPTY, 0.5, -INF),
    "added lowest float": np.where(EMPTY, 0.0, float(np.finfo(np.float32).min)),
}


@pytest.mark.parametrize("name", MASKS)
def test_attention_under_each_kind_of_mask_is_what_torch_computes(name: str) -> None:
    query, key, value = (normal(*s) for s in QKV)
    mask = MASKS[name]
    arrays = (query, key, value) if mask is None else (query, key, value, mask)
    ours = attention(*arrays)
    same(ours, torch_attention(*arrays))
    assert np.isfinite(ours[0]).all()


def test_rows_with_nothing_to_attend_to_are_zero_or_nan_as_asked() -> None:
    arrays = (*(normal(*s) for s in QKV), EMPTY)
    for result in attention(*arrays):
        assert not result[..., 1:3, :].any()
        assert result[..., [0, 3, 4], :].all()
    for result in attention(*arrays, empty_rows="nan"):
        assert np.isnan(result[..., 1:3, :]).all()
        assert np.isfinite(result[..., [0, 3, 4], :]).all()


@pytest.mark.parametrize("name", ["none", "bool with empty rows", "added -inf with empty rows"])
@pytest.mark.parametrize("where", ["query", "masked key", "seen key", "value", "infinite masked key"])
def test_a_genuine_nan_survives_wherever_it_survives_in_torch(name: str, where: str) -> None:
    query, key, value = (normal(1, 1, *s[-2:]) for s in QKV)
    query[..., 0] = np.abs(query[..., 0])  # an infinite key makes scores +∞, which lead to NaN, not −∞, which do not
    if where == "query":
        query[0, 0, 1] = np.nan  # also a row with nothing to attend to
    elif where == "value":
        value[0, 0, 1, 0] = np.nan
    else:
        key[0, 0, 1 if "masked" in where else 0, 0] = INF if "infinite" in where else np.nan
    arrays = (query, key, value) if name == "none" else (query, key, value, MASKS[name])
    ours = attention(*arrays)
    with torch.nn.attention.sdpa_kernel(torch.nn.attention.SDPBackend.MATH):
        witness = torch_attention(*arrays)
    assert np.isnan(witness.numpy()).any()
    same(ours, witness)


@pytest.mark.parametrize(("length", "extent"), [(5, 5), (3, 6), (6, 3), (1, 4)])
def test_the_causal_mask_is_aligned_at_the_first_query_and_key(length: int, extent: int) -> None:
    query, key, value = normal(2, length, 4), normal(2, extent, 4), normal(2, extent, 3)
    same(attention(query, key, value, causal=True), torch_attention(query, key, value, is_causal=True))


@pytest.mark.parametrize("name", ["bool for each pair", "bool with empty rows", "added -inf with empty rows", "added"])
def test_causal_and_another_mask_forbid_what_either_forbids(name: str) -> None:
    query, key, value = (normal(*s) for s in QKV)
    mask, seen = MASKS[name], np.tril(np.ones((5, 6), bool))
    joint = mask & seen if mask.dtype == bool else mask + np.where(seen, 0, -INF)
    same(attention(query, key, value, mask, causal=True), torch_attention(query, key, value, joint))


@pytest.mark.parametrize("key_heads", [1, 2, 4, 8])
def test_groups_of_query_heads_share_a_key_head_in_blocks(key_heads: int) -> None:
    query, key, value = normal(2, 8, 5, 4), normal(2, key_heads, 6, 4), normal(2, key_heads, 6, 3)
    same(attention(query, key, value, causal=True), torch_attention(query, key, value, is_causal=True, enable_gqa=True))


def test_scale_and_soft_cap_are_applied_before_the_mask() -> None:
    query, key, value, mask = normal(2, 5, 4) * 3, normal(2, 6, 4), normal(2, 6, 3), normal(5, 6)
    scores = 2.0 * np.tanh(0.3 * query @ key.swapaxes(-1, -2) / 2.0) + mask
    weights = np.exp(scores) / np.exp(scores).sum(-1, keepdims=True)
    for result in attention(query, key, value, mask, scale=0.3, softcap=2.0):
        np.testing.assert_allclose(result, weights @ value, rtol=1e-12)


def test_scores_too_large_for_exp_do_not_overflow_and_masked_ones_do_not_hide_the_rest() -> None:
    query, key, value = np.full((1, 1, 2), 100.0), np.array([[[100.0, 100.0], [1.0, 1.0], [0.9, 1.0]]]), normal(1, 3, 2)
    same(attention(query, key, value), torch_attention(query, key, value))
    mask = np.array([[False, True, True]])
    same(attention(query, key, value, mask), torch_attention(query, key, value, mask))


def test_long_sequences_are_evaluated_in_parts_with_the_same_result() -> None:
    query, key, value = normal(1, 2, 1500, 4), normal(1, 2, 1700, 4), normal(1, 2, 1700, 3)
    mask = RANDOM.random((1500, 1700)) < 0.01
    ours = apply("attention", query, key, value, mask, causal=True)
    joint = mask & np.tril(np.ones(mask.shape, bool))
    np.testing.assert_allclose(ours, torch_attention(query, key, value, joint).numpy(), rtol=1e-11, atol=1e-12)


def test_masked_attention_has_a_meaning_in_the_exact_field() -> None:
    query, key, value = (normal(1, 2, *s[-2:]) for s in QKV)

    def exact(*arrays: Any, m: Arithmetic = FIELD) -> Any:
        result = apply("attention", *arrays, arithmetic=m)
        assert isinstance(result, FieldArray)
        return result.levels[0]

    masked = exact(query, key, value, EMPTY)
    assert not masked[..., 1:3, :].any()
    # A row that sees keys 0, 2, 3 and 5 is the attention over those keys alone.
    kept = [0, 2, 3, 5]
    np.testing.assert_array_equal(masked[..., :1, :], exact(query[..., :1, :], key[..., kept, :], value[..., kept, :]))


@pytest.mark.parametrize(("length", "extent"), [(1, 8), (6, 9), (17, 11)])
@pytest.mark.parametrize("causal", [False, True])
def test_one_decomposition_serves_every_length(length: int, extent: int, causal: bool) -> None:
    query, key, value = normal(2, 4, length, 8), normal(2, 2, extent, 8), normal(2, 2, extent, 3)
    mask = RANDOM.random((2, 1, 1, extent)) < 0.6
    types = ("f64[b,4,s,8]", "f64[b,2,h,8]", "f64[b,2,h,3]", "bool[b,1,1,h]")
    (whole,), (spelled,) = both("attention", query, key, value, mask, types=types, causal=causal)
    np.testing.assert_allclose(spelled, whole, rtol=1e-12)
    joint = mask & np.tril(np.ones((length, extent), bool)) if causal else mask
    np.testing.assert_allclose(whole, torch_attention(query, key, value, joint, enable_gqa=True).numpy(), rtol=1e-11)


def test_attention_keeps_symbolic_lengths() -> None:
    qkv = ("f32[b,12,s,64]", "f32[b,4,h,64]", "f32[b,4,h,32]")
    for mask in (None, "bool[b,1,1,h]", "bool[b,1,s,h]", "f32[1,1,s,h]", "f32[b,12,s,h]"):
        for causal in (False, True):
            assert infer("attention", *qkv, mask, causal=causal) == "f32[b,12,s,32]"


@pytest.mark.parametrize(
    ("operands", "message"),
    [
        (("f32[2,3,4]", "f32[2,5,3]", "f32[2,5,3]"), "query depth 4 is not key depth 3"),
        (("f32[2,3,4]", "f32[2,5,4]", "f32[2,6,4]"), "key length 5 is not value length 6"),
        (("f32[6,3,4]", "f32[4,5,4]", "f32[4,5,4]"), "4 key heads do not divide 6 heads"),
        (("f32[2,3,4]", "f32[2,5,4]", "f32[2,5,4]", "bool[3,4]"), "do not broadcast"),
        (("f32[2,3,4]", "f32[2,5,4]", "f32[2,5,4]", "f32[3,2,3,5]"), "does not broadcast to [2,3,5]"),
        (("f32[2,3,4]", "f32[2,5,4]", "f32[2,5,4]", "i64[3,5]"), "the mask is i64, neither bool nor f32"),
        (("f32[2,3,4]", "f16[2,5,4]", "f32[2,5,4]"), "insert a cast"),
    ],
)
def test_attention_that_cannot_be_is_refused_with_the_reason(operands: Any, message: str) -> None:
    assert message in refusal("attention", *operands)


# ---- rotary embedding -----------------------------------------------------------------------------------------


def turned(x: Any, angles: Any, interleaved: bool) -> Any:
    """Each pair of features as a complex number, times e^(i·angle)."""
    half = x.shape[-1] // 2
    pairs = x[..., 0::2] + 1j * x[..., 1::2] if interleaved else x[..., :half] + 1j * x[..., half:]
    pairs = pairs * np.exp(1j * angles)
    parts = [pairs.real, pairs.imag]
    return np.stack(parts, -1).reshape(x.shape) if interleaved else np.concatenate(parts, -1)


@pytest.mark.parametrize("interleaved", [False, True])
@pytest.mark.parametrize("full", [False, True])
def test_rotary_embedding_multiplies_complex_numbers(interleaved: bool, full: bool) -> None:
    x, angles = normal(2, 3, 5, 8), normal(5, 4)
    given = angles
    if full:
        given = np.repeat(angles, 2, -1) if interleaved else np.concatenate([angles, angles], -1)
    arrays = (x, np.cos(given), np.sin(given))
    expected = turned(x, angles, interleaved)
    for (ours,) in both("rotary_embedding", *arrays, interleaved=interleaved):
        np.testing.assert_allclose(ours, expected, rtol=1e-12)


def test_rotary_embedding_keeps_symbolic_lengths_and_refuses_an_odd_depth() -> None:
    for interleaved in (False, True):
        for angles in ("f32[s,32]", "f32[b,1,s,64]"):
            operands = ("f32[b,12,s,64]", angles, angles)
            assert infer("rotary_embedding", *operands, interleaved=interleaved) == "f32[b,12,s,64]"
    assert "the depth 7 is odd" in refusal("rotary_embedding", "f32[3,7]", "f32[3,3]", "f32[3,3]")
    assert "angles of extent 2 for depth 8" in refusal("rotary_embedding", "f32[3,8]", "f32[3,2]", "f32[3,2]")
