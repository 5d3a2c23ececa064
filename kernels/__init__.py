"""Hand-written Triton kernels, one file each, usable alone.

Owns device code, its launchers and the cases that tests and benchmarks share. Imports nothing else of ours.
"""
