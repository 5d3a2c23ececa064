"""The one definition of an op: attributes, type rule, semantics, decomposition, spellings, traits and samples.

    class Silu(Op, name="silu", pointwise=True):
        \"\"\"x · sigmoid(x).\"\"\"
        def infer(self, x: TensorType) -> TensorType: return x
        def reference(self, m: Arithmetic, x: Array) -> Array: return x / (1 + m.exp(-x))
        def decompose(self, b: Builder, x: Value) -> Value: return b.mul(x, b.sigmoid(x))

Attributes are the class's annotated fields: immutable and hashable (numbers, strings, tuples, dtypes, dims, regions).
Operands are the parameters of `infer`: required, optional (`= None`) or variadic (`*xs`). An op without `decompose` is
a primitive that each backend emits or refuses; one with it is a composite, and may list `spellings`, other
decompositions under which frameworks write it. Builder method, printer, parser, documentation and tests follow.
"""

from __future__ import annotations

import dataclasses
import inspect
import itertools
from collections.abc import Callable, Iterable, Iterator, Mapping
from functools import cached_property, lru_cache
from typing import TYPE_CHECKING, Any, ClassVar, dataclass_transform

from dragoman.ir.arithmetic import Arithmetic, Array
from dragoman.ir.attributes import brief, declared, exactly, plain, regions, substituted, symbolic
from dragoman.ir.dims import symbols
from dragoman.ir.errors import TypeRuleError
from dragoman.ir.types import Shape, TensorType

if TYPE_CHECKING:
    from dragoman.ir.graph import Graph, Node
    from dragoman.ir.guess import Guess

__all__ = [
    "REGISTRY",
    "Arithmetic",
    "Array",
    "Op",
    "OperandSample",
    "Sample",
    "Shape",
    "TensorType",
    "operand",
    "sample",
]

REGISTRY: dict[str, type[Op]] = {}
Spelling = Callable[..., Any]


def equal_over_the_reals(why_not_over_the_field: str) -> Callable[[Spelling], Spelling]:
    """Mark a spelling as equal to the op for real numbers, but not in the finite field of proof A, with the reason."""

    def mark(spelling: Spelling) -> Spelling:
        spelling.why_inexact = why_not_over_the_field  # type: ignore[attr-defined]
        return spelling

    return mark


def why_inexact(spelling: Spelling) -> str:
    """Why a spelling is not equal to its op over the finite field; empty where it is."""
    return getattr(spelling, "why_inexact", "")


Results = TensorType | tuple[TensorType, ...]


@dataclasses.dataclass(frozen=True)
class OperandSample:
    """A type in text form and the interval its random values come from (integers: inclusive)."""

    type: str
    low: float | None = None
    high: float | None = None
    values: tuple[Any, ...] | None = None  # exact values in place of random ones, row-major
    weight: bool = False  # in the sample of a rule: a weight of the model, not a value known only at run time


@dataclasses.dataclass(frozen=True)
class Sample:
    """One set of attributes and operand types on which an op's derived tests run."""

    operands: tuple[OperandSample | None, ...]
    attributes: Mapping[str, Any]


def operand(
    type: str,
    *,
    low: float | None = None,
    high: float | None = None,
    values: tuple[Any, ...] | None = None,
    weight: bool = False,
) -> OperandSample:
    """An operand of a sample with a domain, such as `operand("f32[3]", low=0.1)` for a logarithm."""
    return OperandSample(type, low, high, values, weight)


def sample(*operands: str | OperandSample | None, **attributes: Any) -> Sample:
    """A sample: operand types (`"f32[2,3]"`, or `operand(...)` with a domain, or None) and attributes."""
    return Sample(tuple(OperandSample(o) if isinstance(o, str) else o for o in operands), attributes)


@dataclasses.dataclass(frozen=True)
class Signature:
    """The operands of an op class, read from the parameters of `infer`."""

    required: tuple[str, ...]
    optional: tuple[str, ...]
    variadic: str | None

    def complaint(self, operands: tuple[Any, ...]) -> str | None:
        """What is wrong with this operand list, or None."""
        listed = ", ".join(
            [*self.required, *(f"{n}?" for n in self.optional), *([f"*{self.variadic}"] if self.variadic else [])]
        )
        if len(operands) < len(self.required):
            return f"takes ({listed}), got {len(operands)} operand(s)"
        if self.variadic is None and len(operands) > len(self.required) + len(self.optional):
            return f"takes ({listed}), got {len(operands)} operand(s)"
        for name, given in zip(self.required, operands, strict=False):
            if given is None:
                return f"the operand {name!r} is required"
        if self.variadic is not None and None in operands[len(self.required) + len(self.optional) :]:
            return f"an operand among *{self.variadic} is missing"
        return None


