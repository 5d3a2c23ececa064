"""Extents as i64 tensors of the emitted model, each computed once per scope and only where a number will not do.

A symbol is read by `Shape` off a value that has it. An expression is computed from its symbols unless some value
already has that extent. What can be written as a constant with 0 (copy) and -1 (infer) needs no node at all:
`reshape_target`.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from dragoman.backends.onnx.scope import Scope
from dragoman.ir.dims import Call, Dim, DimExpr, Symbol, bounds, call, same, symbols
from dragoman.ir.errors import VerifyError
from dragoman.ir.types import Shape, TensorType

if TYPE_CHECKING:
    from dragoman.backends.onnx.emitter import Emitter


class Dims:
    """The extents known to an emitter."""

    def __init__(self, emitter: Emitter) -> None:
        self._e = emitter

    def offer(self, name: str, type: TensorType) -> None:
        """Tell that a value of the current scope has these extents."""
        places = self._e.scope.places
        for axis, dim in enumerate(type.shape):
            if isinstance(dim, DimExpr) and dim not in places:
                places[dim] = (name, axis)

    def define(self, dim: DimExpr, scalar: str) -> None:
        """Tell that a scalar of the current scope is this extent."""
        scope = self._e.scope
        scope.scalars[dim] = scalar
        scope.vectors[dim] = self._e.op("Reshape", scalar, self._e.i64([1]))

    def vector(self, dim: Dim) -> str:
        """The extent as i64[1]."""
        if isinstance(dim, int):
            return self._e.i64([dim])
        return self._located(dim)[0]

    def scalar(self, dim: Dim) -> str:
        """The extent as i64[]."""
        if isinstance(dim, int):
            return self._e.i64(dim)
        vector, home = self._located(dim)
        known = home.scalars.get(dim)
        if known is None:
            with self._e.within(home):
                known = home.scalars[dim] = self._e.op("Squeeze", vector, self._e.i64([0]))
        return known

    def shape(self, dims: Sequence[Dim]) -> str:
        """The extents as i64[n]."""
        if not any(isinstance(d, DimExpr) for d in dims):
            return self._e.i64([int(d) for d in dims])
        if len(dims) == 1:
            return self.vector(dims[0])
        key = tuple(dims)
        for scope in self._e.scope.outwards():
            if key in scope.shapes:
                return scope.shapes[key]
        parts, home = self._parts(dims)
        with self._e.within(home):
            home.shapes[key] = parts[0] if len(parts) == 1 else self._e.op("Concat", *parts, axis=0)
        return home.shapes[key]

    def _parts(self, dims: Sequence[Dim]) -> tuple[list[str], Scope]:
        # Runs of numbers are one constant, runs of neighbouring axes of one value one Shape.
        parts: list[str] = []
        home = self._outermost()
        at = 0
        while at < len(dims):
            end = at + 1
            if isinstance(dims[at], int):
                while end < len(dims) and isinstance(dims[end], int):
                    end += 1
                parts.append(self._e.i64([int(d) for d in dims[at:end]]))
            else:
                end, part, scope = self._run(dims, at)
                parts.append(part)
                home = max(home, scope, key=lambda s: s.depth)
            at = end
        return parts, home

    def _run(self, dims: Sequence[Dim], at: int) -> tuple[int, str, Scope]:
        place = self._place(dims[at])
        end = at + 1
        if place is not None:
            (name, axis), scope = place
            while end < len(dims) and scope.places.get(dims[end]) == (name, axis + end - at):
                end += 1
            if end > at + 1:
                with self._e.within(scope):
                    return end, self._extents(name, axis, axis + end - at), scope
        part, scope = self._located(dims[at])
        return end, part, scope

    def reshape_target(self, before: Shape, after: Shape) -> tuple[str, bool]:
        """The shape operand of a Reshape from `before` to `after`, and whether its zeros are extents (`allowzero`)."""
        if any(isinstance(d, int) and d == 0 for d in (*before, *after)):
            return self.shape(after), True
        target: list[Dim] = []
        for axis, dim in enumerate(after):
            copied = isinstance(dim, DimExpr) and axis < len(before) and same(before[axis], dim)
            target.append(0 if copied else dim)
        computed = [axis for axis, dim in enumerate(target) if isinstance(dim, DimExpr)]
        # An extent may be inferred only where no other can be 0, and a computed 0 would be read as "copy".
        if computed and all(bounds(d)[0] > 0 for axis, d in enumerate(after) if axis != computed[-1]):
            target[computed[-1]] = -1
        elif computed and any(bounds(d)[0] <= 0 for d in after):
            return self.shape(after), True  # copied ones too: ONNX Runtime's optimiser would infer beside them
        return self.shape(target), False

    def _extents(self, name: str, start: int, end: int) -> str:
        """Neighbouring extents of a value; before opset 15 Shape gave all of them."""
        if self._e.opset >= 15:
            return self._e.op("Shape", name, start=start, end=end)
        return self._e.op("Slice", self._e.op("Shape", name), self._e.i64([start]), self._e.i64([end]))

    # ---- where an extent comes from ------------------------------------------------------------------

    def _outermost(self) -> Scope:
        *_, outermost = self._e.scope.outwards()
        return outermost

    def _place(self, dim: Dim) -> tuple[tuple[str, int], Scope] | None:
        for scope in self._e.scope.outwards():
            if dim in scope.places:
                return scope.places[dim], scope
        return None

    def _located(self, dim: Dim) -> tuple[str, Scope]:
        """The extent as i64[1] and the scope in which that is defined."""
        if isinstance(dim, int):
            return self._e.i64([dim]), self._outermost()
        for scope in self._e.scope.outwards():
            if dim in scope.vectors:
                return scope.vectors[dim], scope
        place = self._place(dim)
        if place is not None:
            (name, axis), home = place
            with self._e.within(home):
                home.vectors[dim] = self._extents(name, axis, axis + 1)
        else:
            _, home = self._sum(dim)
        return home.vectors[dim], home

    def _sum(self, dim: DimExpr) -> tuple[str, Scope]:
        terms = sorted(dim.terms, key=lambda term: term[1] < 0)  # a positive term first saves a negation
        parts = [(self._product(monomial, abs(c)), c < 0) for monomial, c in terms]
        (total, home), negative = parts[0]
        if negative:
            total = self._compute(home, "Neg", total)
        for (name, scope), minus in parts[1:]:
            home = max(home, scope, key=lambda s: s.depth)
            total = self._compute(home, "Sub" if minus else "Add", total, name)
        home.vectors[dim] = total
        return total, home

    def _product(self, monomial: tuple[tuple[Symbol | Call, int], ...], coefficient: int) -> tuple[str, Scope]:
        factors = [self._atom(atom) for atom, power in monomial for _ in range(power)]
        if coefficient != 1 or not factors:
            factors.append((self._e.i64([coefficient]), self._outermost()))
        total, home = factors[0]
        for name, scope in factors[1:]:
            home = max(home, scope, key=lambda s: s.depth)
            total = self._compute(home, "Mul", total, name)
        return total, home

    def _atom(self, atom: Symbol | Call) -> tuple[str, Scope]:
        dim = atom.dim if isinstance(atom, Symbol) else call(atom.function, *atom.arguments)
        assert isinstance(dim, DimExpr)
        known = any(dim in scope.vectors for scope in self._e.scope.outwards())
        if known or self._place(dim) is not None:
            return self._located(dim)
        if isinstance(atom, Symbol):
            return self._solved(atom)
        (a, home_a), (b, home_b) = (self._located(argument) for argument in atom.arguments)
        home = max(home_a, home_b, key=lambda s: s.depth)
        if atom.function == "floordiv":
            above = atom.arguments[0]
            # ONNX Runtime's optimiser takes 1/b·c for c/b, which of integers it is not.
            home.vectors[dim] = self._floordiv(home, a, b, bounds(above)[0] >= 0 and not same(above, 1))
        else:
            home.vectors[dim] = self._compute(home, {"max": "Max", "min": "Min"}[atom.function], a, b)
        return home.vectors[dim], home

    def _solved(self, symbol: Symbol) -> tuple[str, Scope]:
        # No value has the symbol itself as an extent: solve c·s + k for it.
        for scope in self._e.scope.outwards():
            for dim in scope.places:
                if not isinstance(dim, DimExpr) or set(symbols(dim)) != {symbol.name}:
                    continue
                factor = dict(dim.terms).get(((symbol, 1),), 0)
                rest = dim - symbol.dim * factor
                if factor and isinstance(rest, int):
                    total, home = self._located(dim)
                    total = self._compute(home, "Sub", total, self._e.i64([rest])) if rest else total
                    home.vectors[symbol.dim] = self._compute(home, "Div", total, self._e.i64([factor]))
                    return home.vectors[symbol.dim], home
        raise VerifyError(f"no value of the model tells the dimension {symbol}")

    def _floordiv(self, home: Scope, a: str, b: str, truncates: bool) -> str:
        if truncates:
            return self._compute(home, "Div", a, b)
        rest = self._compute(home, "Mod", a, b)  # has the sign of the divisor
        return self._compute(home, "Div", self._compute(home, "Sub", a, rest), b)

    def _compute(self, home: Scope, op_type: str, *operands: str) -> str:
        with self._e.within(home):
            return self._e.op(op_type, *operands)
