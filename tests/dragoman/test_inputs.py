"""Reading `--input`, making examples of it, and checking it against what a model has."""

from __future__ import annotations

import numpy as np
import pytest

from dragoman.inputs import (
    EFFORTS,
    InputSpec,
    check_type,
    dynamic_of,
    example_sizes,
    examples_of,
    nested,
    parse_dynamic,
    parse_inputs,
    unknown_names,
)
from dragoman.ir.errors import OverBudget, UsageError
from dragoman.ir.types import parse_type


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
        ("x:f32[2", "is not a type"),
        ("x:float[2]", "'float' is not an element type"),
        ("x:float[2]", "for float write f32"),
        ("x:torch.int64[2]", "for int64 write i64"),
        ("x:f32[2,]", "lacks an operand"),
        ("x:f32[-1]", "-1"),
        ("x:f32[n/2]", "'/' at column 2"),
    ],
)
def test_a_malformed_specification_is_refused_with_what_to_write(text: str, complaint: str) -> None:
    with pytest.raises(UsageError, match="--input") as caught:
        parse_inputs([text])
    assert complaint in str(caught.value)


def test_an_input_given_twice_is_refused() -> None:
    with pytest.raises(UsageError, match="'x' is given twice"):
        parse_inputs(["x:f32[2]", "x:f32[3]"])


def test_examples_have_the_type_that_was_asked_for() -> None:
    specs = parse_inputs(["x:f32[n,4]", "ids:i64[n]", "flag:bool[2]", "h:bf16[2]"])
    arrays = examples_of(specs)
    assert {name: (str(a.dtype), a.shape) for name, a in arrays.items()} == {
        "x": ("float32", (2, 4)),
        "ids": ("int64", (2,)),
        "flag": ("bool", (2,)),
        "h": ("bfloat16", (2,)),
    }
    assert arrays["flag"].all()
    assert not arrays["ids"].any()


def test_a_symbol_has_one_size_in_all_inputs_and_two_symbols_differ() -> None:
    arrays = examples_of(parse_inputs(["x:f32[n,m]", "y:f32[m,n]", "z:f32[n]", "w:f32[m]"]))
    assert arrays["x"].shape == arrays["y"].shape[::-1] == (*arrays["z"].shape, *arrays["w"].shape)
    assert len(set(arrays["x"].shape)) == 2


def test_greater_effort_makes_every_dim_larger_but_the_batch() -> None:
    specs = parse_inputs(["x:f32[batch,3,height,width]"])
    tried = [example_sizes(specs, effort) for effort in EFFORTS]
    assert [s["batch"] for s in tried] == [2] * len(tried)
    assert [s["height"] for s in tried] == [3, 16, 64, 224]
    assert [s["width"] for s in tried] == [4, 48, 96, 256]


def test_the_only_dim_of_an_input_is_no_batch() -> None:
    specs = parse_inputs(["x:f32[samples]"])
    assert [example_sizes(specs, effort)["samples"] for effort in EFFORTS] == [2, 16, 64, 224]


@pytest.mark.parametrize("dims", ["1099511627776,8", "4294967296,4294967296", "65536,65536"])
def test_an_example_that_no_memory_holds_is_refused_before_it_is_made(dims: str) -> None:
    with pytest.raises(OverBudget, match="an example would take"):
        examples_of(parse_inputs([f"x:f32[{dims}]"]))


@pytest.mark.parametrize(
    ("text", "complaint"),
    [("x:f16[n,3]", "is f32, not f16"), ("x:f32[n]", "rank"), ("x:f32[n,4]", "axis 1 is 4")],
)
def test_a_specification_that_contradicts_the_model_is_refused(text: str, complaint: str) -> None:
    (spec,) = parse_inputs([text])
    with pytest.raises(UsageError) as caught:
        check_type(spec, parse_type("f32[2,3]"), "the example")
    assert complaint in str(caught.value)


def test_a_number_where_the_model_takes_any_size_is_accepted() -> None:
    check_type(InputSpec("x", parse_type("f32[2,3]")), parse_type("f32[batch,3]"), "the model's input")


def test_dynamic_must_map_axis_numbers() -> None:
    with pytest.raises(UsageError, match="no axis number"):
        parse_dynamic({"x": {"batch": 0}})  # type: ignore[dict-item]
    with pytest.raises(UsageError, match="should map axes"):
        parse_dynamic({"x": "batch"})  # type: ignore[dict-item]


def test_an_unknown_input_name_lists_those_there_are() -> None:
    with pytest.raises(UsageError, match="no input 'y'; its inputs are x, mask"):
        unknown_names(["y"], ["x", "mask"])


def test_dotted_names_are_nested_arguments() -> None:
    a, b, c = (np.full(1, i) for i in range(3))
    assert nested({"x": a, "states.0": b, "states.1": c}) == {"x": a, "states": (b, c)}
    assert nested({"batch.image": a, "batch.more.0": b}) == {"batch": {"image": a, "more": (b,)}}
    for names in (["x", "x.0"], ["x.0", "x"]):
        with pytest.raises(UsageError, match="as a tensor and as a container"):
            nested(dict.fromkeys(names, a))
