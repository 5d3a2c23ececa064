"""Resize and grid_sample against torch in double precision and against ONNX's own reference evaluator."""

from __future__ import annotations

import itertools
from fractions import Fraction
from typing import Any

import numpy as np
import pytest

from dragoman.ir.field import FIELD, embed
from dragoman.ir.ops.conv import CHANNELS_LAST
from dragoman.ir.ops.resize import Resize
from tests.ir.one_op import apply, dim, infer, refusal

RANDOM = np.random.default_rng(2)
SIZES = [*itertools.product([1, 4, 5, 9], [1, 3, 4, 7, 13])]


def normal(*shape: int) -> Any:
    return RANDOM.standard_normal(shape)


# ---- torch -----------------------------------------------------------------------------------------------------

TORCH_MODES: dict[str, dict[str, Any]] = {
    "nearest": {"coordinates": "asymmetric", "rounding": "floor"},
    "nearest-exact": {"coordinates": "half_pixel", "rounding": "round_prefer_ceil"},
    "bilinear": {"mode": "linear"},
    "bilinear, corners aligned": {"mode": "linear", "coordinates": "align_corners"},
    "bilinear, antialiased": {"mode": "linear", "antialias": True, "exclude_outside": True},
    "bicubic": {"mode": "cubic"},
    "bicubic, corners aligned": {"mode": "cubic", "coordinates": "align_corners"},
    "bicubic, antialiased": {"mode": "cubic", "antialias": True, "exclude_outside": True, "cubic_a": -0.5},
}


def torch_resize(x: Any, name: str, **target: Any) -> Any:
    torch = pytest.importorskip("torch")
    mode, _, extra = name.partition(", ")
    options = {"align_corners": "aligned" in extra} if mode.startswith("bi") else {}
    options |= {"antialias": True} if extra == "antialiased" else {}
    return torch.nn.functional.interpolate(torch.from_numpy(x), mode=mode, **target, **options).numpy()


@pytest.mark.parametrize("name", TORCH_MODES)
@pytest.mark.parametrize(("extent", "size"), SIZES)
def test_a_resize_to_a_size_is_what_torch_computes(extent: int, size: int, name: str) -> None:
    x, sizes = normal(2, 3, extent, extent + 2), (size, size + 1)
    expected = torch_resize(x, name, size=sizes)
    attributes = {"sizes": sizes, **TORCH_MODES[name]}
    np.testing.assert_allclose(apply("resize", x, **attributes), expected, rtol=1e-12, atol=1e-13)
    turned = apply("resize", np.moveaxis(x, 1, -1), layout=CHANNELS_LAST, **attributes)
    np.testing.assert_allclose(np.moveaxis(turned, -1, 1), expected, rtol=1e-12, atol=1e-13)


@pytest.mark.parametrize("name", [n for n in TORCH_MODES if "aligned" not in n])
@pytest.mark.parametrize("factors", [(2.0, 3.0), (1.7, 0.6), (0.51, 2.3)])
def test_a_given_factor_sets_the_coordinates_unless_torch_is_told_to_recompute_it(name: str, factors: Any) -> None:
    x = normal(1, 2, 7, 9)
    sizes = tuple(int(n * f) for n, f in zip((7, 9), factors, strict=True))
    given = torch_resize(x, name, scale_factor=factors)
    np.testing.assert_allclose(
        apply("resize", x, sizes=sizes, scales=factors, **TORCH_MODES[name]), given, rtol=1e-12, atol=1e-13
    )
    recomputed = torch_resize(x, name, scale_factor=factors, recompute_scale_factor=True)
    np.testing.assert_allclose(apply("resize", x, sizes=sizes, **TORCH_MODES[name]), recomputed, rtol=1e-12, atol=1e-13)


@pytest.mark.parametrize(("mode", "corners"), [("linear", False), ("linear", True), ("nearest", None)])
def test_one_and_three_spatial_axes_are_what_torch_computes(mode: str, corners: bool | None) -> None:
    torch = pytest.importorskip("torch")
    for shape, sizes, named in (((2, 3, 5), (8,), "linear"), ((1, 2, 3, 4, 5), (5, 2, 7), "trilinear")):
        x = normal(*shape)
        expected = torch.nn.functional.interpolate(
            torch.from_numpy(x), sizes, mode=named if mode == "linear" else mode, align_corners=corners
        )
        coordinates = "align_corners" if corners else "half_pixel" if mode == "linear" else "asymmetric"
        ours = apply("resize", x, sizes=sizes, mode=mode, coordinates=coordinates, rounding="floor")
        np.testing.assert_allclose(ours, expected.numpy(), rtol=1e-12, atol=1e-13)


