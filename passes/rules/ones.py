"""A transpose that only moves axes of extent 1 moves no element.

Apart from `movement`, since attention over one head or one place is recognised by its transposes.
"""

# pyright: reportSelfClsParameterName=false, reportGeneralTypeIssues=false
# A rule is a class of plain functions: they take a builder and what was bound, never `self`.

from __future__ import annotations

from typing import Any

from dragoman.ir.builder import Builder
from dragoman.ir.graph import Value
from dragoman.ir.op import sample
from dragoman.passes.permuted import is_reshape
from dragoman.passes.rewrite import rewrite


@rewrite(samples=[sample("f32[2,1,1,3]", p=(0, 3, 1, 2)), sample("i32[2,3,1,1]", p=(0, 2, 3, 1))])
class TransposeOnesAsReshape:
    """transpose(x, p)  ->  reshape(x)  where p moves axes of extent 1 only"""

    def before(b: Any, x: Any, *, p: Any) -> Any:
        return b.transpose(x, perm=p)

    def after(b: Builder, x: Value, *, p: tuple[int, ...]) -> Value:
        return b.reshape(x, shape=tuple(x.type.shape[a] for a in p))

    def where(x: Value, *, p: tuple[int, ...]) -> str | None:
        perm = tuple(a % len(p) for a in p)
        return None if is_reshape(x.type.shape, perm) else f"perm={p} moves elements, or extents that are computed"
