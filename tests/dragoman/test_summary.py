"""What a person reads at the end: sizes, notes that verification leaves open, many outputs, the terminal's order."""

from __future__ import annotations

import io
import sys
from pathlib import Path
from typing import Any

import pytest

import dragoman as package
from dragoman.console import Console
from dragoman.conversion import Report
from dragoman.ir.equivalence import Comparison, Verdict
from dragoman.ir.findings import CaseFinding, OutputFinding, RuleProofs, Skipped, Status
from dragoman.notes import Note, pending
from dragoman.summary import error_lines, report_lines, size
from tests.dragoman.conftest import MODELS


def case(status: Status = Status.OK, style: str = "typical", **symbols: int) -> CaseFinding:
    outputs = (OutputFinding("y", "f32[2]", status),)
    return CaseFinding(f"{symbols}", symbols, style, 0, {}, "", outputs=outputs)


def comparison(*cases: CaseFinding, verdict: Verdict = Verdict.VERIFIED, **fields: Any) -> Comparison:
    return Comparison(verdict, "because", "PyTorch", "ONNX Runtime", "PyTorch in float64", cases, **fields)


def report(found: Comparison | None, *notes: Note) -> Report:
    return Report(
        source="m",
        path=Path("x.onnx"),
        verdict=found.verdict if found else None,
        comparison=found,
        opset=20,
        nodes_imported=3,
        nodes_optimised=2,
        nodes_written=4,
        weight_bytes=1024,
        file_bytes=2048,
        seconds={"trace": 1.0, "write": 0.001},
        memory_before=1 << 20,
        memory_peak=3 << 20,
        notes=notes,
    )


@pytest.mark.parametrize(
    ("count", "text"),
    [
        (0, "0 bytes"),
        (1023, "1023 bytes"),
        (1536, "1.5 KiB"),
        (5 << 20, "5.0 MiB"),
        (3 << 29, "1.50 GiB"),
        (5 << 40, "5,120.00 GiB"),
    ],
)
def test_sizes_have_the_unit_that_fits(count: int, text: str) -> None:
    assert size(count) == text


# ---- notes --------------------------------------------------------------------------------------------

AT_ONE = Note("the model asks whether batch ≠ 1", {"batch": 1})
ALWAYS = Note("'k' is fixed")


@pytest.mark.parametrize(
    ("cases", "left"),
    [
        ([case(batch=1)], [ALWAYS]),
        ([case(batch=3), case(batch=1, sequence=5)], [ALWAYS]),
        ([case(batch=3)], [AT_ONE, ALWAYS]),
        ([case(Status.UNSTABLE, batch=1)], [AT_ONE, ALWAYS]),
        ([case(Status.WRONG, batch=1)], [AT_ONE, ALWAYS]),
        ([case(sequence=1)], [AT_ONE, ALWAYS]),
        ([], [AT_ONE, ALWAYS]),
    ],
)
def test_a_note_about_sizes_falls_silent_where_they_were_verified(cases: list[CaseFinding], left: list[Note]) -> None:
    assert pending([AT_ONE, ALWAYS], comparison(*cases)) == left


def test_without_verification_every_note_is_shown() -> None:
    assert pending([AT_ONE, ALWAYS], None) == [AT_ONE, ALWAYS]
    lines = list(report_lines(report(None, AT_ONE, ALWAYS)))
    assert [line.split(None, 1)[1] for line in lines if line.startswith("  note")] == [AT_ONE.text, ALWAYS.text]


def test_a_model_that_asks_about_its_batch_is_noted_only_if_one_was_not_verified(tmp_path: Path) -> None:
    """`inspect` and a conversion without verification tell; one that ran at batch = 1 has nothing to tell."""
    source = f"{MODELS}asking"
    inputs = ["x:f32[batch,8]"]
    unverified = package.convert(source, tmp_path / "a.onnx", inputs=inputs, verify=False)
    verified = package.convert(source, tmp_path / "b.onnx", inputs=inputs)
    assert [n.fails_at for n in unverified.notes] == [{"batch": 1}]
    assert "the model asks whether" in str(unverified)
    assert "the model asks whether" not in str(verified)


# ---- lines --------------------------------------------------------------------------------------------


def test_the_summary_gives_every_number() -> None:
    text = "\n".join(report_lines(report(comparison(case(batch=3)))))
    for expected in (
        "  verdict        VERIFIED",
        "1 case at batch=3; against PyTorch in float64",
        "3 imported, 2 optimised, 4 ONNX (opset 20)",
        "2.0 KiB, of which weights 1.0 KiB",
        "1.00 s (trace 1.00)",
        "3.0 MiB, 2.0 MiB above the start",
    ):
        assert expected in text


