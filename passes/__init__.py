"""Rewriting: rules, the driver that applies them, the checks made where they fire, and the pipelines.

Owns every change made to a graph between a frontend and a backend. Imports `dragoman.ir` only. Refuses a
rule without samples, since an unproven rewrite may not exist.
"""
