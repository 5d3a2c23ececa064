"""Emitters: one folder per target, each turning a legal graph into an artefact.

Owns the tables from IR operation to target. Imports `dragoman.ir`, `dragoman.passes.legalize` and
`dragoman.kernels`. Refuses, with a reason for each, the operations that a target cannot express.
"""
