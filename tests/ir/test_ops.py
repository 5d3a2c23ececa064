"""What every op owes, derived from its one definition: each test runs over the whole registry and all samples."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np
import pytest

from dragoman.ir.arithmetic import FLOAT64, NATIVE, Arithmetic, Inexact
from dragoman.ir.builder import Builder, make
from dragoman.ir.dims import Symbol
from dragoman.ir.errors import TypeRuleError
from dragoman.ir.field import FIELD, FieldArray
from dragoman.ir.graph import Graph, Return
from dragoman.ir.interpreter import Interpreter, evaluate_type
from dragoman.ir.op import REGISTRY, Op, Sample, why_inexact
from dragoman.ir.samples import given_operands, operand_types, random_operands, sample_graph, sample_seed
from dragoman.ir.text import parse, show
from dragoman.ir.types import DType, TensorType, same_type
from dragoman.ir.verify import verify

OPS = [cls for cls in REGISTRY.values() if cls is not Return]
SAMPLES = [(cls, index, sample) for cls in OPS for index, sample in enumerate(cls.samples())]
COMPOSITES = [case for case in SAMPLES if case[0].is_composite()]
SEEDS = (0, 1)
TIGHT = 1e-12  # float64 keeps 16 digits; formulas that cancel four of them would be poor references
UNIT = 2.0**-53


def named(cases: Sequence[tuple[type[Op], int, Sample]]) -> Any:
    return pytest.mark.parametrize(
        ("cls", "index", "sample"), cases, ids=[f"{cls.name}-{index}" for cls, index, _ in cases]
    )


def operands_of(cls: type[Op], index: int, sample: Sample, seed: int = 0) -> list[Any]:
    return given_operands(random_operands(sample, sample_seed(cls.name, index) + seed))


def forms(cls: type[Op]) -> Iterator[tuple[str, Callable[..., Any]]]:
    yield "decompose", cls.decompose
    for number, spelling in enumerate(cls.spellings):
        yield f"spelling {number}", spelling


def spelled_out(graph: Graph, sample: Sample, form: Callable[..., Any]) -> Graph:
    """The graph of one op with the op replaced by one of its decompositions."""
    (node,) = graph
    written = Graph()
    inputs = iter([written.add_input(v.type, v.name) for v in graph.inputs])
    operands = [next(inputs) if o is not None else None for o in sample.operands]
    results = form(node.op, Builder(written), *operands)
    written.set_outputs(list(results) if isinstance(results, (tuple, list)) else [results])
    verify(written)
    return written


def outputs(graph: Graph, operands: Sequence[Any], m: Arithmetic = FLOAT64) -> list[Any]:
    return Interpreter(graph, m).run(operands)


def assert_close(actual: Any, expected: Any) -> None:
    """Equal up to rounding in float64; integers, booleans, NaN and infinities exactly.

    Norm-wise |a − r|₂ ≤ 10⁻¹²·|r|₂, and for each element |a − r| ≤ 10⁻¹²·|r| + 32·u·max|r|: the last term lets an
    element that is small by cancellation carry the rounding of the others.
    """
    assert actual.shape == expected.shape
    if expected.dtype.kind not in "fc":
        assert actual.dtype == expected.dtype
        assert np.array_equal(actual, expected)
        return
    finite = np.isfinite(expected)
    assert np.array_equal(actual[~finite], expected[~finite], equal_nan=True)
    a, r = actual[finite], expected[finite]
    error, size = np.abs(a - r), np.abs(r)
    assert np.linalg.norm(error) <= TIGHT * np.linalg.norm(size)
    assert np.all(error <= TIGHT * size + 32 * UNIT * size.max(initial=0.0))


def has_no_exact_form(graph: Graph) -> bool:
    """Whether complex numbers or strings occur, which the field does not have."""
    values = [*graph.inputs, *graph.outputs]
    return any(v.type.dtype.is_complex or v.type.dtype.kind == "string" for v in values)


def residues(x: Any) -> Any:
    return x.levels[0] if isinstance(x, FieldArray) else x


# ---- what is declared -------------------------------------------------------------------------------------


@pytest.mark.parametrize("cls", OPS, ids=lambda cls: cls.name)
def test_every_op_has_a_sample_and_says_what_it_is(cls: type[Op]) -> None:
    text = cls.__dict__["__doc__"]
    assert text, "no docstring"
    assert not text.startswith(f"{cls.__name__}("), "no docstring of its own"
    assert list(cls.samples()), "no sample"
    for operands in (operand_types(sample) for sample in cls.samples()):
        assert cls.signature.complaint(operands) is None


class Observed(Arithmetic):
    """An arithmetic that remembers what semantics returned before it was stored."""

    def __init__(self, inner: Arithmetic) -> None:
        self.inner = inner
        self.stored: list[tuple[Any, DType]] = []

    def __getattribute__(self, name: str) -> Any:
        if name in ("inner", "stored", "store", "__class__"):
            return object.__getattribute__(self, name)
        return getattr(object.__getattribute__(self, "inner"), name)

    def store(self, x: Any, dtype: DType) -> Any:
        self.stored.append((x, dtype))
        return self.inner.store(x, dtype)


def working_dtypes(m: Arithmetic, dtype: DType) -> tuple[np.dtype[Any], ...]:
    """What semantics may return for a dtype: integers their own width; native floats are rounded when stored."""
    wide = (np.dtype(np.float32), np.dtype(np.float64)) if m is NATIVE and dtype.is_float else ()
    return (m.working(dtype), *wide)


@pytest.mark.parametrize("m", [FLOAT64, NATIVE], ids=lambda m: m.name)
@named(SAMPLES)
def test_the_type_rule_agrees_with_what_the_reference_gives(
    cls: type[Op], index: int, sample: Sample, m: Arithmetic
) -> None:
    graph = sample_graph(cls, sample)
    observed = Observed(m)
    results = outputs(graph, operands_of(cls, index, sample), observed)
    assert len(results) == len(graph.outputs)
    for value, result in zip(graph.outputs, results, strict=True):
        assert result.shape == value.type.shape
        assert result.dtype == m.working(value.type.dtype)
    for raw, dtype in observed.stored[-len(results) :]:
        assert np.asarray(raw).dtype in working_dtypes(m, dtype), "the reference computes in another dtype"


@named(SAMPLES)
def test_a_node_reads_back_from_its_text(cls: type[Op], index: int, sample: Sample) -> None:
    graph = sample_graph(cls, sample)
    text = show(graph)
    again = parse(text)
    assert show(again) == text
    (node,), (read) = graph, list(again)
    if not node.op.regions:
        assert [n.op for n in read] == [node.op]


# ---- decompositions ---------------------------------------------------------------------------------------


@named(COMPOSITES)
def test_decompositions_have_the_type_of_the_op(cls: type[Op], index: int, sample: Sample) -> None:
    graph = sample_graph(cls, sample)
    for name, form in forms(cls):
        written = spelled_out(graph, sample, form)
        assert [v.type for v in written.outputs] == [v.type for v in graph.outputs], name


@named(COMPOSITES)
def test_decompositions_agree_with_the_reference_in_float64(cls: type[Op], index: int, sample: Sample) -> None:
    graph = sample_graph(cls, sample)
    for seed in SEEDS:
        operands = operands_of(cls, index, sample, seed)
        expected = outputs(graph, operands)
        for _, form in forms(cls):
            for a, r in zip(outputs(spelled_out(graph, sample, form), operands), expected, strict=True):
                assert_close(a, r)


def over_the_field(graph: Graph, sample: Sample, operands: Sequence[Any]) -> dict[str, str]:
    """Why the reference or a decomposition has no exact value, by name. Asserts that those that have one agree."""
    try:
        expected = outputs(graph, operands, FIELD)
    except Inexact as reason:
        return {"reference": str(reason)}
    for value, result in zip(graph.outputs, expected, strict=True):
        assert tuple(result.shape) == value.type.shape
        assert isinstance(result, FieldArray) == value.type.dtype.is_float
    reasons: dict[str, str] = {}
    (node,) = graph
    for name, form in forms(type(node.op)) if node.op.is_composite() else ():
        if why_inexact(form):
            reasons[name] = why_inexact(form)
            continue
        try:
            actual = outputs(spelled_out(graph, sample, form), operands, FIELD)
        except Inexact as reason:
            reasons[name] = str(reason)
            continue
        for a, r in zip(actual, expected, strict=True):
            assert np.array_equal(residues(a), residues(r)), f"{name} differs over the field"
    return reasons


@functools.cache
def reasons_of(cls: type[Op]) -> list[dict[str, str]]:
    """For each sample that has numbers only, what has no exact value and why."""
    graphs = [(index, sample, sample_graph(cls, sample)) for index, sample in enumerate(cls.samples())]
    return [
        over_the_field(graph, sample, operands_of(cls, index, sample))
        for index, sample, graph in graphs
        if not has_no_exact_form(graph)
    ]


@pytest.mark.parametrize("cls", OPS, ids=lambda cls: cls.name)
def test_an_op_is_exact_over_the_field_unless_it_says_so(cls: type[Op]) -> None:
    reasons = [r["reference"] for r in reasons_of(cls) if "reference" in r]
    if cls.exact_field:
        assert not reasons, "declare exact_field=False"
    else:
        assert reasons, "exact_field=False is declared, but every sample is exact"


def test_what_has_no_exact_value_is_this(golden: Callable[[str], None]) -> None:
    lines: list[str] = []
    for cls in OPS:
        listed = reasons_of(cls)
        kinds = {(form, reason) for r in listed for form, reason in r.items()}
        for form, reason in kinds:
            count = sum(r.get(form) == reason for r in listed)
            lines.append(f"{cls.name}, {form}: {count} of {len(listed)} samples: {reason}")
    golden("\n".join(sorted(lines)))


# ---- symbolic dims ----------------------------------------------------------------------------------------

ANY = Symbol("s", 0, 4096)


def with_symbol(types: Sequence[TensorType | None], result: TensorType, pointwise: bool) -> Iterator[list[Any]]:
    """The operand types with their first extent replaced by a symbol, in the ways that may make sense."""
    ranks = [t.rank for t in types if t is not None]
    if pointwise:
        extent = result.shape[0]

        def aligned(t: TensorType) -> TensorType:
            replaced = t.rank == result.rank and t.shape[0] == extent
            return t.with_shape((ANY.dim, *t.shape[1:])) if replaced else t

        yield [aligned(t) if t is not None else None for t in types]
        return
    first = next(t for t in types if t is not None and t.rank)
    extent = first.shape[0]
    every = [
        t.with_shape(ANY.dim if a == 0 and d == extent else d for a, d in enumerate(t.shape)) if t is not None else None
        for t in types
    ]
    only = list(types)
    only[types.index(first)] = first.with_shape((ANY.dim, *first.shape[1:]))
    yield every
    if len(ranks) > 1:
        yield only


def symbolic_graph(cls: type[Op], sample: Sample, types: Sequence[TensorType | None]) -> Graph | None:
    graph = Graph()
    inputs = [graph.add_input(t, f"x{i}") if t is not None else None for i, t in enumerate(types)]
    try:
        graph.set_outputs(graph.insert(make(cls, dict(sample.attributes)), inputs).results)
    except TypeRuleError:
        return None
    return graph


def accepted(cls: type[Op], sample: Sample) -> Graph | None:
    """The op of a sample on a symbolic first extent; None if the type rule declines each way."""
    types = operand_types(sample)
    static = sample_graph(cls, sample).outputs
    if not any(t is not None and t.rank for t in types) or (cls.pointwise and not static[0].type.rank):
        return None
    for chosen in with_symbol(types, static[0].type, cls.pointwise):
        graph = symbolic_graph(cls, sample, chosen)
        if graph is not None:
            return graph
    return None


@named([case for case in SAMPLES if any(o is not None for o in case[2].operands)])
def test_a_symbolic_extent_gives_what_the_static_one_does(cls: type[Op], index: int, sample: Sample) -> None:
    static = sample_graph(cls, sample)
    graph = accepted(cls, sample)
    if graph is None:
        assert not cls.pointwise or not static.outputs[0].type.rank, "a pointwise op takes any extents"
        return
    operands = operands_of(cls, index, sample)
    extents = {v.type.shape[0]: x.shape[0] for v, x in zip(graph.inputs, operands, strict=True) if v.type.rank}
    for inferred, value in zip(graph.outputs, static.outputs, strict=True):
        assert inferred.type.dtype == value.type.dtype
        assert evaluate_type(inferred.type, {"s": extents[ANY.dim]}) == value.type.shape
    expected = outputs(static, operands)
    for result, r in zip(outputs(graph, operands), expected, strict=True):
        assert np.array_equal(result, r, equal_nan=r.dtype.kind == "f")
    assert show(parse(show(graph))) == show(graph)
    for name, form in forms(cls) if cls.is_composite() else ():
        written = spelled_out(graph, sample, form)
        for a, b in zip(written.outputs, graph.outputs, strict=True):
            assert same_type(a.type, b.type), f"{name} gives {a.type}, the type rule {b.type}"
        for result, r in zip(outputs(written, operands), expected, strict=True):
            assert_close(result, r)


def test_the_ops_that_take_no_symbolic_first_extent_are_these(golden: Callable[[str], None]) -> None:
    declining = [
        cls.name
        for cls in OPS
        if any(s.operands for s in cls.samples()) and not any(accepted(cls, s) is not None for s in cls.samples())
    ]
    golden("\n".join(sorted(declining)))


# ---- traits -------------------------------------------------------------------------------------------------


def result_of(cls: type[Op], sample: Sample, operands: Sequence[Any], m: Arithmetic = FLOAT64) -> Any:
    """The first result of an op on arrays of any shape; the dtypes are the sample's."""
    graph = Graph()
    dtypes = [t.dtype for t in operand_types(sample) if t is not None]
    types = (TensorType(d, tuple(np.shape(x))) for d, x in zip(dtypes, operands, strict=True))
    inputs = [graph.add_input(t, f"x{i}") for i, t in enumerate(types)]
    graph.set_outputs(graph.insert(make(cls, dict(sample.attributes)), inputs).results)
    return outputs(graph, operands, m)[0]


