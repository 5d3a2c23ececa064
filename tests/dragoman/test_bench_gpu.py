"""The GPU benchmark without a GPU: small subjects run interpreted, errors are real, times are left out."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from dragoman.bench.chains import subjects
from dragoman.bench.gpu import main, read, table


def test_there_are_forty_chains_under_different_names_that_give_numbers() -> None:
    assert len({s.name for s in subjects()}) == 40
    for subject in subjects(small=True):
        with torch.no_grad():
            found = subject.make().eval()(*(torch.randn(shape) for shape in subject.shapes))
        assert found.numel() > 0, subject.name
        assert found.isfinite().all(), subject.name


def test_a_run_goes_on_where_an_earlier_one_was_cut_off(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "rows.jsonl"
    rows = main(out, only="batched product")
    assert [row["error"] < 1e-6 for row in rows] == [True, True]
    assert "unmeasured" in capsys.readouterr().out
    first, second = out.read_text().splitlines()
    out.write_text(f"{first}\n{second[:40]}")  # cut off within a line
    assert len(read(out)) == 1
    assert len(main(out, only="batched product")) == 2
    assert out.read_text().startswith(first)


def test_the_table_tells_how_much_faster_than_the_best_mode_and_what_failed() -> None:
    times = {"ours": 2.0, "ours, captured": 1.0, "default": 3.0, "max-autotune": 2.0}
    row = {"name": "a", "launches": 1, "error": 1e-3, "eager_error": 1e-3, "ms": times}
    text = table([row, {"name": "b", "failure": "ValueError: no"}])
    assert "| 1.000 | 2.000 | 2.00 |" in text
    assert "ValueError" in text
    assert "geometric mean over 1 chains: 2.00 ×" in text
