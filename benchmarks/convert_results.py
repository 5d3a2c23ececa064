"""What the samples of convert.py say: ratios, tables, and which demands hold.

Owns the arithmetic. A ratio is taken within a round, between neighbours in time, and the median of the rounds counts; a
model's memory is the largest seen. Refuses to leave out a model that did not convert: it fails the first demand.
"""

from __future__ import annotations

import itertools
import math
import statistics
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from fresh_process import Result
from tables import Demand, Table, mib

OURS, PEER, EXPORT = "dragoman", "torch.onnx", "torch.export"
FORMS = ("external", "embedded")
MEAN_BOUND, WORST_BOUND = 0.5, 1.0
VERIFIED_BOUND = 2.0
STACK_BOUND, GROWTH_BOUND = 1.5, 4.0
MEMORY_SHARE = {"external": 0.05, "embedded": 0.3}
MEMORY_FLOOR = 100 << 20
DIFFERENCE_BOUND = 1e-3  # a wrong file is off by far more; proving a right one is the verifier's work


@dataclass(frozen=True)
class Cell:
    """The samples of one model by one tool in one form, one a round."""

    samples: Sequence[Result]

    def median(self, key: str) -> float | None:
        """The median over the rounds that gave a number."""
        numbers = [float(s[key]) for s in self.samples if "failure" not in s]
        return statistics.median(numbers) if numbers else None

    def largest(self, key: str) -> float | None:
        """The largest over the rounds."""
        return max((float(s[key]) for s in self.samples if "failure" not in s), default=None)

    def any(self, key: str) -> float | None:
        """A number that is the same in every round, such as the number of nodes."""
        return next((float(s[key]) for s in self.samples if s.get(key) is not None), None)

    @property
    def failure(self) -> str:
        """Why there is no file; empty if there is one."""
        return next((str(s["failure"]) for s in self.samples if "failure" in s), "")


def cell(samples: Iterable[Result], model: str, tool: str, form: str) -> Cell:
    """The samples of one model, tool and form."""
    return Cell([s for s in samples if (s["model"], s["tool"], s["form"]) == (model, tool, form)])


def models_of(samples: Iterable[Result]) -> list[str]:
    """The models, in the order given."""
    return list(dict.fromkeys(s["model"] for s in samples))


def ratios(samples: Sequence[Result], model: str, form: str, key: str, other: str = PEER) -> list[float]:
    """Ours over the other's, one for each round in which both came through."""
    mine = {s["round"]: s for s in cell(samples, model, OURS, form).samples if "failure" not in s}
    theirs = {s["round"]: s for s in cell(samples, model, other, form).samples if "failure" not in s}
    return [mine[r][key] / theirs[r][key] for r in sorted(mine.keys() & theirs.keys())]


def median_ratios(samples: Sequence[Result], form: str, key: str, other: str = PEER) -> dict[str, float]:
    """The median ratio of each model that both converted."""
    found = {model: ratios(samples, model, form, key, other) for model in models_of(samples)}
    return {model: statistics.median(each) for model, each in found.items() if each}


def geometric_mean(numbers: Iterable[float]) -> float:
    """The geometric mean."""
    return math.exp(statistics.fmean(math.log(n) for n in numbers))


def memory_bound(weight_bytes: float, form: str) -> float:
    """The bytes that a conversion may take over the loaded model."""
    return MEMORY_SHARE[form] * weight_bytes + MEMORY_FLOOR


# ---- tables --------------------------------------------------------------------------------------------


