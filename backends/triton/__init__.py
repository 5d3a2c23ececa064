"""Emits Triton kernels: a graph cut into templates with generated hooks, and generated kernels between them.

Owns the spelling of operations in Triton, the plan of memory, and the writing of a folder that needs torch and Triton
only. Importing this imports neither.
"""

from __future__ import annotations

from dragoman.backends.triton.emitter import Emission, emit
from dragoman.backends.triton.runner import FolderRunner
from dragoman.backends.triton.table import supports
from dragoman.backends.triton.write import Saved, Staging, check_destination, save

__all__ = ["Emission", "FolderRunner", "Saved", "Staging", "check_destination", "emit", "save", "supports"]
