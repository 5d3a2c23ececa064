"""Reads PyTorch models through `torch.export`: modules with example arguments, exported programs, Hugging Face
directories.

Owns the translation of exported graphs, their dynamic dims and their state. Refuses what no table entry
translates, naming the module path and the source line of each occurrence.
"""

from __future__ import annotations

from dragoman.frontends.imported import Imported, Source, State
from dragoman.frontends.pytorch.load import import_directory, import_exported, import_module
from dragoman.frontends.pytorch.runner import SourceRunner
from dragoman.frontends.pytorch.table.registry import translates

__all__ = [
    "Imported",
    "Source",
    "SourceRunner",
    "State",
    "import_directory",
    "import_exported",
    "import_module",
    "translates",
]
