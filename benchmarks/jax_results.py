"""The tables and demands of jax_models.py."""

from __future__ import annotations

import math
from collections.abc import Sequence

from fresh_process import Result
from jax_export import PEER
from ort_cpu_results import geometric_mean, ratio
from ort_cpu_results import told as told_rounds
from tables import Demand, Table

TIME_AT_MOST = 0.5
LATENCY_AT_MOST = 1.0
_AGREES = 1e-3  # parts of the largest value; a file beyond it computes something else


def told(sample: Result) -> str:
    """One line while it runs."""
    return told_rounds(sample)


def tables(samples: Sequence[Result]) -> list[Table]:
    """Nodes, time to convert, latency, and what went wrong."""
    exports = Table(
        "Exports", ("model", "nodes, portable", "nodes, ort", "nodes, jax2onnx", "s, ours", "s, jax2onnx", "ratio")
    )
    latency = Table("Latency", ("model", "jax2onnx, ms", "portable, ms", "ort, ms", "portable ratio", "ort ratio"))
    for each in samples:
        made = each["exports"]
        nodes = [str(made.get(tool, {}).get("nodes", "—")) for tool in ("portable", "ort", PEER)]
        seconds = [made.get(tool, {}).get("seconds", math.nan) for tool in ("portable", PEER)]
        shown = ["—" if math.isnan(s) else f"{s:.2f}" for s in (*seconds, seconds[0] / seconds[1])]
        exports.rows.append((each["model"], *nodes, *shown))
        rounds = each.get("rounds", {})
        medians = [_milliseconds(rounds.get(tool)) for tool in (PEER, "portable", "ort")]
        latency.rows.append((each["model"], *medians, *(_shown(each, tool) for tool in ("portable", "ort"))))
    failures = _failures(samples)
    return [exports, latency, *([failures] if failures.rows else [])]


def _milliseconds(rounds: Sequence[float] | None) -> str:
    return f"{sorted(rounds)[len(rounds) // 2] * 1e3:.3f}" if rounds else "—"


def _shown(sample: Result, tool: str) -> str:
    found = ratio(sample, tool, PEER)
    return f"{found[0]:.3f} [{found[1]:.3f}, {found[2]:.3f}]" if found else "—"


def _failures(samples: Sequence[Result]) -> Table:
    table = Table("What failed", ("model", "who", "what"))
    for each in samples:
        for tool, made in each["exports"].items():
            if "failure" in made:
                table.rows.append((each["model"], tool, _last_line(made["failure"])))
        table.rows += [
            (each["model"], f"{tool} when run", _last_line(s)) for tool, s in each.get("failures", {}).items()
        ]
        if "failure" in each:
            table.rows.append((each["model"], "all", _last_line(each["failure"])))
    return table


def _last_line(text: str) -> str:
    lines = [line.strip() for line in text.splitlines() if ": " in line] or [text.strip()]
    return lines[-1][:200]


def demands(samples: Sequence[Result]) -> list[Demand]:
    """What is asked of the tables, with the models that miss it."""
    ours = [f"{s['model']} ({tool})" for s in samples for tool in ("portable", "ort") if not _runs(s, tool)]
    both = [s for s in samples if _runs(s, PEER) and _runs(s, "portable")]
    nodes = {s["model"]: s["exports"]["portable"]["nodes"] / s["exports"][PEER]["nodes"] for s in both}
    times = {s["model"]: s["exports"]["portable"]["seconds"] / s["exports"][PEER]["seconds"] for s in both}
    found = {s["model"]: ratio(s, "portable", PEER) for s in both}
    latency = {model: each[0] for model, each in found.items() if each}
    slower = {m: each[0] for m, each in found.items() if each and each[1] > LATENCY_AT_MOST}
    off = {
        f"{s['model']} ({tool})": d for s in samples for tool, d in s.get("differences", {}).items() if not d <= _AGREES
    }
    count = f"{len(both)} models where jax2onnx's file runs"
    return [
        Demand("every model converts and runs", _listed(dict.fromkeys(ours, 1)) or f"{len(samples)} do", not ours),
        _at_most(f"no more nodes for each of {count}", nodes, 1.0),
        _at_most(f"at most {TIME_AT_MOST} x its time to convert for each", times, TIME_AT_MOST),
        Demand(
            "no slower than it for each, outside of what resampled rounds differ by",
            f"{geometric_mean(list(latency.values())):.3f} x on the geometric mean"
            + (f"; above: {_listed(slower)}" if slower else ""),
            not slower if latency else None,
        ),
        Demand("all files compute the same", f"{len(off)} do not: {_listed(off)}" if off else "they do", not off),
    ]


def _runs(sample: Result, tool: str) -> bool:
    return tool in sample.get("rounds", {})


def _at_most(demand: str, ratios: dict[str, float], limit: float) -> Demand:
    above = {model: each for model, each in ratios.items() if each > limit}
    mean = f"{geometric_mean(list(ratios.values())):.3f} x on the geometric mean"
    return Demand(demand, mean + (f"; above: {_listed(above)}" if above else ""), not above if ratios else None)


def _listed(ratios: dict[str, float]) -> str:
    return ", ".join(f"{model} {each:.3g}" for model, each in ratios.items())
