"""The command itself: help at once, exit codes, streams, and messages without a traceback."""

from __future__ import annotations

import contextlib
import os
import resource
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path

import pytest

import dragoman as package
from dragoman.cli import status
from dragoman.ir import errors
from tests.dragoman.conftest import MODELS, Command, contents

ROOT = Path(__file__).parents[2]
HEAVY = ("numpy", "torch", "onnx", "onnxruntime", "rich", "dragoman.ir", "dragoman.face", "scipy", "ml_dtypes")


def child(arguments: Sequence[str | Path], **options: object) -> subprocess.Popen[str]:
    """`dragoman …` in a process of its own."""
    return subprocess.Popen(
        [sys.executable, "-m", "dragoman", *map(str, arguments)],
        cwd=ROOT,
        text=True,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        **options,  # type: ignore[call-overload]
    )


def test_help_imports_nothing_heavy() -> None:
    code = (
        "import sys; from dragoman.cli import status; status(['--help']);"
        f" print(*[m for m in {HEAVY} if m in sys.modules])"
    )
    shown = subprocess.run([sys.executable, "-c", code], cwd=ROOT, text=True, capture_output=True, check=True)
    assert shown.stdout.splitlines()[-1] == ""
    assert "convert" in shown.stdout


def test_help_answers_within_three_tenths_of_a_second() -> None:
    spent = []
    for _ in range(5):  # processor seconds, the least of several: what else runs on the machine is not its fault
        before = resource.getrusage(resource.RUSAGE_CHILDREN)
        subprocess.run([sys.executable, "-m", "dragoman", "--help"], cwd=ROOT, capture_output=True, check=True)
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        spent.append(after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime)
    assert min(spent) < 0.3


@pytest.mark.parametrize("command", [[], ["convert"], ["inspect"], ["verify"], ["demo"]])
def test_every_command_has_help(command: list[str], dragoman: Command) -> None:
    shown = dragoman(*command, "--help")
    assert shown.code == 0
    assert shown.out.startswith("Usage: dragoman " + " ".join(command))
    assert shown.err == ""


def test_help_lists_the_exit_codes_of_the_exceptions(dragoman: Command) -> None:
    codes = {e.exit_code for e in vars(errors).values() if isinstance(e, type) and issubclass(e, errors.DragomanError)}
    listed = dragoman("--help").out.partition("Exit codes:")[2]
    assert all(f"{code} " in listed for code in codes - {1})


def test_the_version_is_the_package_s(dragoman: Command) -> None:
    assert dragoman("--version").out == f"dragoman {package.__version__}\n"


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        (["convert"], "Missing"),
        (["convert", "x"], "Missing option '--output'"),
        (["frobnicate"], "No such command 'frobnicate'"),
        (["convert", "x", "-o", "y", "--frobnicate"], "No such option: --frobnicate"),
        (["convert", "x", "-o", "y", "--opset", "new"], "'--opset'"),
        (["convert", "x", "-o", "y", "--budget", "-1"], "a number of seconds is 0 or more"),
        (["convert", "x", "-o", "y", "--budget", "nan"], "a number of seconds is 0 or more"),
        (["convert", "x", "-o", "y", "--opset", "5"], "opset 5 cannot be written: choose 13 to"),
        (["convert", "x", "-o", "y", "--to", "tflite"], "no backend 'tflite' yet"),
        (["convert", "x", "-o", "y", "--for", "tpu"], "no target 'tpu' yet"),
        (["convert", "x", "-o", "y", "--external-data", "maybe"], "'auto', 'always' or 'never', not 'maybe'"),
    ],
)
def test_options_that_are_wrong_are_refused_before_anything_is_read(
    arguments: list[str], complaint: str, dragoman: Command
) -> None:
    shown = dragoman(*arguments)
    assert shown.code == 2
    assert complaint in shown.err
    assert shown.out == ""


def test_a_conversion_shows_stages_on_one_stream_and_its_report_on_the_other(convert: Command, tmp_path: Path) -> None:
    shown = convert("small", "--input", "x:f32[batch,8]")
    assert shown.code == 0
    assert shown.out.splitlines()[0].split() == ["verdict", "PROVEN"]
    assert "3 imported, 3 optimised, 3 ONNX (opset 20)" in shown.out
    assert "the example's own sizes, batch=3, batch=1" in shown.out
    assert f"wrote          {tmp_path / 'model.onnx'}" in shown.out
    stages = [line.split()[0] for line in shown.err.splitlines()]  # those that took long enough to be shown
    assert "trace" in stages
    assert set(stages) <= {"load", "trace", "translate", "optimise", "write", "verify", "certify", "publish"}
    assert all(line.endswith(" s") for line in shown.err.splitlines())
    assert "\x1b" not in shown.out + shown.err
    assert sorted(contents(tmp_path)) == ["model.onnx", "model.onnx.dragoman.json"]


def test_a_second_conversion_writes_the_same_bytes(convert: Command, tmp_path: Path) -> None:
    convert("small", "--input", "x:f32[batch,8]")
    first = (tmp_path / "model.onnx").read_bytes()
    assert convert("small", "--input", "x:f32[batch,8]", "--overwrite").code == 0
    assert (tmp_path / "model.onnx").read_bytes() == first


