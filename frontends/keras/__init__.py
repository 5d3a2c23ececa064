"""Reads models of Keras 3, whatever backend they are on, through the frontend of that backend.

Owns the inputs and outputs of Keras models. Refuses files whose layers are not Keras' own.
"""

from __future__ import annotations

from dragoman.frontends.keras.load import import_keras

__all__ = ["import_keras"]
