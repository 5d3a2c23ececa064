"""Proof of rewrite rules by an SMT solver (z3), offline: every value at once, on every small shape.

`prove.prove_rule` is the door. Nothing here is imported by a conversion, and z3 only by `terms`, `array` and `solve`.
"""
