"""Primitives that are read and interpreted but not written: ONNX has no operator, and no spelling is made here yet."""

from __future__ import annotations

from dragoman.backends.onnx.table import refuses

_FACTORISATIONS = ("lu", "qr", "svd", "eigh")
_COMPLEX = ("complex", "real", "imag")
_TRANSFORMS = ("fft", "rfft", "irfft")

for _name in _FACTORISATIONS:
    refuses(_name, "ONNX has no factorisations of matrices")
for _name in _COMPLEX:
    refuses(_name, "ONNX has no complex numbers but as two real ones")
for _name in _TRANSFORMS:
    refuses(_name, "ONNX's DFT takes complex numbers as two real ones")
