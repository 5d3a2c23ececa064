"""What reducing the precision of a graph did, as a record that people read and certificates keep."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Kept:
    """A node that computes in f32. `error` and `allowed` are relative to the largest number of its result, where it is
    an error that keeps it; infinite for an overflow.
    """

    node: str
    module: str
    line: str
    reason: str
    error: float = 0.0
    allowed: float = 0.0

    def __str__(self) -> str:
        where = "  ".join(part for part in (self.module, self.line) if part)
        return f"{self.node}  {where}: {self.reason}" if where else f"{self.node}: {self.reason}"


@dataclass(frozen=True)
class Precision:
    """How a graph was brought to half precision.

    nodes      those with an f32 operand or result before, constants not counted
    kept       those of them that compute in f32 still, in order
    casts      nodes added between the two
    standard   whose error in half precision the whole is held against
    excess     the error of the whole, node by node in its declared types, over K times that of the standard: at most 1
    cases      on which it was measured
    restored   how many of `kept` are there because the whole was beyond its bound
    """

    dtype: str
    nodes: int
    kept: tuple[Kept, ...]
    casts: int
    standard: str
    excess: float
    cases: tuple[str, ...]
    restored: int = 0
    seconds: float = 0.0

    @property
    def holds(self) -> bool:
        """Whether the whole is within its bound on the cases measured."""
        return self.excess <= 1.0

    @property
    def share(self) -> float:
        """The part of the nodes that computes in f32, from 0 to 1."""
        return len(self.kept) / self.nodes if self.nodes else 0.0

    def __str__(self) -> str:
        count = f"{self.nodes - len(self.kept)} of {self.nodes} nodes in {self.dtype}, {len(self.kept)} in f32"
        bound = f"the whole at {self.excess:.2f} of K × the error of {self.standard}"
        return f"{count}; {bound}, over {len(self.cases)} case{'s' * (len(self.cases) != 1)}"