def test_a_result_that_is_not_verified_says_so_and_has_no_certificate(convert: Command, tmp_path: Path) -> None:
    assert convert("small_with_example").code == 0
    shown = convert("small_with_example", "--no-verify", "--overwrite")
    assert shown.code == 0
    assert "NOT VERIFIED (switched off)" in shown.out
    assert sorted(contents(tmp_path)) == ["model.onnx"]


def test_debug_shows_the_traceback_of_a_refusal(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    assert status(["convert", MODELS + "broken", "-o", str(tmp_path / "x.onnx"), "--debug"]) == 2
    shown = capsys.readouterr().err
    assert "Traceback (most recent call last)" in shown
    assert "in broken" in shown
    *_, message, line = shown.splitlines()
    assert message == f"UsageError: {MODELS}broken raised ValueError: the weights are at home"
    assert line.startswith("  models.py:")


def test_a_defect_of_ours_is_called_one(convert: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*arguments: object, **options: object) -> None:
        raise ZeroDivisionError("nobody thought of this")

    monkeypatch.setattr("dragoman.conversion.load", broken)
    shown = convert("small")
    assert shown.code == 1
    assert "internal error: ZeroDivisionError: nobody thought of this" in shown.err
    assert "--debug" in shown.err


def test_memory_that_runs_out_is_over_budget(convert: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    def greedy(*arguments: object, **options: object) -> None:
        raise MemoryError

    monkeypatch.setattr("dragoman.conversion.load", greedy)
    shown = convert("small")
    assert (shown.code, shown.complaint) == (7, "out of memory; nothing was written")


@pytest.mark.filterwarnings("default")
def test_what_a_model_prints_does_not_mix_with_the_result(convert: Command, dragoman: Command) -> None:
    shown = convert("talking", "--input", "x:f32[batch,8]")
    assert shown.code == 0
    assert "a word" not in shown.out
    assert "a word from the factory" in shown.err
    assert "a word from the model" in shown.err
    assert "models.py:" in shown.err
    assert "UserWarning: the model warns" in shown.err
    inspected = dragoman("inspect", MODELS + "talking", "--input", "x:f32[batch,8]")
    assert inspected.out.startswith(MODELS + "talking")


# ---- processes of their own ---------------------------------------------------------------------------


def test_nothing_but_the_message_is_shown_for_a_model_that_cannot_be_traced(tmp_path: Path) -> None:
    """In a fresh process: torch's loggers, warnings and partial graphs go where they would go for a user."""
    with child(["convert", MODELS + "branching", "-o", tmp_path / "x.onnx", "--input", "x:f32[batch,8]"]) as process:
        out, err = process.communicate(timeout=120)
    assert process.returncode == 3
    assert out == ""
    lines = [line for line in err.splitlines() if not line.startswith("  load ")]
    assert lines[0] == "Unsupported: the model decides by the values of a tensor"
    assert lines[1].endswith("if x.sum() > 0:")
    assert lines[1].startswith("  models.py:")
    assert len(lines) == 3
    assert contents(tmp_path) == {}


@pytest.mark.parametrize(
    ("number", "code"), [(signal.SIGINT, 130), pytest.param(signal.SIGTERM, 143, marks=pytest.mark.slow)]
)
def test_a_signal_while_the_result_is_verified_leaves_nothing_behind(
    number: signal.Signals, code: int, tmp_path: Path
) -> None:
    with child(["convert", MODELS + "slow", "-o", tmp_path / "x.onnx", "--input", "x:f32[batch,3]"]) as process:
        assert process.stderr is not None
        seen = ""
        while "  write" not in seen:  # its stage is shown when it is over, and verification begins
            line = process.stderr.readline()
            assert line, seen
            seen += line
        time.sleep(0.3)
        assert any(name.endswith(".partial") for name in contents(tmp_path))
        process.send_signal(number)
        _, err = process.communicate(timeout=60)
    assert process.returncode == code
    assert "Traceback" not in err
    assert contents(tmp_path) == {}


def test_a_reader_that_closes_the_pipe_ends_the_command_quietly(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    reader, writer = os.pipe()
    os.close(reader)
    with open(writer, "w") as closed:  # noqa: PTH123  (a descriptor, not a path)
        monkeypatch.setattr(sys, "stdout", closed)
        with pytest.raises(SystemExit) as end:
            sys.exit(status(["inspect", MODELS + "small", "--input", "x:f32[batch,8]", "--text"]))
        monkeypatch.undo()
        with contextlib.suppress(BrokenPipeError):
            closed.close()
    assert end.value.code == 1
    assert all(line.endswith(" s") for line in capsys.readouterr().err.splitlines())


def test_a_full_disk_behind_standard_output_is_told(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    with contextlib.suppress(OSError), Path("/dev/full").open("w") as full:
        monkeypatch.setattr(sys, "stdout", full)
        assert status(["inspect", MODELS + "small", "--input", "x:f32[batch,8]"]) == 2
        monkeypatch.undo()
    assert "OutputError: standard output cannot be written to: No space left" in capsys.readouterr().err
