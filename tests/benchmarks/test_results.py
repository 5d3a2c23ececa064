"""What convert.py and scale.py conclude from samples, on samples made up so that the conclusion is known."""

from __future__ import annotations

from collections.abc import Callable
from types import ModuleType
from typing import Any

import pytest

Script = Callable[[str], ModuleType]
MIB = 1 << 20
Sample = dict[str, Any]


def made_up(
    tool: str, model: str, seconds: float, *, turn: int = 0, form: str = "external", **more: Any
) -> dict[str, Any]:
    measured = {"seconds": seconds, "processor_seconds": seconds / 2, "resident": 50 * MIB, "weight_bytes": 100 * MIB}
    return {"tool": tool, "model": model, "form": form, "round": turn, **measured, **more}


def holding(demands: list[Any]) -> dict[str, bool | None]:
    return {demand.demand: demand.holds for demand in demands}


def measured(demands: list[Any], part: str) -> str:
    return next(demand.measured for demand in demands if part in demand.demand)


def test_a_ratio_is_taken_within_a_round_and_the_median_of_the_rounds_counts(script: Script) -> None:
    results = script("convert_results")
    pairs = [(1.0, 4.0), (9.0, 10.0), (3.0, 6.0)]  # a slow round slows both
    samples = [made_up("dragoman", "m", ours, turn=turn) for turn, (ours, _) in enumerate(pairs)]
    samples += [made_up("torch.onnx", "m", theirs, turn=turn) for turn, (_, theirs) in enumerate(pairs)]
    assert results.ratios(samples, "m", "external", "seconds") == [0.25, 0.9, 0.5]
    assert results.median_ratios(samples, "external", "seconds") == {"m": 0.5}


def test_the_geometric_mean_and_the_worst_model_decide_apart(script: Script) -> None:
    results = script("convert_results")
    samples = [made_up("dragoman", "fast", 1.0), made_up("torch.onnx", "fast", 8.0)]
    samples += [made_up("dragoman", "slow", 9.0), made_up("torch.onnx", "slow", 6.0)]
    demands = results.conversion_demands(samples, ["external"])
    found = holding(demands)
    assert found["external: at most 0.5 × their time on the geometric mean"] is True  # √(1/8 · 3/2) = 0.433
    assert measured(demands, "geometric mean").startswith("0.43 × over 2 models")
    assert found["external: no model takes longer"] is False
    assert measured(demands, "no model takes longer") == "1.50 × (slow)"


@pytest.mark.parametrize(
    ("form", "resident", "holds"),
    [("external", 104, True), ("external", 106, False), ("embedded", 129, True), ("embedded", 131, False)],
)
def test_memory_is_judged_by_the_form_of_the_file(script: Script, form: str, resident: int, holds: bool) -> None:
    sample = made_up("dragoman", "m", 1.0, form=form, resident=resident * MIB)
    demands = script("convert_results").conversion_demands([sample], [form])
    assert [d.holds for d in demands if "peak memory" in d.demand] == [holds]


def test_a_model_that_does_not_convert_fails_the_first_demand_and_leaves_the_mean(script: Script) -> None:
    results = script("convert_results")
    lost = {"tool": "dragoman", "model": "lost", "form": "external", "round": 0, "failure": "ImportRefused: 1 operator"}
    samples = [lost, made_up("torch.onnx", "lost", 1.0)]
    samples += [made_up("dragoman", "m", 1.0), made_up("torch.onnx", "m", 4.0)]
    demands = results.conversion_demands(samples, ["external"])
    assert holding(demands)["every model converts"] is False
    assert measured(demands, "every model converts") == "1 of 2; not lost"
    assert measured(demands, "geometric mean").startswith("0.25 × over 1 model,")
    assert results.failure_table(samples).rows == [["lost", "dragoman", "external", "ImportRefused: 1 operator"]]
    assert results.conversion_table(samples, "external").rows[0][2] == "—"


def test_a_file_that_computes_something_else_or_nothing_is_a_failure(script: Script) -> None:
    results = script("convert_results")
    for difference, holds in [(1e-6, True), (0.5, False), (float("nan"), False), (None, False)]:
        sample = made_up("dragoman", "m", 1.0, difference=difference)
        demands = results.conversion_demands([sample], ["external"])
        assert [d.holds for d in demands if "ONNX Runtime" in d.demand] == [holds]


def test_growth_with_depth_is_judged_step_by_step_and_beside_the_export(script: Script) -> None:
    results = script("convert_results")
    seconds = {"stack_4": (1.0, 0.9), "stack_16": (3.5, 2.4), "stack_64": (15.0, 11.0)}
    samples = [made_up("dragoman", model, ours) for model, (ours, _) in seconds.items()]
    samples += [made_up("torch.export", model, export) for model, (_, export) in seconds.items()]
    demands = results.stack_demands(samples)
    assert [d.holds for d in demands] == [True, True, False]
    assert [d.measured for d in demands] == ["1.36 ×, 1.36 × in processor time", "3.50 ×", "4.29 ×"]


def test_a_size_is_judged_by_the_seconds_of_all_stages_and_the_largest_resident_size(script: Script) -> None:
    scale = script("scale")

    def sample(size: int, seconds: float, resident: int) -> Sample:
        reading = {"seconds": seconds, "before": 10 * MIB, "resident": resident * MIB}
        return {"size": size, "round": 0, "stages": dict.fromkeys(scale.STAGES, reading), "difference": None}

    samples = [sample(10_000, 1.0, 20), sample(100_000, 9.0, 3000)]
    demands = scale.demands(samples, [10_000, 100_000])
    assert [d.holds for d in demands] == [True, False, True]
    assert [d.measured for d in demands] == ["54.0 s", "3010 MiB", "9.0 ×"]


def test_optimising_is_judged_with_and_without_proofs_and_by_its_growth(script: Script) -> None:
    optimise = script("optimise")

    def sample(model: str, seconds: float, size: int = 0, **more: Any) -> Sample:
        return {"model": model, "size": size, "proofs": False, "seconds": seconds, **more}

    samples = [sample("bert_base", s) for s in (0.1, 1.6, 1.7)]
    samples += [sample("bert_base", 9.0, proofs=True, refused=0), sample("llama", 90.0, proofs=True, refused=1)]
    samples += [sample("", 0.1, 1000), sample("", 3.0, 10_000), sample("", 33.0, 100_000)]
    demands = optimise.demands(samples, ["bert_base", "llama"], [1000, 10_000, 100_000])
    assert [d.measured for d in demands] == ["1.60 s", "9.00 s", "1 refused", "11.0 ×"]
    assert [d.holds for d in demands] == [False, True, False, True]


def test_a_page_shows_text_and_markdown_and_tells_whether_a_demand_failed(script: Script) -> None:
    tables = script("tables")
    table = tables.Table("Sizes", ["model", "MiB"], [["bert|base", "418"], ["lstm", "0.2"]])
    page = tables.Page("Title", "How.", tables=[table], demands=[tables.Demand("small", "0.2", True)])
    assert table.text().splitlines()[3:] == ["bert|base  418", "lstm       0.2"]
    assert "| bert\\|base | 418 |" in page.markdown()
    assert "PASS  small: 0.2" in page.text()
    assert not page.failed()
    page.demands.append(tables.Demand("fast", "9", False))
    assert page.failed()
    page.demands[-1] = tables.Demand("fast", "not measured", None)
    assert not page.failed()