def test_whole_numbers_are_resized_to_their_nearest_without_change_of_dtype() -> None:
    x = np.arange(12, dtype=np.int32).reshape(1, 1, 3, 4)
    ours = apply("resize", x, sizes=(6, 8), coordinates="asymmetric", rounding="floor")
    assert ours.dtype == np.int32
    np.testing.assert_array_equal(ours, x.repeat(2, 2).repeat(2, 3))


def test_where_a_coordinate_falls_on_a_whole_number_nearest_is_exact() -> None:
    # 49·(1/49) is below 1 in floating point: the neighbour chosen would be the wrong one.
    op = Resize(sizes=(49 * 3,), coordinates="asymmetric", rounding="floor")
    assert op.taps(3, 0)[0][:, 0].tolist() == [int(Fraction(i, 49)) for i in range(147)]
    assert 49 * (1 / 49) < 1


# ---- ONNX's reference evaluator -------------------------------------------------------------------------------


def onnx_resize(x: Any, sizes: Any = None, scales: Any = None, **attributes: Any) -> Any:
    onnx = pytest.importorskip("onnx")
    from onnx.reference import ReferenceEvaluator

    target, type, values = ("sizes", 7, sizes) if scales is None else ("scales", 1, scales)
    values = [*x.shape[:2], *values] if scales is None else [1.0, 1.0, *values]
    helper = onnx.helper
    inputs = ["x", "", target] if scales is not None else ["x", "", "", target]
    graph = helper.make_graph(
        [helper.make_node("Resize", inputs, ["y"], **attributes)],
        "one",
        [helper.make_tensor_value_info("x", 11, x.shape)],
        [helper.make_tensor_value_info("y", 11, None)],
        [helper.make_tensor(target, type, [len(values)], values)],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 19)])
    return ReferenceEvaluator(model).run(None, {"x": x})[0]


def agree(ours: Any, expected: Any, mode: str) -> None:
    # The evaluator's cubic coefficients are computed in single precision, each to about 1e-6; torch's are not.
    tolerance = 5e-6 if mode == "cubic" else 1e-12
    np.testing.assert_allclose(ours, expected, rtol=tolerance, atol=tolerance)


# half_pixel_symmetric differs from half_pixel only where a factor is given.
COORDINATES = ("half_pixel", "pytorch_half_pixel", "half_pixel_symmetric", "align_corners", "asymmetric")


@pytest.mark.parametrize("coordinates", COORDINATES)
@pytest.mark.parametrize("mode", ["nearest", "linear", "cubic"])
@pytest.mark.parametrize(("extent", "size"), [(4, 2), (4, 7), (5, 3), (9, 4), (3, 8)])
def test_a_resize_to_a_size_is_what_the_onnx_reference_computes(
    extent: int, size: int, mode: str, coordinates: str
) -> None:
    x, sizes = normal(1, 2, extent, extent + 1), (size, size + 2)
    roundings = ("round_prefer_floor", "round_prefer_ceil", "floor", "ceil") if mode == "nearest" else ("floor",)
    for rounding in roundings:
        expected = onnx_resize(x, sizes, mode=mode, coordinate_transformation_mode=coordinates, nearest_mode=rounding)
        ours = apply("resize", x, sizes=sizes, mode=mode, coordinates=coordinates, rounding=rounding)
        agree(ours, expected, mode)


@pytest.mark.parametrize("coordinates", ["half_pixel", "half_pixel_symmetric", "asymmetric"])
@pytest.mark.parametrize("mode", ["nearest", "linear", "cubic"])
def test_a_resize_by_a_factor_is_what_the_onnx_reference_computes(mode: str, coordinates: str) -> None:
    # Factors exact in single precision, as ONNX holds them, and extents that keep coordinates off whole numbers, where
    # the evaluator's rounding errors choose another neighbour.
    x = normal(1, 2, 6, 8)
    for scales in ((2.0, 0.5), (1.75, 1.3125), (0.75, 0.5625)):
        sizes = tuple(int(n * f) for n, f in zip((6, 8), scales, strict=True))
        expected = onnx_resize(
            x, scales=scales, mode=mode, coordinate_transformation_mode=coordinates, nearest_mode="floor"
        )
        ours = apply("resize", x, sizes=sizes, scales=scales, mode=mode, coordinates=coordinates, rounding="floor")
        agree(ours, expected, mode)


def test_the_pytorch_coordinate_of_a_single_element_is_the_first_one() -> None:
    x = np.array([[[1.0, 2.0, 4.0, 8.0]]])
    for mode in ("nearest", "linear", "cubic"):
        ours = apply("resize", x, sizes=(1,), mode=mode, coordinates="pytorch_half_pixel")
        np.testing.assert_array_equal(ours, [[[1.0]]])