def same_values(a: Any, b: Any) -> bool:
    a, b = residues(a), residues(b)
    return np.array_equal(a, b, equal_nan=a.dtype.kind in "fc")


@named([case for case in SAMPLES if case[0].commutative])
def test_commutative_ops_may_exchange_their_operands(cls: type[Op], index: int, sample: Sample) -> None:
    x, y = operands_of(cls, index, sample)
    exchanged = Sample((sample.operands[1], sample.operands[0]), sample.attributes)
    for m in (FLOAT64, NATIVE, FIELD):
        assert same_values(result_of(cls, sample, [x, y], m), result_of(cls, exchanged, [y, x], m))


@named([case for case in SAMPLES if case[0].associative])
def test_associative_ops_may_be_regrouped(cls: type[Op], index: int, sample: Sample) -> None:
    x, y = operands_of(cls, index, sample)
    z = operands_of(cls, index, sample, seed=1)[0]

    def apply(a: Any, b: Any) -> Any:
        return result_of(cls, Sample((sample.operands[0],) * 2, sample.attributes), [a, b], FIELD)

    assert same_values(apply(apply(x, y), z), apply(x, apply(y, z)))


@named([case for case in SAMPLES if case[0].pointwise])
def test_pointwise_ops_look_at_one_place(cls: type[Op], index: int, sample: Sample) -> None:
    operands = operands_of(cls, index, sample)
    whole = result_of(cls, sample, operands)
    spread = [np.broadcast_to(x, whole.shape).reshape(-1) for x in operands]
    for place in np.random.default_rng(index).permutation(whole.size)[:5]:
        alone = result_of(cls, sample, [x[place : place + 1] for x in spread])
        assert_close(alone, whole.reshape(-1)[place : place + 1])


