"""Artefacts of `jax.export`: StableHLO, read through the bindings that jaxlib ships and translated by the table for
primitives, which has the same semantics.
"""
