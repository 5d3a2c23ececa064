"""Convolution, pooling and products against torch in double precision, in the exact field, on symbolic extents."""

from __future__ import annotations

import itertools
from typing import Any

import numpy as np
import pytest

from dragoman.ir.field import FIELD, embed
from dragoman.ir.ops.conv import CHANNELS_FIRST, CHANNELS_LAST
from tests.ir.one_op import apply, infer, refusal
from tests.ir.spelled import both

torch = pytest.importorskip("torch")
F = torch.nn.functional

RANDOM = np.random.default_rng(11)
CONV = {1: F.conv1d, 2: F.conv2d, 3: F.conv3d}
CONV_TRANSPOSE = {1: F.conv_transpose1d, 2: F.conv_transpose2d, 3: F.conv_transpose3d}
MAX_POOL = {1: F.max_pool1d, 2: F.max_pool2d, 3: F.max_pool3d}
AVG_POOL = {1: F.avg_pool1d, 2: F.avg_pool2d, 3: F.avg_pool3d}
ADAPTIVE_AVG = {1: F.adaptive_avg_pool1d, 2: F.adaptive_avg_pool2d, 3: F.adaptive_avg_pool3d}
ADAPTIVE_MAX = {1: F.adaptive_max_pool1d, 2: F.adaptive_max_pool2d, 3: F.adaptive_max_pool3d}


def normal(*shape: int) -> Any:
    return RANDOM.standard_normal(shape)


def tensor(x: Any) -> Any:
    return torch.from_numpy(np.ascontiguousarray(x))


def close(ours: Any, witness: Any) -> None:
    expected = witness.numpy()
    assert ours.shape == expected.shape
    np.testing.assert_allclose(ours, expected, rtol=1e-12, atol=1e-12)


def last(x: Any) -> Any:
    """Channels moved from axis 1 to the end."""
    return np.moveaxis(x, 1, -1)


# ---- convolution ----------------------------------------------------------------------------------------------

# x, w, bias, strides, padding, dilations, groups
CONVS = [
    ((2, 3, 9), (4, 3, 3), True, (1,), ((0, 0),), (1,), 1),
    ((2, 4, 12), (6, 2, 4), False, (3,), ((2, 1),), (2,), 2),
    ((2, 3, 8, 7), (5, 3, 3, 3), True, (1, 1), ((1, 1), (1, 1)), (1, 1), 1),
    ((2, 3, 8, 7), (5, 3, 2, 4), True, (2, 1), ((0, 1), (2, 1)), (1, 1), 1),
    ((2, 3, 9, 9), (4, 3, 3, 3), False, (2, 2), ((2, 2), (2, 2)), (2, 3), 1),
    ((2, 6, 5, 6), (9, 2, 3, 1), True, (1, 2), ((1, 0), (0, 0)), (1, 1), 3),
    ((2, 4, 7, 6), (4, 1, 5, 3), True, (1, 1), ((2, 2), (1, 1)), (1, 1), 4),
    ((2, 4, 7, 6), (12, 1, 3, 3), False, (2, 1), ((1, 2), (0, 1)), (1, 2), 4),
    ((3, 5, 4, 4), (7, 5, 1, 1), True, (2, 2), ((0, 0), (0, 0)), (1, 1), 1),
    ((1, 2, 5, 6, 4), (4, 1, 2, 3, 2), True, (1, 2, 1), ((0, 1), (1, 1), (0, 0)), (2, 1, 1), 2),
    ((1, 1, 3, 3), (1, 1, 3, 3), True, (1, 1), ((0, 0), (0, 0)), (1, 1), 1),
]


def torch_padded(x: Any, padding: Any) -> Any:
    """Zeros around the spatial axes; F.pad counts axes from the last."""
    return F.pad(tensor(x), [n for pair in reversed(padding) for n in pair])


@pytest.mark.parametrize("layout", [CHANNELS_FIRST, CHANNELS_LAST])
@pytest.mark.parametrize(("x", "w", "biased", "strides", "padding", "dilations", "groups"), CONVS)
def test_a_convolution_is_what_torch_computes(
    x: Any, w: Any, biased: bool, strides: Any, padding: Any, dilations: Any, groups: int, layout: str
) -> None:
    x, w, bias = normal(*x), normal(*w), normal(w[0]) if biased else None
    witness = CONV[x.ndim - 2](
        torch_padded(x, padding),
        tensor(w),
        None if bias is None else tensor(bias),
        stride=strides,
        dilation=dilations,
        groups=groups,
    )
    given = x if layout == CHANNELS_FIRST else last(x)
    ours = apply(
        "conv",
        given,
        w,
        bias,
        strides=strides,
        padding=padding,
        dilations=dilations,
        groups=groups,
        layout=layout,
    )
    close(ours if layout == CHANNELS_FIRST else np.moveaxis(ours, -1, 1), witness)


