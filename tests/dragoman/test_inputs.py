"""Reading `--input` and checking it against examples."""

from __future__ import annotations

import numpy as np
import pytest

from dragoman.inputs import check_example, dynamic_of, example_of, parse_dynamic, parse_inputs, unknown_names
from dragoman.ir.errors import UsageError


def test_a_specification_names_dtype_shape_and_dynamic_dims() -> None:
    (spec,) = parse_inputs(["x:f32[batch,3,2*side,224]"])
    assert str(spec.type) == "f32[batch,3,2*side,224]"
    assert {axis: str(d) for axis, d in dynamic_of([spec])["x"].items()} == {0: "batch", 2: "2*side"}


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("x", "write name:dtype"),
        (":f32[2]", "write name:dtype"),
        ("x:f32", "is not a type"),
        ("x:float[2]", "'float' is not an element type"),
        ("x:f32[2,]", "lacks an operand"),
        ("x:f32[-1]", "-1"),
    ],
)
def test_a_malformed_specification_is_refused_with_what_to_write(text: str, complaint: str) -> None:
    with pytest.raises(UsageError, match="--input") as caught:
        parse_inputs([text])
    assert complaint in str(caught.value)


def test_an_input_named_twice_is_refused() -> None:
    with pytest.raises(UsageError, match="given twice"):
        parse_inputs(["x:f32[2]", "x:f32[3]"])


def test_examples_have_the_dtype_and_no_extent_that_tracers_treat_specially() -> None:
    for text, kind in (("x:f32[n,3]", "f"), ("x:i64[n,m]", "i"), ("x:bool[n]", "b")):
        (spec,) = parse_inputs([text])
        array = example_of(spec)
        assert array.dtype.kind == kind
        assert all(extent > 1 for extent in array.shape)


def test_a_shared_symbol_has_one_extent_and_two_symbols_differ() -> None:
    first, second = parse_inputs(["x:f32[n,m]", "y:f32[m,n]"])
    assert example_of(first).shape == example_of(second).shape[::-1]
    assert len(set(example_of(first).shape)) == 2


@pytest.mark.parametrize(
    ("text", "complaint"),
    [("x:f16[n,3]", "is f32, not f16"), ("x:f32[n]", "rank"), ("x:f32[n,4]", "axis 1 is 4")],
)
def test_a_specification_that_contradicts_the_example_is_refused(text: str, complaint: str) -> None:
    (spec,) = parse_inputs([text])
    with pytest.raises(UsageError) as caught:
        check_example(spec, (2, 3), np.dtype(np.float32))
    assert complaint in str(caught.value)


def test_dynamic_must_map_axis_numbers() -> None:
    with pytest.raises(UsageError, match="no axis number"):
        parse_dynamic({"x": {"batch": 0}})  # type: ignore[dict-item]
    with pytest.raises(UsageError, match="should map axes"):
        parse_dynamic({"x": "batch"})  # type: ignore[dict-item]


def test_an_unknown_input_name_lists_those_there_are() -> None:
    with pytest.raises(UsageError, match="no input 'y'; its inputs are x, mask"):
        unknown_names(["y"], ["x", "mask"])
