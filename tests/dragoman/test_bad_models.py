"""Models and inputs that cannot be converted: one message with what, where and what to do, and nothing written."""

from __future__ import annotations

from pathlib import Path

import onnx
import pytest
import torch

import dragoman as package
from dragoman.ir.errors import DimensionPinned, UsageError
from tests.dragoman.conftest import MODELS, Command
from tests.dragoman.models import NASTY, Counting, Nested, Pinned, Regularised, Scaled, Small, Sum, Variadic

X = ("--input", "x:f32[batch,8]")
Y = ("--input", "y:f32[batch,8]")


# ---- what the model does ------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("factory", "what", "line", "advice"),
    [
        ("branching", "the model decides by the values of a tensor", "if x.sum() > 0:", "torch.cond"),
        ("cutting", "a size is taken from the values of a tensor", "int(x.sum().item())", "Pass the size in"),
        ("pinned", "the dynamic dimension 'batch' (axis 0 of 'x') is fixed to 2", "x.reshape(2, 2, 4)", "pin them"),
    ],
)
def test_code_that_a_trace_cannot_keep_is_refused_with_its_line(
    factory: str, what: str, line: str, advice: str, convert: Command
) -> None:
    shown = convert(factory, *X)
    assert shown.code == 3
    assert shown.out == ""
    first, second, *rest = shown.complaint.splitlines()
    assert what in first
    assert second.startswith("  models.py:")
    assert line in second
    assert advice in "\n".join(rest)


def test_a_dim_that_the_model_pins_is_refused_with_examples_and_in_python_too(convert: Command, tmp_path: Path) -> None:
    shown = convert("pinned_with_example", *X)
    assert shown.code == 3
    assert "'batch' (axis 0 of 'x') is fixed to 2" in shown.err
    assert "x.reshape(2, 2, 4)" in shown.err
    with pytest.raises(DimensionPinned, match=r"'n' \(axis 0 of 'x'\) is fixed to 2 by the model\n  models\.py:\d+"):
        package.convert(Pinned(), tmp_path / "x.onnx", args=(torch.ones(2, 8),), dynamic={"x": {0: "n"}})
    assert not list(tmp_path.iterdir())


def test_every_unsupported_operator_is_named_once_with_count_module_and_line(convert: Command) -> None:
    shown = convert("spectral", *X)
    assert shown.code == 3
    rows = [line.split() for line in shown.err.splitlines() if "×" in line]
    assert {row[0]: row[1] for row in rows}.keys() >= {"aten._fft_r2c.default", "aten._linalg_svd.default"}
    transform = next(row for row in rows if row[0] == "aten._fft_r2c.default")
    assert transform[1:4] == ["2×", "body.window", next(word for word in transform if word.startswith("models.py:"))]
    assert f"{len(rows)} operators have no translation yet" in shown.err
    assert "dragoman.frontends.pytorch.translates(" in shown.err


def test_inspect_lists_the_same_operators_without_converting(convert: Command, dragoman: Command) -> None:
    refused = [line.strip() for line in convert("spectral", *X).err.splitlines() if "×" in line]
    shown = dragoman("inspect", MODELS + "spectral", *X)
    assert shown.code == 3
    assert [line.strip() for line in shown.out.splitlines() if "×" in line] == refused
    assert "no translation into the IR" in shown.out


def test_inspect_shows_what_a_model_holds(dragoman: Command) -> None:
    shown = dragoman("inspect", MODELS + "small", *X, "--text")
    assert shown.code == 0
    for expected in (
        "x: f32[batch,8]",
        "output: f32[batch,4]",
        "batch: 1 or more",
        "4 tensors, 212 elements, 848 bytes",
        "2  linear",
        'graph "Small"(%x: f32[batch,8])',
    ):
        assert expected in shown.out


def test_a_model_that_fails_is_refused_with_its_own_words(convert: Command) -> None:
    shown = convert("failing", *X)
    assert shown.code == 2
    assert "RuntimeError: the model is out of order" in shown.err
    assert 'raise RuntimeError("the model is out of order")' in shown.err


def test_a_model_that_returns_nothing_is_refused(convert: Command) -> None:
    shown = convert("silent", *X)
    assert (shown.code, shown.complaint) == (
        2,
        f"UsageError: {MODELS}silent returns no tensor: there is nothing to convert",
    )