def conversion_table(samples: Sequence[Result], form: str) -> Table:
    """One row a model: seconds, ratio, memory, nodes, size."""
    columns = ["model", "weights", "s", "theirs", "ratio", "of rounds", "processor"]
    columns += ["peak MiB", "theirs", "bound", "nodes", "theirs", "file MiB", "theirs", "difference", "theirs"]
    table = Table(f"{form.capitalize()} weights", columns)
    for model in models_of(samples):
        mine, theirs = cell(samples, model, OURS, form), cell(samples, model, PEER, form)
        if not mine.samples and not theirs.samples:
            continue
        each = ratios(samples, model, form, "seconds")
        processor = ratios(samples, model, form, "processor_seconds")
        weights = mine.any("weight_bytes") or theirs.any("weight_bytes")
        table.rows.append(
            [
                model,
                _mib(weights),
                _seconds(mine.median("seconds")),
                _seconds(theirs.median("seconds")),
                _ratio(statistics.median(each) if each else None),
                f"{min(each):.2f}–{max(each):.2f}" if each else "",
                _ratio(statistics.median(processor) if processor else None),
                _mib(mine.largest("resident")),
                _mib(theirs.largest("resident")),
                _mib(memory_bound(weights, form) if weights is not None else None),
                _count(mine.any("nodes")),
                _count(theirs.any("nodes")),
                _mib(mine.any("file_bytes")),
                _mib(theirs.any("file_bytes")),
                _difference(mine),
                _difference(theirs),
            ]
        )
    return table


def failure_table(samples: Sequence[Result]) -> Table:
    """What did not come through, with what was said."""
    table = Table("Not converted", ["model", "tool", "form", "said"])
    seen: set[tuple[str, str, str]] = set()
    for s in samples:
        key = (s["model"], s["tool"], s["form"])
        if "failure" in s and key not in seen:
            seen.add(key)
            table.rows.append([*key, s["failure"].splitlines()[0][:160]])
    return table


def stack_table(samples: Sequence[Result]) -> Table:
    """One row a depth."""
    columns = ["model", "s", "export alone", "torch.onnx", "to export", "processor", "to torch.onnx", "processor"]
    columns += ["peak MiB", "export alone", "nodes"]
    table = Table("Growth with depth", columns)
    for model in models_of(samples):
        of = {tool: cell(samples, model, tool, "external") for tool in (OURS, EXPORT, PEER)}
        keys = [(tool, key) for tool in (EXPORT, PEER) for key in ("seconds", "processor_seconds")]
        beside = [ratios(samples, model, "external", key, tool) for tool, key in keys]
        table.rows.append(
            [
                model,
                *(_seconds(each.median("seconds")) for each in of.values()),
                *(_ratio(statistics.median(each) if each else None) for each in beside),
                *(_mib(of[tool].largest("resident")) for tool in (OURS, EXPORT)),
                _count(of[OURS].any("nodes")),
            ]
        )
    return table


# ---- demands -------------------------------------------------------------------------------------------


def conversion_demands(samples: Sequence[Result], forms: Iterable[str]) -> list[Demand]:
    """The lines of acceptance for conversions without verification."""
    found = [_all_convert(samples)]
    for form in forms:
        found += [*_time_demands(samples, form), _memory_demand(samples, form), _agreement_demand(samples, form)]
    return found


def verified_demands(samples: Sequence[Result]) -> list[Demand]:
    """The lines of acceptance for conversions with verification on."""
    each = median_ratios(samples, "external", "seconds")
    found = [_all_convert(samples)]
    text = f"verified conversion takes at most {VERIFIED_BOUND:g} × theirs"
    if not each:
        return [*found, Demand(text, "not measured", None)]
    mean, (worst, most) = geometric_mean(each.values()), _worst(each)
    found.append(Demand(f"{text} on the geometric mean", _over(mean, each), mean <= VERIFIED_BOUND))
    found.append(Demand(f"{text} for every model", f"{most:.2f} × ({worst})", most <= VERIFIED_BOUND))
    return found


def stack_demands(samples: Sequence[Result]) -> list[Demand]:
    """The lines of acceptance for growth with depth."""
    deepest = models_of(samples)[-1]
    beside = ratios(samples, deepest, "external", "seconds", EXPORT)
    text = f"{deepest} takes at most {STACK_BOUND:g} × torch.export alone"
    found = [Demand(text, "not measured", None)]
    if beside:
        middle = statistics.median(beside)
        processor = statistics.median(ratios(samples, deepest, "external", "processor_seconds", EXPORT))
        found = [Demand(text, f"{middle:.2f} ×, {processor:.2f} × in processor time", middle <= STACK_BOUND)]
    times = [(m, cell(samples, m, OURS, "external").median("seconds")) for m in models_of(samples)]
    for (small, before), (large, after) in itertools.pairwise(times):
        if before is not None and after is not None:
            growth = after / before
            text = f"{large} takes at most {GROWTH_BOUND:g} × {small}, which has a quarter of its layers"
            found.append(Demand(text, f"{growth:.2f} ×", growth <= GROWTH_BOUND))
    return found


