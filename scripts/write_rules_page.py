#!/usr/bin/env python3
"""Writes docs/rules.md: every rewrite rule with its diagram, where it is defined, its samples, and what proves it.

python scripts/write_rules_page.py            # writes the page
python scripts/write_rules_page.py --check    # ends with status 1 if the page is not what would be written
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterable
from pathlib import Path

from dragoman.ir.exact import Outcome
from dragoman.passes.check import RewriteChecker
from dragoman.passes.pipelines import all_rules
from dragoman.passes.recognition.recogniser import Recogniser
from dragoman.passes.recognition.spelling import spellings_of
from dragoman.passes.rewrite import Rule, apply_rules

PAGE = Path(__file__).resolve().parent.parent / "docs" / "rules.md"

HEAD = """# Rewrite rules

Every rule of the project, written by `scripts/write_rules_page.py` and compared with the rules by a test. Proof A is
equality over a finite field at the samples' shapes, proof B agreement in float64 and in the declared precision; both
are repeated wherever a rule fires in a conversion. `make prove` proves rules for all numbers with an SMT solver.

"""


def page() -> str:
    """The whole page."""
    rules = all_rules()
    written = [r for r in rules if not isinstance(r, Recogniser)]
    found = [r for r in rules if isinstance(r, Recogniser)]
    text = HEAD + f"{len(written)} rules are written down, {len(found)} follow from decompositions.\n\n"
    text += "## Written down\n\n| rule | rewrites | samples | proof A | proof B |\n| --- | --- | ---: | ---: | ---: |\n"
    text += "".join(f"| {r.name} | `{_cell(r.diagram)}` | {_proofs(r)} |\n" for r in written)
    text += (
        "\n## Recognised\n\nEach finds one op in what spells it out: its decomposition and the other forms listed"
        " beside it in the op's definition, at any type, with both orders of commutative operands.\n\n"
        "| rule | forms | samples | proof A | proof B |\n| --- | ---: | ---: | ---: | ---: |\n"
    )
    text += "".join(f"| {r.name} | {len(spellings_of(r.op))} | {_proofs(r)} |\n" for r in found)
    return text


def _proofs(rule: Rule) -> str:
    """Samples, and on how many firings each proof held."""
    checker = RewriteChecker()
    graphs = list(rule.sample_graphs())
    for graph in graphs:
        apply_rules(graph, [rule], checker)
    firings = checker.firings
    exact = sum(f.exact == Outcome.EQUAL.value for f in firings)
    local = sum(f.local == "ok" for f in firings)
    first = f"{exact} of {len(firings)}" + ("" if rule.exact else ": " + _cell(rule.why_inexact))
    return f"{len(graphs)} | {first} | {local} of {len(firings)}"


def _cell(text: str) -> str:
    return text.replace("|", "\\|")


def main(arguments: Iterable[str]) -> int:
    """Write or compare; 1 if they differ."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n", maxsplit=1)[0])
    parser.add_argument("--check", action="store_true", help="compare only")
    options = parser.parse_args(list(arguments))
    text = page()
    if options.check:
        same = PAGE.is_file() and PAGE.read_text(encoding="utf-8") == text
        print(f"{PAGE.name} is {'what the rules say' if same else 'out of date: run scripts/write_rules_page.py'}")
        return int(not same)
    PAGE.write_text(text, encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