def test_a_batch_that_is_unfolded_in_parts_gives_what_it_gives_whole() -> None:
    x, w = normal(3, 40, 60, 50), normal(8, 40, 5, 5)  # 40·25·56·46 elements an image: each goes alone
    attributes = {"strides": (1, 1), "padding": ((0, 0), (0, 0)), "dilations": (1, 1)}
    close(apply("conv", x, w, None, **attributes), F.conv2d(tensor(x), tensor(w)))


@pytest.mark.parametrize(("x", "w", "biased", "strides", "padding", "dilations", "groups"), CONVS)
def test_a_convolution_in_the_exact_field_is_exact(
    x: Any, w: Any, biased: bool, strides: Any, padding: Any, dilations: Any, groups: int
) -> None:
    x, w, bias = (RANDOM.integers(-99, 99, s).astype(float) for s in (x, w, (w[0],)))
    attributes = {"strides": strides, "padding": padding, "dilations": dilations, "groups": groups}
    exact = apply("conv", x, w, bias, arithmetic=FIELD, **attributes)
    np.testing.assert_array_equal(exact.levels[0], embed(apply("conv", x, w, bias, **attributes)).levels[0])


CONV_TRANSPOSES = [
    ((2, 3, 5), (3, 4, 3), True, (2,), ((1, 1),), (1,), (1,), 1),
    ((2, 3, 4, 5), (3, 2, 2, 2), True, (2, 2), ((0, 0), (0, 0)), (0, 0), (1, 1), 1),
    ((2, 4, 4, 5), (4, 3, 3, 4), False, (3, 2), ((1, 1), (2, 2)), (2, 1), (1, 1), 2),
    ((1, 4, 3, 3), (4, 1, 3, 3), True, (2, 1), ((1, 1), (1, 1)), (1, 0), (2, 3), 4),
    ((1, 2, 6, 6), (2, 3, 2, 1), True, (1, 1), ((2, 2), (1, 1)), (0, 0), (1, 1), 1),
    ((1, 2, 2, 3, 2), (2, 3, 2, 3, 2), True, (2, 1, 3), ((0, 0), (1, 1), (0, 0)), (1, 0, 2), (1, 1, 1), 1),
]


@pytest.mark.parametrize("layout", [CHANNELS_FIRST, CHANNELS_LAST])
@pytest.mark.parametrize(("x", "w", "biased", "strides", "padding", "extra", "dilations", "groups"), CONV_TRANSPOSES)
def test_a_transposed_convolution_is_what_torch_computes(
    x: Any, w: Any, biased: bool, strides: Any, padding: Any, extra: Any, dilations: Any, groups: int, layout: str
) -> None:
    x, w, bias = normal(*x), normal(*w), normal(w[1] * groups) if biased else None
    witness = CONV_TRANSPOSE[x.ndim - 2](
        tensor(x),
        tensor(w),
        None if bias is None else tensor(bias),
        stride=strides,
        padding=tuple(p for p, _ in padding),
        output_padding=extra,
        groups=groups,
        dilation=dilations,
    )
    ours = apply(
        "conv_transpose",
        x if layout == CHANNELS_FIRST else last(x),
        w,
        bias,
        strides=strides,
        padding=padding,
        output_padding=extra,
        dilations=dilations,
        groups=groups,
        layout=layout,
    )
    close(ours if layout == CHANNELS_FIRST else np.moveaxis(ours, -1, 1), witness)


def test_uneven_padding_of_a_transposed_convolution_cuts_its_result() -> None:
    x, w = normal(1, 2, 5), normal(2, 3, 4)
    attributes = {"strides": (2,), "output_padding": (0,), "dilations": (1,)}
    whole = apply("conv_transpose", x, w, None, padding=((0, 0),), **attributes)
    cut = apply("conv_transpose", x, w, None, padding=((1, 2),), **attributes)
    np.testing.assert_allclose(cut, whole[:, :, 1:-2], rtol=0, atol=1e-13)


