"""Outputs that cannot be written, and conversions that are cut short: what was there stays, and nothing is left over."""

from __future__ import annotations

import errno
import os
import signal
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import torch

import dragoman as package
from dragoman.certificate import certificate_path
from dragoman.cli import status
from dragoman.ir.equivalence import Comparison, Verdict
from dragoman.ir.errors import NotEquivalent, OutputError
from tests.dragoman.conftest import MODELS, Command, contents
from tests.dragoman.models import Small

NOBODY = 65534
STAGES = ("load", "trace", "translate", "optimise", "write", "verify", "certify", "publish")
needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root can become somebody else, or mount a disk")


# ---- where it should go -------------------------------------------------------------------------------


def test_an_output_that_exists_is_kept_unless_it_may_be_replaced(convert: Command, tmp_path: Path) -> None:
    output = tmp_path / "model.onnx"
    output.write_bytes(b"mine")
    shown = convert("small_with_example")
    assert shown.code == 2
    assert shown.out == ""
    assert shown.complaint.startswith(f"OutputError: {output} exists: choose another name")
    assert "--overwrite" in shown.complaint
    assert output.read_bytes() == b"mine"
    assert convert("small_with_example", "--overwrite").code == 0
    assert output.read_bytes() != b"mine"


@pytest.mark.parametrize(
    ("name", "complaint"),
    [
        ("folder", "is a folder: name a file in it, such as "),
        ("missing/model.onnx", "is not a folder: create it first"),
        ("file/model.onnx", "is not a folder: create it first"),
        ("pipe", "is neither a file nor a folder"),
        ("link.onnx", "exists: choose another name"),
        ("dangling.onnx", "exists: choose another name"),
        ("x" * 300 + ".onnx", "the name is too long; choose a shorter one"),
        ("x" * 245 + ".onnx", "the name is too long; choose a shorter one"),  # that of its certificate
        ("guarded.onnx", "guarded.onnx.dragoman.json is a folder"),
    ],
)
def test_a_place_where_no_file_can_be_is_refused_before_the_model_is_read(
    name: str, complaint: str, dragoman: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "folder").mkdir()
    (tmp_path / "guarded.onnx.dragoman.json").mkdir()
    (tmp_path / "file").write_text("mine")
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "link.onnx").symlink_to(tmp_path / "file")
    (tmp_path / "dangling.onnx").symlink_to(tmp_path / "nowhere")
    before = contents(tmp_path)
    monkeypatch.setattr("dragoman.conversion.load", lambda *a, **k: pytest.fail("the model was read"))
    shown = dragoman("convert", MODELS + "small_with_example", "-o", tmp_path / name)
    assert shown.code == 2
    assert shown.err.startswith("OutputError: ")
    assert complaint in shown.err
    assert contents(tmp_path) == before


def test_devices_are_no_outputs(dragoman: Command) -> None:
    for path in ("/dev/full", "/dev/null"):
        shown = dragoman("convert", MODELS + "small_with_example", "-o", path, "--overwrite")
        assert shown.code == 2
        assert f"{path} is neither a file nor a folder: write elsewhere" in shown.err


def test_replacing_a_link_leaves_what_it_points_to(convert: Command, tmp_path: Path) -> None:
    (tmp_path / "target").write_text("mine")
    (tmp_path / "model.onnx").symlink_to(tmp_path / "target")
    assert convert("small_with_example", "--overwrite").code == 0
    assert (tmp_path / "target").read_text() == "mine"
    assert not (tmp_path / "model.onnx").is_symlink()


def test_the_source_is_never_the_output(dragoman: Command, tmp_path: Path) -> None:
    path = tmp_path / "small.pt2"
    torch.export.save(torch.export.export(Small().eval(), (torch.ones(2, 8),)), path)
    before = contents(tmp_path)
    shown = dragoman("convert", path, "-o", path, "--overwrite", "--trust")
    assert shown.code == 2
    assert "belongs to the source: write elsewhere" in shown.err
    assert contents(tmp_path) == before


@contextmanager
def somebody_else() -> Iterator[None]:
    """Without root's rights for a while."""
    os.setresgid(NOBODY, NOBODY, 0)
    os.setresuid(NOBODY, NOBODY, 0)
    try:
        yield
    finally:
        os.setresuid(0, 0, 0)
        os.setresgid(0, 0, 0)


@needs_root
def test_a_folder_that_may_not_be_written_to_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = tmp_path / "theirs"
    folder.mkdir(mode=0o755)
    (folder / "model.onnx").write_bytes(b"mine")
    for parent in (folder, *folder.parents[:-2]):
        parent.chmod(0o755)
    with somebody_else():
        code = status(["convert", MODELS + "small_with_example", "-o", str(folder / "new.onnx")])
        again = status(["convert", MODELS + "small_with_example", "-o", str(folder / "model.onnx"), "--overwrite"])
    assert (code, again) == (2, 2)
    assert capsys.readouterr().err.count("cannot be written to: change its permissions, or write elsewhere") == 2
    assert contents(folder) == {"model.onnx": b"mine"}