def _signature(function: Callable[..., Any]) -> Signature:
    required: list[str] = []
    optional: list[str] = []
    variadic: str | None = None
    for p in list(inspect.signature(function).parameters.values())[1:]:
        if p.kind is p.VAR_POSITIONAL:
            variadic = p.name
        elif p.default is p.empty:
            required.append(p.name)
        else:
            optional.append(p.name)
    return Signature(tuple(required), tuple(optional), variadic)


@dataclass_transform(frozen_default=True, kw_only_default=True)
class Op:
    """Base of all ops. Subclass with `name=` and trait flags; see the module docstring."""

    name: ClassVar[str]
    signature: ClassVar[Signature]
    _fields: ClassVar[tuple[tuple[str, Any], ...]] = ()  # names and defaults of the attributes
    _annotations: ClassVar[Mapping[str, str]] = {}
    returns_one: ClassVar[bool] = True  # the type rule returns one type, not a tuple: a builder method returns a value

    # Traits, given as class keywords.
    commutative: ClassVar[bool] = False  # the first two operands may be exchanged
    associative: ClassVar[bool] = False
    pointwise: ClassVar[bool] = False  # each result element depends on the operand elements at its broadcast place only
    movement: ClassVar[bool] = False  # moves, repeats or drops elements; computes nothing
    exact_field: ClassVar[bool] = True  # `reference` has a meaning in the finite field
    data_dependent: ClassVar[bool] = False  # symbols in the attributes name sizes that only running it can tell

    infer: ClassVar[Callable[..., Any]]
    reference: ClassVar[Callable[..., Any]]
    decompose: ClassVar[Callable[..., Any]] = None  # type: ignore[assignment]  # None: a primitive
    spellings: ClassVar[tuple[Spelling, ...]] = ()

    def __init_subclass__(cls, *, name: str | None = None, **traits: bool) -> None:
        super().__init_subclass__()
        for trait, value in traits.items():
            if not isinstance(getattr(cls, trait, None), bool):
                raise TypeError(f"{cls.__name__}: {trait!r} is not a trait")
            setattr(cls, trait, value)
        dataclasses.dataclass(frozen=True, kw_only=True, eq=False)(cls)
        cls._fields = tuple((f.name, f.default) for f in dataclasses.fields(cls))  # type: ignore[arg-type]
        cls._annotations = {f.name: str(f.type) for f in dataclasses.fields(cls)}  # type: ignore[arg-type]
        if name is None:
            return  # an abstract base shared by a family, or a terminator
        if name in REGISTRY:
            raise TypeError(f"two ops are named {name!r}")
        cls.name = name
        cls.signature = _signature(cls.infer)
        cls.returns_one = _returns_one(cls)
        REGISTRY[name] = cls

    def __post_init__(self) -> None:
        for name, _ in self._fields:
            given = getattr(self, name)
            kept = declared(name, plain(given), self._annotations[name])
            if kept is not given:
                object.__setattr__(self, name, kept)

    # Unlike the dataclass's own, this equality knows 0.0 from -0.0 and 1 from True, and NaN equals itself.

    def __eq__(self, other: object) -> bool:
        return self is other or (type(self) is type(other) and self._identity == other._identity)  # type: ignore[attr-defined]

    def __hash__(self) -> int:
        return self._hash

    @cached_property
    def _hash(self) -> int:
        return hash((type(self), self._identity))

    @cached_property
    def _identity(self) -> tuple[Any, ...]:
        return tuple(exactly(getattr(self, name)) for name, _ in self._fields)

    def __getstate__(self) -> dict[str, Any]:
        return {name: getattr(self, name) for name, _ in self._fields}  # a cached hash is of no use elsewhere

    @classmethod
    def samples(cls) -> Iterable[Sample]:
        """The samples on which tests derived from this definition run. Each op has at least one."""
        return ()

    @classmethod
    def guesses(cls, root: Node) -> Iterable[Guess]:
        """What to try where `root` may end this op spelled out; an op without guesses is not recognised."""
        return ()

    @classmethod
    def attribute_names(cls) -> tuple[str, ...]:
        """Names of the attributes in the order declared."""
        return tuple(name for name, _ in cls._fields)

    def attributes(self) -> Iterator[tuple[str, Any]]:
        """Names and values of the attributes that differ from their defaults."""
        for name, default in self._fields:
            value = getattr(self, name)
            if value is default or (default is not dataclasses.MISSING and exactly(value) == exactly(default)):
                continue
            yield name, value

    @cached_property
    def regions(self) -> tuple[Graph, ...]:
        """The sub-graphs among the attributes, alone or in tuples."""
        return tuple(regions(getattr(self, name) for name, _ in self._fields)) if self._fields else ()

    def with_attributes(self, **changes: Any) -> Op:
        """The same op with some attributes changed."""
        return dataclasses.replace(self, **changes)  # type: ignore[type-var]

    def symbols(self) -> set[str]:
        """Names of the symbols in attributes that are dims or tuples of dims, nested as in `padding`."""
        return set(self._symbols)

    @property
    def is_symbolic(self) -> bool:
        """Whether an attribute holds a symbol."""
        return bool(self._symbols)

    @cached_property
    def _symbols(self) -> frozenset[str]:
        dims = (d for name, _ in self._fields for d in symbolic(getattr(self, name)))
        return frozenset(symbol for d in dims for symbol in symbols(d))

    def substitute(self, values: Mapping[str, Any]) -> Op:
        """This op with symbols in its attributes replaced."""
        if not self._symbols:
            return self
        changes = {n: new for n, v in self.attributes() if (new := substituted(v, values)) is not v}
        return self.with_attributes(**changes) if changes else self

    def result_types(self, operands: tuple[TensorType | None, ...]) -> tuple[TensorType, ...]:
        """Run the type rule. Raises TypeRuleError naming the op, its operands and the constraint."""
        # A region may change, so what is inferred from it is not remembered.
        return self._infer(operands) if self.regions else _inferred(self, operands)

    def _infer(self, operands: tuple[TensorType | None, ...]) -> tuple[TensorType, ...]:
        complaint = self.signature.complaint(operands)
        if complaint:
            raise TypeRuleError(f"{self.describe(operands)}: {complaint}")
        try:
            results = self.infer(*operands)
            return (results,) if isinstance(results, TensorType) else tuple(results)
        except TypeRuleError as error:
            raise TypeRuleError(f"{self.describe(operands)}: {error}") from None
        except (ArithmeticError, AttributeError, LookupError, TypeError, ValueError) as error:
            # A type rule that trips over its attributes: malformed input, told with the op it happened in.
            raise TypeRuleError(f"{self.describe(operands)}: {type(error).__name__}: {error}") from error

    def describe(self, operands: tuple[TensorType | None, ...]) -> str:
        """The op as it stands in an error: `conv(f32[1,3,8,8], f32[4,3,3,3]) {groups=2}`."""
        attributes = ", ".join(f"{n}={brief(v)}" for n, v in self.attributes())
        listed = ", ".join("_" if t is None else str(t) for t in operands)
        return f"{self.name}({listed})" + (f" {{{attributes}}}" if attributes else "")

    @classmethod
    def is_composite(cls) -> bool:
        """Whether this op has a decomposition."""
        return cls.decompose is not None


