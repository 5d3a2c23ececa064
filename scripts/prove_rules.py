"""Proves the rewrite rules with z3 and prints what was shown of each: `make prove`, or with names of rules.

Exit status 1 if a rule is refuted, or if fewer than two rules in three are proved.
"""

from __future__ import annotations

import argparse
import sys

from rich.console import Console
from rich.table import Table

from dragoman.passes import pipelines
from dragoman.passes.rewrite import Rule
from dragoman.passes.smt.prove import RuleProof, prove_rule, share
from dragoman.passes.smt.solve import Answer

LEAST = 0.66
OUTSIDE = (
    "Proved over the reals and the unbounded integers, within the bound given. Outside of these proofs: rounding, "
    "NaN and infinities, integers that wrap. Divisors are not zero, radicands not negative."
)


def main() -> int:
    """Prove the rules named on the command line, or all of them."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("rules", nargs="*", help="names of rules; all if none is given")
    parser.add_argument("--seconds", type=float, default=30.0, help="time for one rule")
    parser.add_argument("--extents", type=int, default=4, help="the largest extent")
    parser.add_argument("--count", type=int, default=64, help="how many choices of extents for a sample")
    options = parser.parse_args()
    rules: dict[str, Rule] = {rule.name: rule for rule in pipelines.all_rules()}
    unknown = sorted(set(options.rules) - set(rules))
    if unknown:
        parser.error(f"there is no rule named {unknown[0]}")
    console = Console()
    proofs: list[RuleProof] = []
    for name in options.rules or rules:
        proof = prove_rule(rules[name], most=options.extents, count=options.count, seconds=options.seconds)
        proofs.append(proof)
        print(f"{name}: {proof.answer.value}, {proof.seconds:.1f} s", file=sys.stderr, flush=True)
    console.print(_table(proofs))
    console.print(OUTSIDE)
    refuted = [p for p in proofs if p.answer is Answer.REFUTED]
    part = share(proofs)
    console.print(f"{sum(p.answer is Answer.PROVED for p in proofs)} of {len(proofs)} rules proved: {part:.0%}")
    return int(bool(refuted) or (part < LEAST and not options.rules))


def _table(proofs: list[RuleProof]) -> Table:
    table = Table("rule", "verdict", "bound, or why", "by search", "seconds")
    for p in proofs:
        told = p.bound if p.answer is Answer.PROVED else p.reason
        table.add_row(p.rule, p.answer.value, told, str(p.searched), f"{p.seconds:.1f}")
    return table


if __name__ == "__main__":
    sys.exit(main())
