"""Readers: one importer per framework, each turning a model of that framework into the IR.

Owns the tables from source operator to IR operation. Imports `dragoman.ir` only, and a framework only when one
of its models is being read. Refuses, in one list, every operator that has no translation; never guesses.
"""