@pytest.mark.parametrize("outside", [False, True])
@pytest.mark.parametrize("antialias", [False, True])
@pytest.mark.parametrize("a", [-0.75, -0.5])
def test_the_edges_of_cubic_filters_are_what_the_onnx_reference_computes(
    antialias: bool, outside: bool, a: float
) -> None:
    x = normal(1, 1, 9, 5)
    for sizes in ((4, 3), (13, 2), (9, 8)):
        expected = onnx_resize(
            x, sizes, mode="cubic", antialias=int(antialias), exclude_outside=int(outside), cubic_coeff_a=a
        )
        ours = apply("resize", x, sizes=sizes, mode="cubic", antialias=antialias, exclude_outside=outside, cubic_a=a)
        agree(ours, expected, "cubic")


# ---- types, field ----------------------------------------------------------------------------------------------


def test_resize_takes_symbolic_sizes_and_refuses_what_it_cannot_mean() -> None:
    assert infer("resize", "f32[b,3,h,s]", sizes=(dim("2*h"), dim("floordiv(s, 2)"))) == "f32[b,3,2*h,floordiv(s, 2)]"
    assert "mode='area' is none of nearest, linear, cubic" in refusal("resize", "f32[1,1,4]", sizes=(2,), mode="area")
    assert "interpolation between elements of u8" in refusal("resize", "u8[1,1,4]", sizes=(2,), mode="linear")
    assert "sizes has 1 entries for 2 spatial axes" in refusal("resize", "f32[1,1,4,4]", sizes=(2,))
    assert "4 scaled by 2.0 is not near 3" in refusal("resize", "f32[1,1,4]", sizes=(3,), scales=(2.0,))
    assert "is below 1" in refusal("resize", "f32[1,1,4]", sizes=(0,))


def test_interpolation_by_dyadic_weights_is_exact_in_the_field() -> None:
    x = RANDOM.integers(-99, 99, (1, 2, 4, 5)).astype(float)
    for attributes in ({"mode": "linear"}, {"mode": "nearest"}, {"mode": "cubic"}):
        exact = apply("resize", x, sizes=(8, 10), arithmetic=FIELD, **attributes)
        np.testing.assert_array_equal(exact.levels[0], embed(apply("resize", x, sizes=(8, 10), **attributes)).levels[0])


# ---- grid_sample -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("align_corners", [False, True])
@pytest.mark.parametrize("padding", ["zeros", "border", "reflection"])
@pytest.mark.parametrize("mode", ["nearest", "linear", "cubic"])
def test_grid_sample_is_what_torch_computes(mode: str, padding: str, align_corners: bool) -> None:
    torch = pytest.importorskip("torch")
    named = {"nearest": "nearest", "linear": "bilinear", "cubic": "bicubic"}[mode]
    x, grid = normal(2, 3, 5, 4), RANDOM.uniform(-2.5, 2.5, (2, 6, 7, 2))
    grid[0, 0, :5] = [[-1, -1], [1, 1], [-1, 1], [0, 0], [1, 0]]
    expected = torch.nn.functional.grid_sample(
        torch.from_numpy(x), torch.from_numpy(grid), named, padding, align_corners
    )
    ours = apply("grid_sample", x, grid, mode=mode, padding=padding, align_corners=align_corners)
    np.testing.assert_allclose(ours, expected.numpy(), rtol=1e-11, atol=1e-12)


@pytest.mark.parametrize("padding", ["zeros", "border", "reflection"])
def test_grid_sample_in_space_is_what_torch_computes(padding: str) -> None:
    torch = pytest.importorskip("torch")
    x, grid = normal(2, 3, 4, 5, 3), RANDOM.uniform(-1.5, 1.5, (2, 3, 2, 4, 3))
    for mode, named in (("linear", "bilinear"), ("nearest", "nearest")):
        expected = torch.nn.functional.grid_sample(torch.from_numpy(x), torch.from_numpy(grid), named, padding, False)
        ours = apply("grid_sample", x, grid, mode=mode, padding=padding)
        np.testing.assert_allclose(ours, expected.numpy(), rtol=1e-11, atol=1e-12)


def test_grid_sample_keeps_symbolic_extents_and_refuses_a_grid_of_another_rank() -> None:
    assert infer("grid_sample", "f32[b,3,h,s]", "f32[b,s,7,2]") == "f32[b,3,s,7]"
    assert "names 3 coordinates for 2 axes" in refusal("grid_sample", "f32[1,3,4,4]", "f32[1,5,5,3]")
    assert "cubic sampling has two spatial axes" in refusal(
        "grid_sample", "f32[1,3,4,4,4]", "f32[1,5,5,5,3]", mode="cubic"
    )