def _all_convert(samples: Sequence[Result]) -> Demand:
    models = models_of(samples)
    failed = [m for m in models if any(s["model"] == m and s["tool"] == OURS and "failure" in s for s in samples)]
    theirs = [m for m in models if any(s["model"] == m and s["tool"] == PEER and "failure" in s for s in samples)]
    measured = f"{len(models) - len(failed)} of {len(models)}" + (f"; not {', '.join(failed)}" if failed else "")
    if theirs:
        measured += f"; torch.onnx does not convert {', '.join(theirs)}"
    return Demand("every model converts", measured, not failed)


def _time_demands(samples: Sequence[Result], form: str) -> list[Demand]:
    each = median_ratios(samples, form, "seconds")
    mean_text = f"{form}: at most {MEAN_BOUND:g} × their time on the geometric mean"
    worst_text = f"{form}: no model takes longer"
    if not each:
        return [Demand(text, "not measured", None) for text in (mean_text, worst_text)]
    mean, (worst, most) = geometric_mean(each.values()), _worst(each)
    processor = geometric_mean(median_ratios(samples, form, "processor_seconds").values())
    return [
        Demand(mean_text, f"{_over(mean, each)}, {processor:.2f} × in processor time", mean <= MEAN_BOUND),
        Demand(worst_text, f"{most:.2f} × ({worst})", most <= WORST_BOUND),
    ]


def _memory_demand(samples: Sequence[Result], form: str) -> Demand:
    text = f"{form}: peak memory at most {MEMORY_SHARE[form]:g} × weights + 100 MiB"
    used: dict[str, tuple[float, float]] = {}
    for model in models_of(samples):
        mine = cell(samples, model, OURS, form)
        peak, weights = mine.largest("resident"), mine.any("weight_bytes")
        if peak is not None and weights is not None:
            used[model] = (peak, memory_bound(weights, form))
    if not used:
        return Demand(text, "not measured", None)
    worst = max(used, key=lambda m: used[m][0] / used[m][1])
    peak, bound = used[worst]
    over = [m for m, (p, b) in used.items() if p > b]
    measured = f"{mib(peak)} of {mib(bound)} MiB ({worst})" + (f"; over: {', '.join(over)}" if over else "")
    return Demand(text, measured, not over)


def _agreement_demand(samples: Sequence[Result], form: str) -> Demand:
    text = f"{form}: ONNX Runtime computes what the module computes, within {DIFFERENCE_BOUND:g} of its largest value"
    checked = [s for s in samples if s["tool"] == OURS and s["form"] == form and "difference" in s]
    if not checked:
        return Demand(text, "not checked", None)
    wrong = [s for s in checked if s["difference"] is None or not s["difference"] <= DIFFERENCE_BOUND]
    if wrong:
        named = [f"{s['model']} ({s.get('difference_failure') or s['difference']})" for s in wrong]
        return Demand(text, f"not {', '.join(named)}", False)
    worst = max(checked, key=lambda s: float(s["difference"]))
    return Demand(text, f"{worst['difference']:.1e} ({worst['model']})", True)


def _worst(each: dict[str, float]) -> tuple[str, float]:
    return max(each.items(), key=lambda item: item[1])


def _over(mean: float, each: dict[str, float]) -> str:
    return f"{mean:.2f} × over {len(each)} model{'s' if len(each) > 1 else ''}"


# ---- cells ---------------------------------------------------------------------------------------------


def _seconds(value: float | None) -> str:
    return "—" if value is None else f"{value:.2f}"


def _ratio(value: float | None) -> str:
    return "—" if value is None else f"{value:.2f}"


def _mib(value: float | None) -> str:
    return "—" if value is None else mib(value)


def _count(value: float | None) -> str:
    return "—" if value is None else f"{value:.0f}"


def _difference(of: Cell) -> str:
    checked = [s for s in of.samples if "difference" in s]
    if not checked:
        return "—"
    return "refused" if checked[0]["difference"] is None else f"{checked[0]['difference']:.0e}"
