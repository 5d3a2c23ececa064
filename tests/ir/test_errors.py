from __future__ import annotations

import pickle

import pytest

import dragoman.ir.errors as errors
from dragoman.ir.errors import DragomanError, EmitRefused, ImportRefused, Malformed, Occurrence, printable

EXIT_CODES = {
    "DragomanError": 1,
    "UsageError": 2,
    "OutputError": 2,
    "Unsupported": 3,
    "ImportRefused": 3,
    "EmitRefused": 3,
    "DimensionPinned": 3,
    "NotEquivalent": 4,
    "UnsafeInput": 5,
    "Malformed": 6,
    "TypeRuleError": 6,
    "VerifyError": 6,
    "ParseError": 6,
    "OverBudget": 7,
    "Inexact": 1,
}


def test_every_error_has_the_exit_code_of_its_kind() -> None:
    found = {
        name: cls.exit_code
        for name, cls in vars(errors).items()
        if isinstance(cls, type) and issubclass(cls, DragomanError) and not name.startswith("_")
    }
    assert found == EXIT_CODES


def test_a_refused_import_lists_every_operator_with_count_module_and_line() -> None:
    error = ImportRefused(
        [
            Occurrence("aten.fft_rfft", 3, "encoder.spectrogram", "model.py:41  x = rfft(y)"),
            Occurrence("aten.unique", 1, line="model.py:88", reason="its result has no fixed size"),
        ],
        "To continue: cut the model there.",
    )
    assert str(error).splitlines() == [
        "2 operators have no translation yet",
        "  aten.fft_rfft                       3×   encoder.spectrogram                  model.py:41  x = rfft(y)",
        "  aten.unique                         1×   (top level)                          model.py:88",
        "      its result has no fixed size",
        "To continue: cut the model there.",
    ]
    assert str(ImportRefused([Occurrence("a", 1)])).startswith("1 operator has no translation yet\n")


def test_a_refused_emission_names_its_target() -> None:
    error = EmitRefused("ONNX opset 17", [Occurrence("scan", 2)], "Choose another opset.")
    assert str(error).splitlines()[0] == "1 operator cannot be expressed in ONNX opset 17"
    assert str(error).splitlines()[-1] == "Choose another opset."


@pytest.mark.parametrize(
    "error",
    [
        ImportRefused([Occurrence("a", 2, "m")], "advice"),
        EmitRefused("onnx", [Occurrence("b", 1)], "advice"),
        Malformed("broken"),
    ],
)
def test_an_error_survives_the_way_to_another_process(error: DragomanError) -> None:
    copy = pickle.loads(pickle.dumps(error))
    assert type(copy) is type(error)
    assert str(copy) == str(error)


@pytest.mark.parametrize(
    ("text", "safe"),
    [
        ("plain é 漢", "plain é 漢"),
        ("\x1b[31mred", "\\x1b[31mred"),
        ("a\nb\r", "a\\nb\\r"),
        ("right\u202eleft", "right\\u202eleft"),
        ("\ud800", "\\ud800"),
        ("\U000e0001", "\\U000e0001"),
    ],
)
def test_text_from_a_model_cannot_steer_a_terminal(text: str, safe: str) -> None:
    assert printable(text) == safe


def test_a_message_keeps_its_lines_and_escapes_the_rest() -> None:
    assert str(Malformed("first \x1b[2J\nsecond \u202e")) == "first \\x1b[2J\nsecond \\u202e"
    assert "\x1b" not in str(ImportRefused([Occurrence("\x1b[2J", 1, "\x1b]0;", "\x07")]))