def test_extents_of_a_convolution_stay_symbolic() -> None:
    attributes = {"strides": (2, 1), "padding": ((1, 1), (0, 0)), "dilations": (1, 1)}
    assert infer("conv", "f32[b,3,2*h,s]", "f32[8,3,3,1]", **attributes) == "f32[b,8,h,s]"
    assert infer("conv", "f32[b,3,h,s]", "f32[8,3,3,1]", **attributes) == "f32[b,8,floordiv(h + 1, 2),s]"
    transposed = {"strides": (2,), "padding": ((0, 0),), "output_padding": (1,), "dilations": (1,)}
    assert infer("conv_transpose", "f32[b,3,s]", "f32[3,2,2]", **transposed) == "f32[b,2,2*s + 1]"


@pytest.mark.parametrize(
    ("operands", "changes", "message"),
    [
        (("f32[1,3,8]", "f32[4,2,3]"), {}, "3 channels in 1 group(s) do not meet filters of 2 channels"),
        (("f32[1,4,8]", "f32[3,2,3]"), {"groups": 2}, "3 filters do not fall into 2 groups"),
        (("f32[1,3,2]", "f32[4,3,3]"), {}, "a window of extent 3 does not fit into 2 with padding (0, 0)"),
        (("f32[1,3,8]", "f32[4,3,3]", "f32[3]"), {}, "the bias is f32[3] for 4 channels"),
        (("f32[1,3,8]", "f32[4,3,3]"), {"strides": (1, 1)}, "strides has 2 entries for 1 spatial axes"),
        (("f32[1,3,8]", "f32[4,3,3]"), {"strides": (0,)}, "a stride of (0,) is below 1"),
        (("f32[1,3,8]", "f32[4,3,3]"), {"padding": ((-1, 0),)}, "must be pairs of numbers from 0"),
        (("f32[1,3,8]", "f32[4,3,3]"), {"layout": "NCHW"}, "neither channels_first nor channels_last"),
        (("f32[1,3,8]", "f16[4,3,3]"), {}, "insert a cast"),
    ],
)
def test_a_convolution_that_cannot_be_is_refused_with_the_reason(operands: Any, changes: Any, message: str) -> None:
    attributes = {"strides": (1,), "padding": ((0, 0),), "dilations": (1,), **changes}
    assert message in refusal("conv", *operands, **attributes)


# ---- pooling ------------------------------------------------------------------------------------------------

# x, window, strides, padding, dilations
POOLS = [
    ((2, 3, 9), (3,), (2,), (1,), (1,)),
    ((2, 3, 10), (4,), (3,), (2,), (1,)),
    ((2, 3, 11), (2,), (4,), (1,), (1,)),
    ((2, 3, 8, 7), (2, 2), (2, 2), (0, 0), (1, 1)),
    ((2, 3, 8, 7), (3, 2), (2, 3), (1, 1), (1, 1)),
    ((2, 3, 9, 10), (3, 2), (2, 3), (1, 0), (2, 3)),
    ((1, 2, 5, 6, 7), (2, 3, 2), (2, 2, 3), (1, 1, 0), (1, 1, 1)),
]


@pytest.mark.parametrize("ceil_mode", [False, True])
@pytest.mark.parametrize(("x", "window", "strides", "padding", "dilations"), POOLS)
def test_max_pooling_and_its_indices_are_what_torch_computes(
    x: Any, window: Any, strides: Any, padding: Any, dilations: Any, ceil_mode: bool
) -> None:
    x = RANDOM.integers(-4, 4, x).astype(float)  # many equal elements
    values, indices = MAX_POOL[x.ndim - 2](
        tensor(x), window, strides, padding, dilations, ceil_mode=ceil_mode, return_indices=True
    )
    attributes = {
        "window": window,
        "strides": strides,
        "padding": tuple((p, p) for p in padding),
        "dilations": dilations,
        "ceil_mode": ceil_mode,
    }
    close(apply("max_pool", x, **attributes), values)
    ours, places = apply("max_pool_with_indices", x, **attributes)
    close(ours, values)
    np.testing.assert_array_equal(places, indices.numpy())
    turned = apply("max_pool_with_indices", last(x), layout=CHANNELS_LAST, **attributes)
    np.testing.assert_array_equal(turned[1], last(places))


