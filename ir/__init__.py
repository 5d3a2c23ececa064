"""What a model is and what it means: types, operations, graphs, weights, semantics and equivalence.

Owns the intermediate representation and the one standard of proof. Imports nothing else of ours and no
framework: only the standard library, NumPy, `ml_dtypes` and, for some functions of the oracle, SciPy.
"""