def test_a_limit_that_the_model_sets_is_told(convert: Command) -> None:
    shown = convert("limited", *X)
    assert shown.code == 0
    assert "'batch' may only be 1..4 (models.py:" in shown.out
    assert "if x.shape[0] > 4:" in shown.out
    assert "batch=4" in shown.out


# ---- what state it is in ------------------------------------------------------------------------------


def test_training_mode_is_refused_where_it_makes_a_difference(convert: Command, tmp_path: Path) -> None:
    shown = convert("regularised", *X)
    assert shown.code == 2
    assert "the model is in training mode" in shown.err
    assert "norm (BatchNorm1d), drop (Dropout)" in shown.err
    assert "Call model.eval()" in shown.err
    report = package.convert(Regularised().eval(), tmp_path / "x.onnx", args=(torch.ones(2, 8),))
    assert report.verdict is not None
    assert report.verdict.holds


def test_training_mode_is_no_obstacle_where_it_makes_no_difference(tmp_path: Path) -> None:
    module = Small()
    assert module.training
    report = package.convert(module, tmp_path / "x.onnx", args=(torch.ones(2, 8),))
    assert report.verdict is not None
    assert report.verdict.holds
    assert all(p.requires_grad for p in module.parameters())


def test_weights_without_values_are_refused_by_name(convert: Command) -> None:
    shown = convert("on_meta", *X)
    assert shown.code == 2
    assert "first.weight, first.bias, second.weight and 1 more have no values" in shown.err
    assert "load the model's weights" in shown.err


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a CUDA device here")
def test_a_missing_device_is_the_factory_s_failure(convert: Command) -> None:
    shown = convert("on_cuda", *X)
    assert shown.code == 2
    assert f"{MODELS}on_cuda raised" in shown.err
    assert "CUDA" in shown.err


@pytest.mark.parametrize(
    ("factory", "complaint"),
    [
        ("broken", "raised ValueError: the weights are at home\n  models.py:"),
        ("leaving", "raised SystemExit: it ended the process with 3\n  models.py:"),
        ("demanding", "is called without arguments, but: missing a required argument: 'size'"),
        ("a_number", "is no model but of type int"),
        ("a_state_dict", "is no model but a dictionary of weights"),
        ("constant", "is a int: it should be a function"),
        ("smal", "did you mean 'small'?"),
        ("xyz", "it defines "),
        ("NASTY.x", "has no 'x'"),
        ("", "after the colon comes the name"),
    ],
)
def test_a_factory_that_gives_no_model_is_refused_with_the_reason(
    factory: str, complaint: str, convert: Command
) -> None:
    shown = convert(factory, *X)
    assert shown.code == 2
    assert shown.err.startswith("UsageError: ")
    assert complaint in shown.err


def test_a_module_of_a_file_needs_no_factory(convert: Command) -> None:
    assert convert("instance", *X).code == 0