# ---- a full disk --------------------------------------------------------------------------------------


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system with room for 200 KiB."""
    folder = tmp_path / "disk"
    folder.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=200k", "tmpfs", folder], capture_output=True, check=False
    )
    if mounted.returncode:
        pytest.skip("no file system can be mounted here")
    yield folder
    subprocess.run(["umount", folder], check=True)


@needs_root
def test_a_disk_that_is_too_small_is_told_with_what_is_needed(small_disk: Path, convert: Command) -> None:
    shown = convert("large", output=small_disk / "model.onnx")
    assert shown.code == 2
    assert f"the disk of {small_disk} has" in shown.err
    assert "are needed" in shown.err


@needs_root
def test_a_disk_that_fills_up_leaves_the_old_output(small_disk: Path, convert: Command) -> None:
    output = small_disk / "model.onnx"
    assert convert("small_with_example", output=output).code == 0
    fill = small_disk / "filler"
    stat = os.statvfs(small_disk)
    fill.write_bytes(bytes(stat.f_bavail * stat.f_frsize - 4096))  # room for the model, not for its certificate
    shown = convert("small_with_example", "--overwrite", "--opset", "18", output=output)
    assert shown.code == 2
    assert "No space left on device; make room, or write elsewhere" in shown.err


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EDQUOT])
def test_a_write_that_fails_leaves_nothing(number: int, convert: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*arguments: Any, **options: Any) -> None:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr("dragoman.backends.onnx.wire.write_model", full)
    shown = convert("small_with_example")
    assert shown.code == 2
    assert "the disk or quota of" in shown.err
    assert "make room, or write elsewhere" in shown.err


def test_a_certificate_that_cannot_follow_its_model_is_told(
    convert: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    original = Path.replace

    def replace(self: Path, target: Path) -> Path:
        if str(target).endswith(".dragoman.json") and target.parent == tmp_path:
            raise OSError(errno.EIO, "Input/output error")
        return original(self, target)

    monkeypatch.setattr(Path, "replace", replace)
    with pytest.raises(OutputError, match=r"model\.onnx was written, its certificate was not: Input/output error"):
        package.convert(MODELS + "small_with_example", tmp_path / "model.onnx")
    assert sorted(contents(tmp_path)) == ["model.onnx"]


# ---- Ctrl-C -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("existing", [False, True])
@pytest.mark.parametrize("stage", STAGES)
def test_ctrl_c_at_any_stage_leaves_what_was_there(
    stage: str, existing: bool, convert: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from dragoman.console import Console

    output = tmp_path / "model.onnx"
    if existing:
        output.write_bytes(b"mine")
        certificate_path(output).write_bytes(b"mine too")
    shown_before = Console.stage

    def interrupting(self: Console, name: str) -> None:
        shown_before(self, name)
        if name == stage:
            signal.raise_signal(signal.SIGINT)

    monkeypatch.setattr(Console, "stage", interrupting)
    shown = convert("small_with_example", "--overwrite")
    assert shown.code == 130
    assert shown.out == ""
    state = "was left as it was" if existing else "was not written"
    assert shown.complaint == f"interrupted; {output} {state}"


def test_ctrl_c_after_the_output_is_in_place_says_that_it_is(
    dragoman: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("dragoman.conversion._publish_certificate", lambda *_: signal.raise_signal(signal.SIGINT))
    shown = dragoman("convert", MODELS + "small_with_example", "-o", tmp_path / "model.onnx")
    assert (shown.code, shown.complaint) == (130, f"interrupted after {tmp_path / 'model.onnx'} had been written")
    assert sorted(contents(tmp_path)) == ["model.onnx"]


def test_ctrl_c_in_a_factory_and_in_other_commands(convert: Command, dragoman: Command) -> None:
    assert convert("interrupted").code == 130
    for command in ("inspect", "verify"):
        shown = dragoman(command, MODELS + "interrupted", *(["b.onnx"] if command == "verify" else []))
        assert (shown.code, shown.complaint) == (130, "interrupted")


# ---- a result that is wrong ---------------------------------------------------------------------------


def differing(*arguments: Any, **options: Any) -> Comparison:
    return Comparison(Verdict.DIFFERENT, "'output' is off by one", "source", "candidate", "oracle")


def test_a_result_that_differs_is_not_written(
    convert: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "model.onnx").write_bytes(b"mine")
    monkeypatch.setattr("dragoman.conversion.compare", differing)
    shown = convert("small_with_example", "--overwrite")
    assert shown.code == 4
    assert "was not written: the result differs from the source\nDIFFERENT: 'output' is off by one" in shown.err
    with pytest.raises(NotEquivalent):
        package.convert(MODELS + "small_with_example", tmp_path / "model.onnx", overwrite=True)


def test_a_result_that_differs_is_kept_on_request_and_still_fails(
    dragoman: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("dragoman.conversion.compare", differing)
    output = tmp_path / "model.onnx"
    shown = dragoman("convert", MODELS + "small_with_example", "-o", output, "--keep")
    assert shown.code == 4
    assert "verdict        DIFFERENT" in shown.out
    assert "what was written is not shown to equal its source" in shown.out
    assert sorted(contents(tmp_path)) == ["model.onnx", "model.onnx.dragoman.json"]
