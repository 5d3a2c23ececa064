"""The operations, one file per family, each defined once: attributes, type rule, semantics, decomposition.

Importing this package registers every operation. Refuses anything that is not an operation.
"""
