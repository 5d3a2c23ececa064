"""What the caller says is dynamic: `{"x": {0: "batch", 1: "8*seq"}}`, read into dims of the IR.

A leaf of the arguments is a tensor if it has a dtype and a shape, of whichever framework. Refuses names and axes that
the inputs do not have, and example sizes that contradict the expressions.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from dragoman.ir.dims import UNBOUNDED, Dim, DimExpr, Symbol, parse_dim, substitute, symbols, terms_of
from dragoman.ir.errors import Malformed, UsageError

Axes = Mapping[int, Any] | Sequence[Any]
Dynamic = Mapping[str, Axes | None]
Leaf = tuple[str, Any]  # the name of an input and its example


@dataclass(frozen=True)
class Spec:
    """The dynamic dims of the inputs: by input and axis, with their symbols and which of these have a range from the
    caller.
    """

    dims: Mapping[str, Mapping[int, DimExpr]] = field(default_factory=dict[str, Mapping[int, DimExpr]])
    symbols: Mapping[str, Symbol] = field(default_factory=dict[str, Symbol])
    ranged: frozenset[str] = frozenset()

    def __bool__(self) -> bool:
        return bool(self.dims)


def read_spec(dynamic: Dynamic | None, inputs: Sequence[Leaf]) -> Spec:
    """Check a specification against the inputs. Raises UsageError saying what the inputs are called."""
    tensors = {name: leaf for name, leaf in inputs if _is_tensor(leaf)}
    known: dict[str, Symbol] = {}
    ranged: set[str] = set()
    given: list[tuple[str, int, Any]] = []
    for name, axes in (dynamic or {}).items():
        if name not in tensors:
            raise UsageError(f"dynamic names an input {name!r}; the inputs are {', '.join(tensors) or 'none'}")
        for axis, dim in _listed(axes):
            rank = len(tensors[name].shape)
            if not -rank <= axis < rank:
                raise UsageError(f"dynamic names axis {axis} of {name!r}, which has {rank} dimension(s)")
            given.append((name, axis % rank, dim))
    for _, _, dim in given:
        for symbol, has_range in _declared(dim):
            _declare(known, ranged, symbol, has_range)
    dims: dict[str, dict[int, DimExpr]] = {}
    for name, axis, dim in given:
        read = _as_dim(dim, known)
        if isinstance(read, DimExpr):
            dims.setdefault(name, {})[axis] = read
        elif read != tensors[name].shape[axis]:
            raise UsageError(
                f"{name!r} is said to be {read} at axis {axis}, the example is {tensors[name].shape[axis]}"
            )
    return Spec(dims, known, frozenset(ranged))


def _is_tensor(leaf: Any) -> bool:
    return hasattr(leaf, "shape") and hasattr(leaf, "dtype")


def _listed(axes: Axes | None) -> Iterable[tuple[int, Any]]:
    if axes is None:
        return []
    pairs = axes.items() if isinstance(axes, Mapping) else enumerate(axes)
    return [(int(axis), dim) for axis, dim in pairs if dim is not None]


def _declared(dim: Any) -> list[tuple[Symbol, bool]]:
    """The symbols in one entry, and whether it gives their range."""
    if isinstance(dim, Symbol):
        return [(dim, True)]
    if isinstance(dim, DimExpr):
        return [(s, s.high < UNBOUNDED or s.low > 1) for s in symbols(dim).values()]
    if isinstance(dim, str):
        read = _parsed(dim, {})
        return [(s, False) for s in symbols(read).values()] if isinstance(read, DimExpr) else []
    if isinstance(dim, int):
        return []
    if hasattr(dim, "__name__") and hasattr(dim, "min") and not hasattr(dim, "root"):  # torch.export.Dim
        high = dim.max if isinstance(dim.max, int) else UNBOUNDED
        return [
            (Symbol(dim.__name__, max(int(dim.min), 1), min(high, UNBOUNDED)), isinstance(dim.max, int) or dim.min > 1)
        ]
    raise UsageError(
        f"{dim!r} is no dynamic dimension: write a name such as 'batch', an expression such as '8*seq', or a Symbol"
    )


def _declare(known: dict[str, Symbol], ranged: set[str], symbol: Symbol, has_range: bool) -> None:
    if not has_range:
        known.setdefault(symbol.name, symbol)
        return
    if symbol.name in ranged and known[symbol.name] != symbol:
        first = known[symbol.name]
        raise UsageError(
            f"the dynamic dimension {symbol.name!r} is given two ranges: "
            f"{first.low}..{first.high} and {symbol.low}..{symbol.high}"
        )
    known[symbol.name] = symbol
    ranged.add(symbol.name)


def _as_dim(dim: Any, known: Mapping[str, Symbol]) -> Dim:
    if isinstance(dim, Symbol):
        return known[dim.name].dim
    if isinstance(dim, DimExpr):
        return substitute(dim, {n: s.dim for n, s in known.items()})
    if isinstance(dim, str):
        return _parsed(dim, known)
    return dim if isinstance(dim, int) else known[dim.__name__].dim


def _parsed(text: str, known: Mapping[str, Symbol]) -> Dim:
    try:
        return parse_dim(text, known)
    except Malformed as error:
        raise UsageError(f"{text!r} is no dynamic dimension: {error}") from None


# ---- sizes of the example --------------------------------------------------------------------------------------


def example_sizes(spec: Spec, inputs: Sequence[Leaf]) -> dict[str, int]:
    """The value of each symbol in the example inputs. Raises UsageError where they contradict each other."""
    found: dict[str, tuple[int, str]] = {}
    pending = [(n, a, d, leaf.shape[a]) for n, leaf in inputs for a, d in spec.dims.get(n, {}).items()]
    pending.sort(key=lambda entry: len(str(entry[2])))  # plain names first: expressions may need them
    for name, axis, dim, extent in pending:
        open_form = substitute(dim, {s: v for s, (v, _) in found.items()})
        if isinstance(open_form, int):
            if open_form != extent:
                known = ", ".join(f"{s} = {found[s][0]} in {found[s][1]}" for s in symbols(dim))
                raise UsageError(f"the example {name!r} is {extent} at axis {axis}, but {dim} = {open_form} ({known})")
            continue
        symbol, value = _solved(open_form, extent, name, axis)
        found[symbol] = (value, f"{name}[{axis}]")
    return {s: v for s, (v, _) in found.items()}


def _solved(dim: DimExpr, extent: int, name: str, axis: int) -> tuple[str, int]:
    unknown = list(symbols(dim).values())
    if len(unknown) == 1:
        (symbol,) = unknown
        coefficient = dict(terms_of(dim)).get(((symbol, 1),), 0)
        constant = dim - symbol.dim * coefficient
        if coefficient and isinstance(constant, int) and (extent - constant) % coefficient == 0:
            return symbol.name, (extent - constant) // coefficient
    raise UsageError(f"the example {name!r} is {extent} at axis {axis}, which {dim} cannot be for any whole number")