def test_of_many_outputs_those_closest_to_their_bounds_are_shown() -> None:
    outputs = tuple(OutputFinding(f"y{i}", "f32[2]", factor=2.0, excess=i / 100) for i in range(40))
    many = CaseFinding("", {}, "given", 0, {}, "", outputs=outputs)
    first, *rest = error_lines(comparison(many))
    assert first == "5 of 40 outputs, those that come closest to their bounds:"
    assert [line.partition(":")[0] for line in rest[:5]] == ["y39", "y38", "y37", "y36", "y35"]
    assert "1 case at the example's own sizes" in rest[5]


def test_skipped_cases_are_counted_with_their_reasons() -> None:
    skipped = (Skipped("a", "too large"), Skipped("b", "too slow"), Skipped("c", "too large"))
    assert "3 cases skipped: too large (and 1 other reason)" in list(error_lines(comparison(case(), skipped=skipped)))


@pytest.mark.parametrize(("unchecked", "advice"), [(0, False), (2, True)])
def test_a_result_that_is_not_shown_equal_is_told_last(unchecked: int, advice: bool) -> None:
    rules = (RuleProofs("Fold", 3, 3 - unchecked, 0),)
    *_, last = report_lines(report(comparison(case(), verdict=Verdict.INCONCLUSIVE, rules=rules)))
    assert "what was written is not shown to equal its source" in last
    assert ("give more with --budget" in last) is advice


# ---- the terminal -------------------------------------------------------------------------------------


class Terminal(io.StringIO):
    """A stream that says that it is a terminal."""

    def isatty(self) -> bool:
        return True


def a_terminal(monkeypatch: pytest.MonkeyPatch) -> Terminal:
    """Standard error as a terminal; not a fixture, because capturing begins anew when the test itself runs."""
    stream = Terminal()
    monkeypatch.setattr(sys, "stderr", stream)
    monkeypatch.setattr(sys, "stdout", io.StringIO())
    monkeypatch.setenv("TERM", "xterm-256color")
    monkeypatch.delenv("NO_COLOR", raising=False)
    return stream


def test_on_a_terminal_a_stage_is_shown_while_it_runs_and_the_cursor_comes_back(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    terminal = a_terminal(monkeypatch)
    with Console() as console:
        console.stage("verify")
        assert "verify" in terminal.getvalue()
        assert "\x1b[?25l" in terminal.getvalue()
    assert terminal.getvalue().rfind("\x1b[?25h") > terminal.getvalue().rfind("\x1b[?25l")


def test_after_an_error_the_terminal_and_the_streams_are_as_they_were(monkeypatch: pytest.MonkeyPatch) -> None:
    terminal = a_terminal(monkeypatch)
    before = sys.stdout, sys.stderr

    def fail_halfway() -> None:
        with Console() as console:
            console.stage("trace")
            print("a word from the model")
            raise ValueError("halfway")

    with pytest.raises(ValueError, match="halfway"):
        fail_halfway()
    assert (sys.stdout, sys.stderr) == before
    assert sys.stdout.getvalue() == ""  # type: ignore[attr-defined]
    assert "a word from the model" in terminal.getvalue()
    assert terminal.getvalue().rfind("\x1b[?25h") > terminal.getvalue().rfind("\x1b[?25l")


def test_what_takes_the_place_of_the_streams_does_not_meet_the_spinner(monkeypatch: pytest.MonkeyPatch) -> None:
    """While a model is traced another stream stands in for standard error."""
    terminal = a_terminal(monkeypatch)
    held = io.StringIO()
    with Console() as console:
        console.stage("trace")
        stand_in, sys.stderr = sys.stderr, held
        console.stage("translate")
        sys.stderr = stand_in
    assert held.getvalue() == ""
    assert "translate" in terminal.getvalue()


def test_without_a_terminal_no_control_character_is_written(capsys: pytest.CaptureFixture[str]) -> None:
    with Console() as console:
        console.stage("verify")
        console.heading("A title")
        console.comparison(comparison(case(batch=1)))
    shown = capsys.readouterr()
    assert "\x1b" not in shown.out + shown.err
    assert shown.out.splitlines()[1:3] == ["A title", "VERIFIED: because"]


def test_a_stage_that_is_begun_twice_is_one(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("dragoman.console._WORTH_SHOWING", 0.0)
    with Console() as console:
        for name in ("load", "load", "trace"):
            console.stage(name)
        console.heading("done")
    assert [line.split()[0] for line in capsys.readouterr().err.splitlines()] == ["load", "trace"]