@pytest.mark.parametrize(("ceil_mode", "counted"), [*itertools.product([False, True], repeat=2)])
@pytest.mark.parametrize(("x", "window", "strides", "padding", "dilations"), POOLS)
def test_average_pooling_is_what_torch_computes(
    x: Any, window: Any, strides: Any, padding: Any, dilations: Any, ceil_mode: bool, counted: bool
) -> None:
    x = normal(*x)
    attributes = {
        "window": window,
        "strides": strides,
        "padding": tuple((p, p) for p in padding),
        "dilations": (1,) * len(window),
        "ceil_mode": ceil_mode,
        "count_include_pad": counted,
    }
    witness = AVG_POOL[x.ndim - 2](tensor(x), window, strides, padding, ceil_mode, counted)
    close(apply("avg_pool", x, **attributes), witness)
    close(np.moveaxis(apply("avg_pool", last(x), layout=CHANNELS_LAST, **attributes), -1, 1), witness)
    if x.ndim > 3:
        divided = AVG_POOL[x.ndim - 2](tensor(x), window, strides, padding, ceil_mode, counted, 5)
        close(apply("avg_pool", x, divisor=5, **attributes), divided)


def test_a_window_with_a_nan_has_no_largest_element_but_the_last_nan() -> None:
    x = np.array([[[1.0, np.nan, 3.0, np.nan, 5.0, 5.0, 5.0]]])
    attributes = {"window": (3,), "strides": (1,), "padding": ((0, 0),), "dilations": (1,)}
    values, indices = apply("max_pool_with_indices", x, **attributes)
    np.testing.assert_array_equal(values, [[[np.nan] * 4 + [5]]])
    np.testing.assert_array_equal(indices, [[[1, 3, 3, 3, 4]]])
    np.testing.assert_array_equal(indices, F.max_pool1d(tensor(x), 3, 1, return_indices=True)[1].numpy())
    np.testing.assert_array_equal(apply("max_pool", x, **attributes), values)


def test_infinities_are_pooled_as_the_numbers_they_are() -> None:
    x = np.array([[[-np.inf, -np.inf, 2.0, np.inf]]])
    attributes = {"window": (2,), "strides": (2,), "padding": ((0, 0),), "dilations": (1,)}
    np.testing.assert_array_equal(apply("max_pool", x, **attributes), [[[-np.inf, np.inf]]])
    np.testing.assert_array_equal(apply("adaptive_avg_pool", x, output_size=(3,)), [[[-np.inf, -np.inf, np.inf]]])


@pytest.mark.parametrize(
    ("x", "out"),
    [
        ((2, 3, 7), (3,)),
        ((2, 3, 3), (8,)),
        ((2, 3, 6, 4), (3, 2)),
        ((2, 3, 7, 5), (1, 1)),
        ((2, 3, 7, 10), (5, 10)),
        ((1, 2, 5, 7, 4), (2, 3, 4)),
    ],
)
def test_adaptive_pooling_is_what_torch_computes(x: Any, out: Any) -> None:
    x = normal(*x)
    close(apply("adaptive_avg_pool", x, output_size=out), ADAPTIVE_AVG[len(out)](tensor(x), out))
    close(apply("adaptive_max_pool", x, output_size=out), ADAPTIVE_MAX[len(out)](tensor(x), out))
    turned = apply("adaptive_avg_pool", last(x), output_size=out, layout=CHANNELS_LAST)
    close(np.moveaxis(turned, -1, 1), ADAPTIVE_AVG[len(out)](tensor(x), out))


@pytest.mark.parametrize("extents", [(8, 1), (9, 4), (20, 13)])
@pytest.mark.parametrize("out", [(3, 5), (1, 4), (1, 1)])
def test_one_decomposition_of_adaptive_pooling_serves_every_extent(extents: Any, out: Any) -> None:
    x = normal(2, 3, *extents)
    for name, witness in (("adaptive_avg_pool", ADAPTIVE_AVG), ("adaptive_max_pool", ADAPTIVE_MAX)):
        for (ours,) in both(name, x, types=["f64[b,3,h,s]"], output_size=out):
            close(ours, witness[2](tensor(x), out))


def test_one_decomposition_of_a_transposed_convolution_serves_every_extent() -> None:
    attributes = {"strides": (2,), "padding": ((1, 3),), "output_padding": (1,), "dilations": (1,)}
    for extent in (8, 11):
        x, w = normal(2, 4, extent), normal(4, 3, 3)
        whole, spelled = both("conv_transpose", x, w, types=["f64[b,4,h]", "f64[4,3,3]"], **attributes)
        np.testing.assert_allclose(spelled[0], whole[0], rtol=0, atol=1e-13)


