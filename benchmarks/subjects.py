"""The zoo's models as things to convert: the module, its example arguments, its dynamic dims in each tool's terms.

Owns the loading of tests/zoo without putting a folder on `sys.path` (the root's and the tests' folders have names that
other libraries have too), and the count of a module's weights.
"""

from __future__ import annotations

import importlib
import importlib.util
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from torch import nn

    from tests.zoo import Entry

ROOT = Path(__file__).resolve().parent.parent
_ZOO = ROOT / "tests" / "zoo"


@dataclass(frozen=True)
class Subject:
    """A model loaded and ready: nothing of it is left to be built when the clock starts.

    `inputs` are the example arguments by name. `dynamic` names dims as `dragoman.convert` takes them, input -> {axis:
    symbol}; `dynamic_shapes` the same for `torch.export`, one `Dim` with its range for each symbol, every input named.
    """

    name: str
    module: nn.Module
    args: tuple[Any, ...]
    kwargs: dict[str, Any]
    inputs: dict[str, Any]
    dynamic: dict[str, dict[int, str]]
    dynamic_shapes: dict[str, Any]

    @property
    def weight_bytes(self) -> int:
        """Bytes of parameters and buffers; storage that several share counts once."""
        tensors = [*self.module.parameters(), *self.module.buffers()]
        return sum({t.untyped_storage().data_ptr(): t.untyped_storage().nbytes() for t in tensors}.values())


def entries() -> dict[str, Entry]:
    """Every entry of the zoo by name."""
    return importlib.import_module(f"{_load_zoo()}.models").BY_NAME


def subject(name: str) -> Subject:
    """Build one model of the zoo and its example arguments."""
    import torch

    entry = entries()[name]
    module = entry.factory()
    args, kwargs = entry.arguments(entry.example)
    inputs = entry.inputs(entry.example)
    dynamic = {each: dict(axes) for each, axes in entry.dynamic.items()}
    dims = {symbol: torch.export.Dim(symbol, min=low, max=high) for symbol, (low, high) in entry.ranges.items()}
    shapes = {each: {a: dims[s] for a, s in dynamic.get(each, {}).items()} or None for each in inputs}
    return Subject(name, module, args, kwargs, inputs, dynamic, shapes)


def _load_zoo() -> str:
    name = "dragoman_zoo"
    if name not in sys.modules:
        file, places = _ZOO / "__init__.py", [str(_ZOO)]
        spec = importlib.util.spec_from_file_location(name, file, submodule_search_locations=places)
        assert spec is not None
        assert spec.loader is not None
        package = importlib.util.module_from_spec(spec)
        sys.modules[name] = package
        spec.loader.exec_module(package)
    return name
