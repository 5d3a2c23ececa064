"""The tables and demands of ort_cpu.py."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from fresh_process import Result
from tables import Demand, Table

PEER = "torch.onnx"
PORTABLE_AT_MOST = 1.02
ORT_MEAN_BELOW = 0.95
ORT_BELOW = 0.92
TRANSFORMERS = ("bert_base", "vit_base_patch16_224", "swin_tiny_patch4_window7_224", "t5_small", "llama")
_AGREES = 1e-3  # parts of the largest value; a file beyond it computes something else
_RESAMPLES = 500


def ratio(sample: Result, ours: str, theirs: str = PEER) -> tuple[float, float, float] | None:
    """The ratio of medians, and the middle 95 % of it over resampled rounds. None where either was not timed."""
    rounds = sample.get("rounds", {})
    if ours not in rounds or theirs not in rounds:
        return None
    mine, other = np.array(rounds[ours]), np.array(rounds[theirs])
    chance = np.random.default_rng(0)
    picked = chance.integers(0, len(mine), size=(_RESAMPLES, len(mine)))
    again = np.median(mine[picked], axis=1) / np.median(other[picked], axis=1)
    low, high = np.quantile(again, (0.025, 0.975))
    return float(np.median(mine) / np.median(other)), float(low), float(high)


def geometric_mean(values: Sequence[float]) -> float:
    """NaN of nothing."""
    return math.exp(sum(map(math.log, values)) / len(values)) if values else math.nan


def told(sample: Result) -> str:
    """One line while it runs."""
    if "failure" in sample:
        return f"{sample['model']}: {sample['failure'].splitlines()[-1][:160]}"
    medians = {name: float(np.median(each)) * 1e3 for name, each in sample["rounds"].items()}
    return f"{sample['model']}: " + ", ".join(f"{name} {each:.1f} ms" for name, each in medians.items())


def tables(samples: Sequence[Result]) -> list[Table]:
    """Latency, ratios, and what went wrong."""
    columns = ("model", "torch.onnx + onnxsim, ms", "portable, ms", "ort, ms", "portable ratio", "ort ratio")
    latency = Table("Latency and ratios to torch.onnx + onnxsim", (*columns, "OpenVINO ratio"))
    nodes = Table("Nodes and forms", ("model", "portable", "ort", "torch.onnx + onnxsim", "peer's form", "rounds"))
    for each in samples:
        rounds, exports = each.get("rounds", {}), each["exports"]
        cells = [_median(rounds.get(name)) for name in (PEER, "portable", "ort")]
        ratios = [_ratio_text(ratio(each, name)) for name in ("portable", "ort", "openvino")]
        latency.rows.append((each["model"], *cells, *ratios))
        counts = [str(exports.get(name, {}).get("nodes", "—")) for name in ("portable", "ort", PEER)]
        done = str(max(map(len, rounds.values()), default=0))
        nodes.rows.append((each["model"], *counts, exports.get(PEER, {}).get("form", "—"), done))
    failures = _failures(samples)
    return [latency, nodes, *([failures] if failures.rows else [])]


def _median(rounds: Sequence[float] | None) -> str:
    return f"{float(np.median(rounds)) * 1e3:.2f}" if rounds else "—"


def _ratio_text(found: tuple[float, float, float] | None) -> str:
    return f"{found[0]:.3f} [{found[1]:.3f}, {found[2]:.3f}]" if found else "—"


def _failures(samples: Sequence[Result]) -> Table:
    table = Table("What failed", ("model", "who", "what"))
    for each in samples:
        model = each["model"]
        if "failure" in each:
            table.rows.append((model, "all", each["failure"].splitlines()[-1][:200]))
        for tool, export in each["exports"].items():
            for said in (export.get("failure"), *export.get("failures", ())):
                if said:
                    table.rows.append((model, tool, said[:200]))
            if export.get("simplified", "yes") != "yes":
                table.rows.append((model, "onnxsim", export["simplified"]))
        table.rows += [(model, who, said[:200]) for who, said in each.get("failures", {}).items()]
    return table


def demands(samples: Sequence[Result]) -> list[Demand]:
    """What is asked of the table, with the models that miss it."""
    portable, ort = _ratios(samples, "portable"), _ratios(samples, "ort")
    worst = {m: r for m, r in portable.items() if r > PORTABLE_AT_MOST}
    mean = geometric_mean(list(ort.values()))
    named = {m: ort.get(m, math.nan) for m in TRANSFORMERS if any(s["model"] == m for s in samples)}
    off = {
        f"{s['model']} ({name})": d for s in samples for name, d in s.get("differences", {}).items() if not d <= _AGREES
    }
    return [
        Demand(
            f"portable: at most {PORTABLE_AT_MOST} x for each of {len(samples)} models",
            f"{geometric_mean(list(portable.values())):.3f} x on the geometric mean of {len(portable)}"
            + (f"; above: {_listed(worst)}" if worst else ""),
            not worst if portable else None,
        ),
        Demand(
            f"ort: below {ORT_MEAN_BELOW} x on the geometric mean",
            f"{mean:.3f} x over {len(ort)} models",
            mean < ORT_MEAN_BELOW if ort else None,
        ),
        Demand(
            f"ort: below {ORT_BELOW} x for each of {', '.join(TRANSFORMERS)}",
            _listed(named),
            all(r < ORT_BELOW for r in named.values()) if named else None,
        ),
        Demand("all files compute the same", f"{len(off)} do not: {_listed(off)}" if off else "they do", not off),
    ]


def _ratios(samples: Sequence[Result], ours: str) -> dict[str, float]:
    found = {each["model"]: ratio(each, ours) for each in samples}
    return {model: each[0] for model, each in found.items() if each}


def _listed(ratios: dict[str, float]) -> str:
    return ", ".join(f"{model} {each:.3g}" for model, each in ratios.items())


def read_note(path: Path) -> Result:
    """What was written beside an export."""
    return json.loads(path.read_text(encoding="utf-8"))


def write_note(path: Path, result: Result) -> None:
    """What an export said, for the next run over the same files."""
    path.write_text(json.dumps(result), encoding="utf-8")


def remove_files(folder: Path, model: str) -> None:
    """All exports of one model."""
    for path in folder.glob(f"{model}.*"):
        path.unlink()