def test_lp_pooling_is_what_torch_computes_of_magnitudes() -> None:
    x = np.abs(normal(2, 3, 8, 7))
    attributes = {"window": (3, 2), "strides": (2, 2), "padding": ((0, 0), (0, 0)), "dilations": (1, 1)}
    close(apply("lp_pool", x, p=3.0, **attributes), F.lp_pool2d(tensor(x), 3.0, (3, 2), (2, 2)))


@pytest.mark.parametrize("ceil_mode", [False, True])
def test_extents_of_pooling_stay_symbolic_and_agree_with_each_number(ceil_mode: bool) -> None:
    attributes = {"window": (3,), "strides": (2,), "padding": ((1, 1),), "dilations": (1,), "ceil_mode": ceil_mode}
    open_type = infer("max_pool", "f32[b,4,h]", **attributes)
    assert open_type == ("f32[b,4,floordiv(h, 2) + 1]" if ceil_mode else "f32[b,4,floordiv(h + 1, 2)]")
    for extent in range(8, 20):
        expected = F.max_pool1d(torch.zeros(1, 4, extent), 3, 2, 1, ceil_mode=ceil_mode).shape[-1]
        assert infer("max_pool", f"f32[1,4,{extent}]", **attributes) == f"f32[1,4,{expected}]"


def test_adaptive_pooling_of_symbolic_extents_has_the_size_asked_for() -> None:
    for op in ("adaptive_avg_pool", "adaptive_max_pool"):
        assert infer(op, "f32[b,4,h,s]", output_size=(1, 1)) == "f32[b,4,1,1]"
        assert infer(op, "f32[b,4,h,2*s]", output_size=(3, 7)) == "f32[b,4,3,7]"


# ---- matrix products ----------------------------------------------------------------------------------------

EINSUMS = [
    ("ij,jk->ik", (3, 4), (4, 5)),
    ("bhqd,bhkd->bhqk", (2, 3, 4, 5), (2, 3, 6, 5)),
    ("bhqd,qkd->bhqk", (2, 3, 4, 5), (4, 6, 5)),
    ("bij,bjk", (2, 3, 4), (2, 4, 5)),
    ("...ij,...j->i...", (2, 1, 3, 4), (6, 4)),
    ("ii->i", (4, 4)),
    ("ii", (4, 4)),
    ("iij,jk->k", (3, 3, 4), (4, 2)),
    ("ab,bc,cd,da->", (2, 3), (3, 4), (4, 5), (5, 2)),
    ("i,j,k->kji", (2,), (3,), (4,)),
    ("ij,ij->", (3, 4), (3, 1)),
    ("abc->cab", (2, 3, 4)),
]


@pytest.mark.parametrize("case", EINSUMS, ids=lambda c: c[0])
def test_einsum_is_what_torch_computes(case: Any) -> None:
    equation, *shapes = case
    arrays = [normal(*s) for s in shapes]
    close(apply("einsum", *arrays, equation=equation), torch.einsum(equation, *map(tensor, arrays)))


def test_einsum_and_linear_keep_symbolic_extents() -> None:
    assert infer("einsum", "f32[b,s,12,64]", "f32[b,h,12,64]", equation="bqhd,bkhd->bhqk") == "f32[b,12,s,h]"
    assert infer("linear", "f32[b,s,768]", "f32[3072,768]", "f32[3072]") == "f32[b,s,3072]"
    assert infer("matmul", "f32[b,1,s,8]", "f32[12,8,h]") == "f32[b,12,s,h]"


@pytest.mark.parametrize(
    ("equation", "operands", "message"),
    [
        ("ij,jk->ik", ("f32[2,3]",), "names 2 operands, got 1"),
        ("ij,jk->ik", ("f32[2,3]", "f32[4,5]"), "do not broadcast"),
        ("ijk->i", ("f32[2,3]",), "does not describe an operand of rank 2"),
        ("ij->ik", ("f32[2,3]",), "malformed"),
        ("i1->i", ("f32[2,3]",), "malformed"),
        ("ij->ii", ("f32[2,3]",), "malformed"),
    ],
)
def test_an_equation_that_means_nothing_is_refused(equation: str, operands: Any, message: str) -> None:
    assert message in refusal("einsum", *operands, equation=equation)


def test_matrices_whose_inner_extents_differ_are_refused() -> None:
    assert "the inner extents differ: 3 and 4" in refusal("matmul", "f32[2,3]", "f32[4,5]")
    assert "x has 3 features, the weight 4" in refusal("linear", "f32[2,3]", "f32[5,4]")
