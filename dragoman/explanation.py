"""`explain`: which rules fired in a model, and what stopped those that nearly did."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from dragoman.inputs import InputSpec
from dragoman.ir.errors import printable
from dragoman.model import load
from dragoman.passes.explain import Miss, Place, RuleStory
from dragoman.stages import Progress, silent

_SHOWN = 3  # places of each kind, and near misses of each rule, unless the rule was asked for


@dataclass(frozen=True)
class Explanation:
    """What each rule did. `rule` is the one that was asked for; then all of its near misses are listed."""

    source: str
    rule: str | None
    stories: Sequence[RuleStory]

    def __str__(self) -> str:
        return "\n".join(printable(line) for line in self._lines())

    def _lines(self) -> list[str]:
        fired = [s for s in self.stories if s.fired]
        missed = [s for s in self.stories if s.misses]
        lines = [self.source]
        if fired:
            lines += ["", "  rules that fired"]
            for story in sorted(fired, key=lambda s: -len(s.fired)):
                lines.append(f"    {len(story.fired):>5}×  {story.name}:  {story.diagram}")
                lines += [f"            {place}" for place in self._some(_counted(story.fired))]
        if missed:
            lines += ["", "  near misses"]
            for story in missed:
                lines.append(f"           {story.name}:  {story.diagram}")
                shown = story.misses if self.rule else story.misses[:_SHOWN]
                for miss in shown:
                    lines.append(f"    {len(miss.places):>5}×  {_told(miss)}")
                    lines += [f"            at {place}" for place in self._some([str(p) for p in miss.places])]
                if len(shown) < len(story.misses):
                    lines.append(f"            and {len(story.misses) - len(shown)} further off: --rule {story.name}")
        if not fired and not missed:
            what = f"the rule {self.rule}" if self.rule else "any rule"
            lines.append(f"  nothing comes near {what}")
        return lines

    def _some(self, texts: list[str]) -> list[str]:
        if self.rule or len(texts) <= _SHOWN:
            return texts
        return [*texts[:_SHOWN], f"… and {len(texts) - _SHOWN} more places"]


def explain(
    source: Any,
    rule: str | None = None,
    *,
    args: Sequence[Any] = (),
    kwargs: Mapping[str, Any] | None = None,
    params: Any = None,
    dynamic: Mapping[str, Mapping[int, Any]] | None = None,
    inputs: Sequence[str | InputSpec] = (),
    trust: bool = False,
    progress: Progress = silent,
) -> Explanation:
    """Read a model, optimise it as `convert` does, and tell which rules fired where and what stopped the others.

    `rule` asks for one, by its name or that of the op it finds ("attention"). The remaining arguments are those of
    `load`. Raises UsageError for a rule that does not exist, and every error of `load`.
    """
    from dragoman.passes.explain import explain as told
    from dragoman.passes.explain import known_rule

    named = known_rule(rule) if rule else None
    model = load(source, args, kwargs, params=params, dynamic=dynamic, inputs=inputs, trust=trust, progress=progress)
    progress("optimise")
    return Explanation(model.spec, named, told(model.graph, named))


def _counted(places: Sequence[Place]) -> list[str]:
    counted = Counter(map(str, places))
    return [text if count == 1 else f"{text}  ({count}×)" for text, count in counted.items()]


def _told(miss: Miss) -> str:
    matched = f" ({miss.depth} of {miss.of} nodes matched)" if miss.of else ""
    return f"stopped at {miss.op}: {miss.reason}{matched}"