def test_importing_what_is_broken_is_told_with_the_line(
    dragoman: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.syspath_prepend(tmp_path)
    (tmp_path / "cut_short.py").write_text("def make(:\n")
    (tmp_path / "needy.py").write_text("import a_library_that_nobody_has\n")
    (tmp_path / "hasty.py").write_text("import sys\n\nsys.exit('not today')\n")
    for name, complaint in (
        ("cut_short:make", "SyntaxError: invalid syntax (cut_short.py, line 1)"),
        ("needy:make", "needs 'a_library_that_nobody_has', which is not installed"),
        ("hasty:make", "it ended the process with 'not today'\n  hasty.py:3"),
        ("nowhere.at_all:make", "there is no module 'nowhere'"),
        ("models.py:make", "a module is named without its .py"),
    ):
        shown = dragoman("inspect", name)
        assert shown.code == 2
        assert complaint in shown.err


# ---- inputs -------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("factory", "given", "complaint"),
    [
        ("small", "x:f16[batch,8]", "mat1 and mat2 must have the same dtype, but got Half and Float"),
        ("small", "x:i64[batch,8]", "but got Long and Float"),
        ("small", "x:f32[batch]", "cannot be multiplied (1x2 and 8x16)"),
        ("small", "x:f32[batch,9]", "cannot be multiplied (2x9 and 8x16)"),
        ("small", "y:f32[batch,8]", "the model has no input 'y'; its inputs are x"),
        ("small", "x:f32[batch", "is not a type: write dtype[dims]"),
        ("small", "x:float32[batch,8]", "for float32 write f32"),
        ("small", "x:string[batch]", "torch has no element type string"),
        ("small", "x:f32[\x1b[31m]", r"\x1b[31m"),
        ("small_with_example", "x:f16[batch,8]", "the model's example input is f32, not f16"),
        ("small_with_example", "x:f32[batch]", "has rank 1, the model's example input has rank 2: f32[2,8]"),
        ("small_with_example", "x:f32[batch,9]", "axis 1 is 9, in the model's example input it is 8"),
        ("small_with_example", "z:f32[batch,8]", "the model has no input 'z'; its inputs are x"),
        ("small_with_keywords", "x:f32[3,8]", "axis 0 is 3, in the model's example input it is 2"),
        ("scaled_by_int", "k:i64[]", "'k' is the int 3 in the example, which is fixed in the result"),
        ("two", "x:f32[batch,8]", "the model also needs y: add --input y:dtype[dims]"),
        ("variadic", "xs:f32[batch,8]", "no input 'xs'; its inputs are xs.0, xs.1, …"),
    ],
)
def test_a_wrong_input_is_refused_with_what_the_model_has(
    factory: str, given: str, complaint: str, convert: Command
) -> None:
    shown = convert(factory, "--input", given)
    assert shown.code == 2
    assert complaint in shown.err


def test_an_input_too_large_for_memory_is_over_budget(convert: Command) -> None:
    shown = convert("small", "--input", "x:f32[1099511627776,8]")
    assert shown.code == 7
    assert "an example would take 32,768 GiB" in shown.err


def test_an_input_given_twice_is_refused(convert: Command) -> None:
    shown = convert("small", *X, *X)
    assert (shown.code, "'x' is given twice" in shown.err) == (2, True)


def test_missing_example_arguments_are_asked_for(convert: Command) -> None:
    shown = convert("small")
    assert shown.code == 2
    assert "example arguments are needed" in shown.err
    assert "--input name:dtype[dims]" in shown.err


def test_one_name_for_two_sizes_is_refused(convert: Command) -> None:
    shown = convert("two_that_differ", *X, *Y)
    assert shown.code == 2
    assert "the example 'y' is 3 at axis 0, but batch = 2" in shown.err


def test_two_names_for_sizes_that_must_be_equal_are_refused_with_advice(convert: Command) -> None:
    shown = convert("two", "--input", "x:f32[a,8]", "--input", "y:f32[b,8]")
    assert shown.code == 2
    assert "tried with a = 2, b = 3" in shown.err
    assert "Sizes that must be equal take the same name" in shown.err


def test_a_dynamic_dim_beside_a_fixed_one_of_the_example_is_refused_naming_both(convert: Command) -> None:
    shown = convert("keywords_with_mask", *X)
    assert shown.code == 3
    assert "'batch' (axis 0 of 'x') is fixed to 2" in shown.err
    assert "x if mask is None else x * mask" in shown.err


def test_a_symbol_on_an_input_that_the_model_ignores_stays_an_input(convert: Command, tmp_path: Path) -> None:
    shown = convert("careless", "--input", "x:f32[a,8]", "--input", "unused:f32[b,3]")
    assert shown.code == 0
    inputs = onnx.load(tmp_path / "model.onnx").graph.input
    assert [i.name for i in inputs] == ["x", "unused"]
    assert [i.type.tensor_type.shape.dim[0].dim_param for i in inputs] == ["a", "b"]


def test_a_number_among_the_arguments_is_fixed_and_the_report_says_so(convert: Command, tmp_path: Path) -> None:
    shown = convert("scaled_by_int", *X)
    assert shown.code == 0
    assert "note           'k' is no tensor: its value 3 is fixed in the result" in shown.out
    assert [i.name for i in onnx.load(tmp_path / "model.onnx").graph.input] == ["x"]
    report = package.convert(Scaled(), tmp_path / "tensor.onnx", args=(torch.ones(2, 8), torch.tensor(3)))
    assert report.notes == ()
    assert [i.name for i in onnx.load(tmp_path / "tensor.onnx").graph.input] == ["x", "k"]


