"""What a translation works with: the builder, the dims, the equation at hand and the types of its results."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from dragoman.frontends.jax.dims import Dims
from dragoman.frontends.jax.dtypes import from_jax, is_key, key_shape
from dragoman.ir.builder import Builder
from dragoman.ir.dims import Dim
from dragoman.ir.errors import Unsupported
from dragoman.ir.graph import Graph, Value
from dragoman.ir.types import DType, TensorType


def _no_regions(*_: Any) -> Any:
    raise Unsupported("control flow has no place here")


class Context:
    """Passed to each translation. `b` writes nodes; `types` are those that JAX gives the results."""

    def __init__(self, builder: Builder, dims: Dims) -> None:
        self.b = builder
        self.dims = dims
        self.equation: Any = None
        self.types: tuple[TensorType, ...] = ()
        self.inline: Callable[[Any, Sequence[Value]], list[Value]] = _no_regions
        self.lifted: Callable[[Any, Sequence[Value]], list[Value]] = _no_regions
        self.regions: Callable[..., tuple[list[Graph], list[Value]]] = _no_regions

    @property
    def type(self) -> TensorType:
        """The type of the result, or of the first of several."""
        return self.types[0]

    def dim(self, extent: Any) -> Dim:
        """A size of JAX as a dim of the IR."""
        return self.dims.dim(extent)

    def shape(self, shape: Sequence[Any]) -> tuple[Dim, ...]:
        """A shape of JAX as one of the IR."""
        return self.dims.shape(shape)

    def type_of(self, aval: Any) -> TensorType:
        """The type of a value of JAX. A random key counts as the integers that it holds."""
        return type_of(aval, self.dims)

    def cast(self, x: Value, dtype: DType) -> Value:
        """`x` as `dtype`; nothing where it is."""
        return x if x.type.dtype == dtype else self.b.cast(x, dtype=dtype)

    def fit(self, x: Value) -> Value:
        """`x` in the dtype of the result."""
        return self.cast(x, self.type.dtype)

    def full(self, fill: float | complex | Value, type: TensorType) -> Value:
        """A tensor of one value."""
        scalar = fill if isinstance(fill, Value) else self.b.const(fill, type.dtype)
        return self.b.broadcast_to(scalar, shape=type.shape) if type.shape else scalar


def type_of(aval: Any, dims: Dims) -> TensorType:
    """The type of an abstract value of JAX. Raises Unsupported for one that is no array."""
    shape, dtype = getattr(aval, "shape", None), getattr(aval, "dtype", None)
    if shape is None or dtype is None:
        raise Unsupported(f"a value is {aval}, which is no array")
    inner = key_shape(dtype) if is_key(dtype) else ()
    return TensorType(from_jax(dtype), (*dims.shape(shape), *inner))
