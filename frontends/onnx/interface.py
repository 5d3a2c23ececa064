"""The types of a model's inputs: as the file declares them, completed or narrowed by what the caller says.

A `dim_param` is a symbol of that name, or an expression over symbols; a dim that says nothing gets a symbol of its own.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping, Sequence

import onnx

from dragoman.frontends.onnx.dtypes import dtype_of_code
from dragoman.ir.dims import Dim, DimExpr, Symbol, parse_dim, substitute, symbols
from dragoman.ir.errors import DragomanError, Malformed, UsageError
from dragoman.ir.types import TensorType


class InputDims:
    """Reads the inputs of one model; `symbols` are those met, by name."""

    def __init__(self, types: Mapping[str, TensorType], dynamic: Mapping[str, Mapping[int, object]]) -> None:
        self.symbols: dict[str, Symbol] = {}
        self._types = types
        self._dynamic = dynamic
        self._renamed: dict[str, str] = {}
        self._texts: set[str] = set()
        self.limits: dict[str, tuple[int, str]] = {}  # found while importing: the highest value, and where
        for type in types.values():
            self.symbols.update(type.symbols())

    def again(self) -> InputDims:
        """The same for another import, with the limits found so far."""
        other = InputDims(self._types, self._dynamic)
        other.limits.update(self.limits)
        return other

    def limited(self, symbol: Symbol) -> Symbol:
        """The symbol within the limit that the model sets."""
        high, _ = self.limits.get(symbol.name, (symbol.high, ""))
        return Symbol(symbol.name, symbol.low, min(symbol.high, high))

    def meet(self, texts: Collection[str]) -> None:
        """Tell all `dim_param`s that there are: those that are names keep them."""
        self._texts = set(texts)

    def check_names(self, inputs: Sequence[str]) -> None:
        """Raise UsageError where the caller names an input that the model does not have."""
        for name in (*self._types, *self._dynamic):
            if name not in inputs:
                raise UsageError(f"the model has no input {name!r}; its inputs are {', '.join(inputs) or 'none'}")

    def type_of(self, declared: onnx.ValueInfoProto) -> TensorType:
        """The type of an input. Raises UsageError for one without a shape that the caller does not give either."""
        proto, said = declared.type.tensor_type, self._types.get(declared.name)
        dtype = dtype_of_code(proto.elem_type) if proto.elem_type else (said.dtype if said else None)
        if dtype is None:
            raise Malformed(f"the input {declared.name!r} has no element type")
        if said is not None and said.dtype != dtype:
            raise UsageError(f"--input {declared.name}:{said}: the model's input is {dtype}, not {said.dtype}")
        if not proto.HasField("shape"):
            if said is None:
                raise UsageError(
                    f"the input {declared.name!r} has no shape: give --input {declared.name}:{dtype}[dims]"
                )
            return said
        dims = [self._dim(d, declared.name, axis) for axis, d in enumerate(proto.shape.dim)]
        if said is not None:
            dims = self._narrowed(declared.name, dims, said)
        for axis, dim in self._dynamic.get(declared.name, {}).items():
            dims[self._axis(declared.name, axis, len(dims))] = self._asked(declared.name, axis, dims, dim)
        return TensorType(dtype, tuple(dims))

    def _dim(self, proto: onnx.TensorShapeProto.Dimension, name: str, axis: int) -> Dim:
        if proto.HasField("dim_value"):
            if proto.dim_value < 0:
                raise Malformed(f"axis {axis} of the input {name!r} has the extent {proto.dim_value}")
            return int(proto.dim_value)
        if not proto.dim_param:
            return self._symbol(f"{name}_{axis}")
        try:
            self._declare(proto.dim_param)
            dim = parse_dim(proto.dim_param, self.symbols)
        except DragomanError:  # a name that is no identifier, or text of another kind
            return self._symbol(proto.dim_param)
        unknown = symbols(dim)
        if len(unknown) > 1 and not unknown.keys() <= self._texts:
            return self._symbol(proto.dim_param)  # `batch-size` is a name, no difference
        self.symbols.update(unknown)
        return dim

    def _declare(self, text: str) -> None:
        """Give symbols that a text names first the ranges that are known of them."""
        for name in set(re.findall(r"[A-Za-z_]\w*", text, re.ASCII)) & self.limits.keys():
            self.symbols.setdefault(name, self.limited(Symbol(name)))

    def _symbol(self, wanted: str) -> Dim:
        """The symbol for a name that may not be an identifier: two such names never become one."""
        known = self._renamed.get(wanted)
        if known is None:
            stem = re.sub(r"\W", "_", wanted, flags=re.ASCII)[:80] or "dim"
            stem = stem if not stem[0].isdigit() else f"dim_{stem}"
            known, number = stem, 0
            while known in self.symbols or (known in self._texts and known != wanted):
                number += 1
                known = f"{stem}_{number}"
            self._renamed[wanted] = known
            self.symbols[known] = self.limited(Symbol(known))
        return self.symbols[known].dim

    def _narrowed(self, name: str, dims: Sequence[Dim], said: TensorType) -> list[Dim]:
        if len(dims) != said.rank:
            raise UsageError(f"--input {name}:{said}: the model's input has rank {len(dims)}")
        for axis, (dim, wanted) in enumerate(zip(dims, said.shape, strict=True)):
            if isinstance(dim, int) and not (isinstance(wanted, int) and wanted == dim):
                raise UsageError(f"--input {name}:{said}: axis {axis} of the model's input is fixed at {dim}")
        return [substitute(d, {n: self.limited(s).dim for n, s in said.symbols().items()}) for d in said.shape]

    def _asked(self, name: str, axis: int, dims: Sequence[Dim], dim: object) -> Dim:
        declared = dims[self._axis(name, axis, len(dims))]
        if isinstance(declared, int):
            raise UsageError(f"dynamic[{name!r}]: axis {axis} of the model's input is fixed at {declared}")
        if isinstance(dim, Symbol):
            dim = self.limited(dim)
            self.symbols[dim.name] = dim
            return dim.dim
        if isinstance(dim, str):
            self._declare(dim)
            read = parse_dim(dim, self.symbols)
            if isinstance(read, DimExpr):
                self.symbols.update(symbols(read))
            return read
        return declared

    @staticmethod
    def _axis(name: str, axis: int, rank: int) -> int:
        if not -rank <= axis < rank:
            raise UsageError(f"dynamic names axis {axis} of {name!r}, which has {rank} dimension(s)")
        return axis % rank