@pytest.mark.parametrize(
    ("factory", "given", "names"),
    [
        ("keywords_only", ["x:f32[b,8]"], ["x"]),
        ("keywords_only", ["mask:f32[b,8]", "x:f32[b,8]"], ["mask", "x"]),
        ("variadic", ["xs.0:f32[b,8]", "xs.1:f32[b,3]"], ["xs.0", "xs.1"]),
        (
            "nested",
            ["pair.0:f32[b,8]", "pair.1:f32[b,8]", "more.scale:f32[8]"],
            ["pair.0", "pair.1", "more.scale"],
        ),
    ],
)
def test_inputs_of_every_form_are_named_in_the_specification(
    factory: str, given: list[str], names: list[str], convert: Command, tmp_path: Path
) -> None:
    shown = convert(factory, *(word for spec in given for word in ("--input", spec)))
    assert shown.code == 0
    assert [i.name for i in onnx.load(tmp_path / "model.onnx").graph.input] == names


def test_examples_grow_until_the_model_runs_on_them(convert: Command, tmp_path: Path) -> None:
    """A window of 5 does not fit into the smallest example, of 3 by 4."""
    shown = convert("pyramid", "--input", "x:f32[batch,3,height,width]")
    assert shown.code == 0
    (given,) = onnx.load(tmp_path / "model.onnx").graph.input
    dims = given.type.tensor_type.shape.dim
    assert [d.dim_param or d.dim_value for d in dims] == ["batch", 3, "height", "width"]


def test_arrays_of_numpy_are_example_arguments_too(tmp_path: Path) -> None:
    report = package.convert(Small(), tmp_path / "x.onnx", args=(torch.ones(2, 8).numpy(),))
    assert report.verdict is not None
    assert report.verdict.holds


def test_arguments_of_every_form_are_converted_in_python(tmp_path: Path) -> None:
    one = torch.ones(2, 8)
    for index, (module, args) in enumerate(((Variadic(), (one, one)), (Nested(), ((one, one), {"scale": one})))):
        report = package.convert(module, tmp_path / f"{index}.onnx", args=args)
        assert report.verdict is not None
        assert report.verdict.holds


def test_one_tensor_is_one_argument_and_not_as_many_as_it_has_rows(tmp_path: Path) -> None:
    package.convert(Small(), tmp_path / "x.onnx", args=torch.ones(2, 8))  # type: ignore[arg-type]
    (given,) = onnx.load(tmp_path / "x.onnx").graph.input
    assert [d.dim_value for d in given.type.tensor_type.shape.dim] == [2, 8]
    with pytest.raises(UsageError, match="missing a required argument: 'y'"):
        package.convert(Sum(), tmp_path / "y.onnx", args=torch.ones(2, 8))  # type: ignore[arg-type]


def test_one_tensor_for_two_inputs_stays_two_inputs(tmp_path: Path) -> None:
    one = torch.ones(2, 8)
    report = package.convert(Sum(), tmp_path / "x.onnx", args=(one, one), dynamic={"x": {0: "n"}, "y": {0: "n"}})
    assert report.verdict is not None
    assert report.verdict.holds
    (node,) = onnx.load(tmp_path / "x.onnx").graph.node
    assert list(node.input) == ["x", "y"]


@pytest.mark.parametrize(
    ("given", "complaint"),
    [
        (torch.ones(2, 8).to_sparse(), "the example 'x' is torch.sparse_coo, torch.float32: give a dense tensor"),
        (torch.ones(2, 8, device="meta"), "the example 'x' is on the meta device"),
    ],
)
def test_an_example_without_plain_values_is_refused(given: torch.Tensor, complaint: str, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=complaint):
        package.convert(Small(), tmp_path / "x.onnx", args=(given,))


@pytest.mark.parametrize("dynamic", [["x"], "batch", {"x": ["batch"]}, {"x": {"batch": 0}}])
def test_dynamic_dims_of_another_form_are_refused(dynamic: object, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="dynamic"):
        package.convert(Small(), tmp_path / "x.onnx", args=(torch.ones(2, 8),), dynamic=dynamic)  # type: ignore[arg-type]