@lru_cache(maxsize=1 << 15)
def _inferred(op: Op, operands: tuple[TensorType | None, ...]) -> tuple[TensorType, ...]:
    return op._infer(operands)  # pyright: ignore[reportPrivateUsage]


def _returns_one(cls: type[Op]) -> bool:
    returned = cls.infer.__annotations__.get("return")
    if returned in ("TensorType", TensorType):
        return True
    if not str(returned).startswith("tuple["):
        raise TypeError(f"{cls.__name__}.infer must be annotated to return TensorType or tuple[TensorType, ...]")
    return False


# ---- what type rules say ------------------------------------------------------------------------------


def require(condition: bool, message: str) -> None:
    """Raise TypeRuleError(message) unless the condition holds; the caller adds op and operands."""
    if not condition:
        raise TypeRuleError(message)


def normal_axis(axis: int, rank: int, what: str = "axis") -> int:
    """A possibly negative axis as one in 0..rank-1. Raises TypeRuleError when out of range."""
    if not -rank <= axis < rank:
        raise TypeRuleError(f"{what}={axis} is out of range for rank {rank}")
    return axis % rank


def normal_axes(axes: Iterable[int], rank: int, what: str = "axes") -> tuple[int, ...]:
    """Sorted distinct axes in 0..rank-1. Raises TypeRuleError when out of range or repeated."""
    normal = sorted(normal_axis(a, rank, what) for a in axes)
    if any(a == b for a, b in itertools.pairwise(normal)):
        raise TypeRuleError(f"{what} has a repeated axis")
    return tuple(normal)


def same_dtype(*operands: TensorType | None) -> None:
    """Raise TypeRuleError unless all operands have one dtype: dtypes never promote implicitly."""
    dtypes = list(dict.fromkeys(t.dtype for t in operands if t is not None))
    if len(dtypes) > 1:
        raise TypeRuleError(
            f"operands have dtypes {' and '.join(map(str, dtypes))}; insert a cast, dtypes never promote"
        )
