"""The page of a conversion: one file that needs no network, made of the records of a `Report`.

Text of the model reaches the page escaped: by the template, or as JSON that the script shows as text.
"""

from __future__ import annotations

import json
import math
import shlex
from collections.abc import Iterable, Sequence
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from dragoman.bench.results import write_text
from dragoman.certificate import certificate_of
from dragoman.ir.findings import Verdict
from dragoman.summary import size

if TYPE_CHECKING:
    from jinja2 import Environment

    from dragoman.conversion import Report
    from dragoman.ir.findings import Comparison
    from dragoman.passes.explain import RuleStory

_HERE = Path(__file__).parent
_NEAR_MISSES = 24
_ENTITIES = {"<": "\\u003c", ">": "\\u003e", "&": "\\u0026", "\u2028": "\\u2028", "\u2029": "\\u2029"}


def embedded(data: Any) -> str:
    """JSON that no text in it can end: what stands between `<script>` tags."""
    text = json.dumps(_finite(data), ensure_ascii=False, allow_nan=False, separators=(",", ":"))
    return "".join(_ENTITIES.get(c, c) for c in text) if any(c in text for c in _ENTITIES) else text


def _finite(data: Any) -> Any:
    if isinstance(data, dict):
        return {str(k): _finite(v) for k, v in data.items()}
    if isinstance(data, (list, tuple)):
        return [_finite(v) for v in data]
    return (data if math.isfinite(data) else str(data)) if isinstance(data, float) else data


@cache
def environment() -> Environment:
    """Templates, every value escaped."""
    from jinja2 import Environment, FileSystemLoader, StrictUndefined

    made = Environment(loader=FileSystemLoader(_HERE), autoescape=True, undefined=StrictUndefined, trim_blocks=True)
    made.filters["size"] = size
    constants: dict[str, Any] = {"style": (_HERE / "style.css").read_text(encoding="utf-8")}
    made.globals |= constants
    return made


def rendered(
    report: Report, graphs: dict[str, dict[str, Any]], stories: Sequence[RuleStory], remarks: Iterable[str]
) -> str:
    """The page as text. `graphs` are drawings by title, `stories` what the rules did, `remarks` what is not shown."""
    template = environment().get_template("conversion.html.j2")
    return template.render(
        report=report,
        verdict=str(report.verdict) if report.verdict else "NOT VERIFIED",
        holds=report.verdict is not None and report.verdict.holds,
        comparison=report.comparison,
        outputs=_outputs(report.comparison),
        passes=_passes(report),
        proofs={rule.rule: rule for rule in (report.comparison.rules or ()) if rule} if report.comparison else {},
        diagrams={s.name: s.diagram for s in stories},
        misses=_misses(stories),
        stages=_bars(report.seconds),
        remarks=[*map(str, report.notes), *remarks],
        command=_command(report),
        data=embedded(graphs),
        script=(_HERE / "graph.js").read_text(encoding="utf-8"),
    )


def write(path: Path, text: str) -> None:
    """Raises OutputError."""
    write_text(path, text)


def _outputs(comparison: Comparison | None) -> list[dict[str, Any]]:
    """Each output with its errors in every case, on a scale of how far it comes to its bound."""
    if comparison is None:
        return []
    found: list[dict[str, Any]] = []
    for worst in comparison.outputs():
        cases: list[dict[str, Any]] = [
            {"case": case.name, "candidate": o.norm_candidate, "source": o.norm_source, "excess": o.excess}
            for case in comparison.cases
            for o in case.outputs
            if o.name == worst.name
        ]
        for each in cases:
            each["at"] = round(_position(each["candidate"]), 1)
            each["own"] = round(_position(each["source"]), 1)
        found.append({"finding": worst, "cases": cases})
    return found


def _position(error: float) -> float:
    """Where an error stands between 1e-17 and 1, in per cent."""
    if not math.isfinite(error):
        return 100.0
    return min(max((math.log10(error) + 17) / 17 * 100, 0.0), 100.0) if error > 0 else 0.0


def _passes(report: Report) -> list[dict[str, Any]]:
    most = max((p.nodes_before for p in report.passes), default=1) or 1
    return [
        {"record": p, "before": 100 * p.nodes_before / most, "after": 100 * p.nodes_after / most, "ms": p.seconds * 1e3}
        for p in report.passes
        if p.changes or p.seconds > 0.05
    ]


def _misses(stories: Sequence[RuleStory]) -> list[tuple[str, str, Any]]:
    found = [(s.name, s.diagram, miss) for s in stories for miss in s.misses]
    return sorted(found, key=lambda each: -each[2].nearness)[:_NEAR_MISSES]


def _bars(seconds: Any) -> list[tuple[str, float, float]]:
    total = sum(seconds.values()) or 1.0
    return [(name, spent, 100 * spent / total) for name, spent in seconds.items() if spent >= 0.001]


def _command(report: Report) -> str:
    """What verifies the output again, from the certificate that is written after this page; without an output, what
    converts the source.
    """
    if report.verdict is Verdict.DIFFERENT:
        return shlex.join(["dragoman", "convert", report.source, "-o", str(report.path)])
    form = "onnx" if report.opset is not None else "triton"
    return shlex.join(["dragoman", "verify", str(certificate_of(form, report.path))])