def test_what_a_model_remembers_becomes_an_input_and_the_report_says_so(tmp_path: Path) -> None:
    report = package.convert(Counting(), tmp_path / "x.onnx", args=(torch.ones(2, 8),))
    note = "the model changes 'steps': give the output 'steps.next' to the next run as 'steps'"
    assert [str(n) for n in report.notes] == [note]
    assert note in str(report)


# ---- names that steer a terminal ----------------------------------------------------------------------


def test_names_that_steer_a_terminal_reach_the_file_and_not_the_screen(
    convert: Command, dragoman: Command, tmp_path: Path
) -> None:
    shown = convert("nasty", *X)
    assert shown.code == 0
    model = onnx.load(tmp_path / "model.onnx")
    onnx.checker.check_model(model, full_check=True)
    assert any(NASTY in tensor.name for tensor in model.graph.initializer)
    inspected = dragoman("inspect", MODELS + "nasty", *X, "--text")
    refused = convert("nasty_and_unsupported", *X, output=tmp_path / "never.onnx")
    assert refused.code == 3
    assert r"a\x1b[31mred\nline\u202eRTL" in refused.err
    for text in (shown.out, shown.err, inspected.out, inspected.err, refused.err):
        assert all(line.isprintable() for line in text.split("\n"))


# ---- files --------------------------------------------------------------------------------------------


def test_a_missing_file_is_named(convert: Command, dragoman: Command, tmp_path: Path) -> None:
    for command in (("convert", "nowhere/model.pt2", "-o", tmp_path / "x.onnx"), ("inspect", "nowhere/model.pt2")):
        shown = dragoman(*command)
        assert shown.code == 2
        assert "nowhere/model.pt2: no such file or folder" in shown.err


def exported(path: Path) -> Path:
    dims = ({0: torch.export.Dim("batch")},)
    torch.export.save(torch.export.export(Small().eval(), (torch.ones(2, 8),), dynamic_shapes=dims), path)
    return path


def test_a_pt2_converts_only_when_it_is_trusted(dragoman: Command, tmp_path: Path) -> None:
    path = exported(tmp_path / "small.pt2")
    refused = dragoman("convert", path, "-o", tmp_path / "x.onnx")
    assert refused.code == 5
    assert "--trust" in refused.err
    assert not (tmp_path / "x.onnx").exists()
    shown = dragoman("convert", path, "-o", tmp_path / "x.onnx", "--trust", "--input", "x:f32[n,8]")
    assert shown.code == 0
    assert "n=3, n=1" in shown.out


def test_a_truncated_pt2_is_malformed(dragoman: Command, tmp_path: Path) -> None:
    path = exported(tmp_path / "small.pt2")
    path.write_bytes(path.read_bytes()[:5000])
    shown = dragoman("convert", path, "-o", tmp_path / "x.onnx", "--trust")
    assert shown.code == 6
    assert shown.err.startswith(f"Malformed: {path}: a damaged archive")


@pytest.mark.parametrize(
    ("given", "complaint"),
    [
        ("x:f16[batch,8]", "the model's input is f32, not f16"),
        ("x:f32[batch]", "has rank 1"),
        ("x:f32[batch,9]", "axis 1 is 9, in the model's input it is 8"),
        ("y:f32[batch,8]", "the inputs are x"),
    ],
)
def test_an_input_that_contradicts_an_exported_program_is_refused(
    given: str, complaint: str, dragoman: Command, tmp_path: Path
) -> None:
    path = exported(tmp_path / "small.pt2")
    shown = dragoman("convert", path, "-o", tmp_path / "x.onnx", "--trust", "--input", given)
    assert shown.code == 2
    assert complaint in shown.err


def test_arguments_for_an_exported_program_are_refused_rather_than_ignored(tmp_path: Path) -> None:
    program = torch.export.export(Small().eval(), (torch.ones(2, 8),))
    with pytest.raises(UsageError, match="brings its own example arguments"):
        package.convert(program, tmp_path / "x.onnx", args=(torch.ones(3, 8),))