def relabelled(x: Any, labels: np.random.Generator) -> tuple[Any, Callable[[Any], Any]]:
    """The array with its values replaced by unrelated ones, and the relabelling, which is injective."""
    values = np.unique(x)
    if x.dtype.kind == "b":
        return ~x, np.logical_not
    if x.dtype.kind in "iu":
        fresh = labels.permutation(np.arange(100, 100 + len(values))).astype(x.dtype)
    else:
        fresh = labels.standard_normal(len(values)).astype(x.dtype)

    def relabel(a: Any) -> Any:
        return fresh[np.searchsorted(values, a)]

    return relabel(x), relabel


@named([case for case in SAMPLES if case[0].movement])
def test_movement_ops_do_not_look_at_the_elements(cls: type[Op], index: int, sample: Sample) -> None:
    operands = operands_of(cls, index, sample)
    moved = len(operands) if cls.signature.variadic else 1  # the rest of the operands are places
    joined = np.concatenate([x.reshape(-1) for x in operands[:moved]])
    _, relabel = relabelled(joined, np.random.default_rng(index))
    graph = sample_graph(cls, sample)
    changed = outputs(graph, [relabel(x) if i < moved else x for i, x in enumerate(operands)], NATIVE)
    for result, before in zip(changed, outputs(graph, operands, NATIVE), strict=True):
        assert np.array_equal(result, relabel(before))
