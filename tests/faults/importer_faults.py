"""Faults in the importer: one entry of its table translates an operator wrongly."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from typing import Any

import torch

from dragoman.frontends.pytorch import table, translates
from dragoman.frontends.pytorch.export import Exported, export
from dragoman.frontends.pytorch.importer import translate
from dragoman.frontends.pytorch.probe import ProgramProbe
from dragoman.frontends.pytorch.runner import SourceRunner
from dragoman.frontends.pytorch.table.registry import translation_of
from dragoman.ir.equivalence import Comparison, GraphRunner, compare
from dragoman.ir.errors import DragomanError
from tests.faults import torch_models
from tests.faults.mutants import Outcome, judged

Crooked = Callable[[Callable[..., Any]], Callable[..., Any]]


@dataclass(frozen=True)
class ImporterFault:
    """A defect of an entry: the operator, what becomes of its translation, and what the report must name."""

    name: str
    model: Callable[[], Any]
    operator: str
    crooked: Crooked
    where: str  # a module path, or a part of the source line


def argument(index: int, change: Callable[[Any], Any]) -> Crooked:
    """One argument of the operator read wrongly; missing ones are passed on as they are."""

    def crooked(right: Callable[..., Any]) -> Callable[..., Any]:
        def wrong(c: Any, *args: Any, **kwargs: Any) -> Any:
            return right(c, *(change(a) if i == index else a for i, a in enumerate(args)), **kwargs)

        return wrong

    return crooked


def keyword(**changes: Any) -> Crooked:
    """Keyword arguments of the operator read wrongly."""
    return lambda right: lambda c, *args, **kwargs: right(c, *args, **{**kwargs, **changes})


def exchanged(first: int, second: int) -> Crooked:
    """Two arguments taken for each other."""

    def crooked(right: Callable[..., Any]) -> Callable[..., Any]:
        def wrong(c: Any, *args: Any, **kwargs: Any) -> Any:
            listed = list(args)
            listed[first], listed[second] = listed[second], listed[first]
            return right(c, *listed, **kwargs)

        return wrong

    return crooked


def positional(count: int) -> Crooked:
    """All arguments after the first few forgotten."""
    return lambda right: lambda c, *args, **kwargs: right(c, *args[:count])


def result(change: Callable[[Any, Any], Any]) -> Crooked:
    """The result changed: `change(builder, result)`."""
    return lambda right: lambda c, *args, **kwargs: change(c.b, right(c, *args, **kwargs))


@contextmanager
def patched(operator: str, crooked: Crooked) -> Iterator[None]:
    """The table with one entry replaced."""
    table.load()
    right = translation_of(operator)
    assert right is not None, operator
    translates(operator)(crooked(right))
    try:
        yield
    finally:
        translates(operator)(right)


def _reversed(pair: Any) -> Any:
    return list(pair)[::-1]


def _nothing(given: Any) -> Any:
    return None


def _gates_exchanged(right: Callable[..., Any]) -> Callable[..., Any]:
    def wrong(c: Any, x: Any, state: Any, weights: Any, *rest: Any) -> Any:
        i, f, g, o = c.b.split(weights[0], axis=0, sizes=(4, 4, 4, 4))
        return right(c, x, state, [c.b.concat(i, f, o, g, axis=0), *weights[1:]], *rest)

    return wrong


def _square_transposed(b: Any, y: Any) -> Any:
    square = y.type.rank == 4 and y.type.shape[2] == y.type.shape[3]
    return b.transpose(y, perm=(0, 1, 3, 2)) if square else y


def _negated(right: Callable[..., Any]) -> Callable[..., Any]:
    return lambda c, x, *args, **kwargs: right(c, c.b.neg(x), *args, **kwargs)


def _always_causal(right: Callable[..., Any]) -> Callable[..., Any]:
    return lambda c, *args, **kwargs: right(c, *args[:3], None, 0.0, True)


V, L, R = torch_models.vision, torch_models.language, torch_models.recurrent

IMPORTER_FAULTS = [
    ImporterFault("padding of the axes exchanged", V, "aten.conv2d.default", argument(4, _reversed), "first"),
    ImporterFault("strides of the axes exchanged", V, "aten.conv2d.default", argument(3, _reversed), "first"),
    ImporterFault("a convolution without its bias", V, "aten.conv2d.default", argument(2, _nothing), "first"),
    ImporterFault("running mean taken for variance", V, "aten.batch_norm.default", exchanged(3, 4), "norm"),
    ImporterFault(
        "batch norm with torch's default epsilon", V, "aten.batch_norm.default", argument(7, lambda e: 1e-5), "norm"
    ),
    ImporterFault("batch norm scale taken for bias", V, "aten.batch_norm.default", exchanged(1, 2), "norm"),
    ImporterFault(
        "max pool with other padding", V, "aten.max_pool2d.default", argument(3, lambda p: [1, 0]), "max_pool2d"
    ),
    ImporterFault(
        "average pool that counts padding", V, "aten.avg_pool2d.default", argument(5, lambda c: True), "avg_pool2d"
    ),
    ImporterFault("output padding forgotten", V, "aten.conv_transpose2d.input", argument(5, lambda p: [0, 0]), "up"),
    ImporterFault("group norm epsilon × 100", V, "aten.group_norm.default", argument(4, lambda e: 1e-3), "groups"),
    ImporterFault("gelu by tanh", V, "aten.gelu.default", keyword(approximate="tanh"), "act"),
    ImporterFault("aligned corners", V, "aten.upsample_bilinear2d.vec", argument(2, lambda a: True), "bilinear"),
    ImporterFault(
        "padding at the other end", V, "aten.pad.default", argument(1, lambda p: [2, 1, *p[2:]]), "functional.pad"
    ),
    ImporterFault(
        "pixels shuffled otherwise",
        V,
        "aten.pixel_shuffle.default",
        result(lambda b, y: b.flip(y, axes=(3,))),
        "pixel_shuffle",
    ),
    ImporterFault(
        "hard swish × 1.0001", V, "aten.hardswish.default", result(lambda b, y: b.mul(y, 1.0001)), "hardswish"
    ),
    ImporterFault(
        "an embedding that skips a row",
        L,
        "aten.embedding.default",
        result(lambda b, y: b.roll(y, shifts=(1,), axes=(2,))),
        "tokens",
    ),
    ImporterFault("layer norm epsilon × 1.1", L, "aten.layer_norm.default", argument(4, lambda e: 1.1e-5), "norm"),
    ImporterFault("layer norm without its bias", L, "aten.layer_norm.default", argument(3, _nothing), "norm"),
    ImporterFault("a linear layer without its bias", L, "aten.linear.default", argument(2, _nothing), "query"),
    ImporterFault(
        "attention without its mask", L, "aten.scaled_dot_product_attention.default", positional(3), "attn_mask=seen"
    ),
    ImporterFault(
        "attention scaled by 1/d", L, "aten.scaled_dot_product_attention.default", keyword(scale=0.125), "scaled_dot"
    ),
    ImporterFault(
        "attention causal too often", L, "aten.scaled_dot_product_attention.default", _always_causal, "attn_mask=seen"
    ),
    ImporterFault(
        "the lowest number for −∞",
        L,
        "aten.masked_fill.Scalar",
        argument(2, lambda v: float(torch.finfo(torch.float32).min)),
        "masked_fill",
    ),
    ImporterFault("softmax over another axis", L, "aten.softmax.int", argument(1, lambda d: 2), "softmax(scores"),
    ImporterFault(
        "concatenated in the other order", L, "aten.cat.default", argument(0, lambda t: t[::-1]), "torch.cat"
    ),
    ImporterFault("a mean × 2", L, "aten.mean.dim", result(lambda b, y: b.mul(y, 2.0)), "x.mean"),
    ImporterFault("the population's variance", L, "aten.var.correction", keyword(correction=0), "x.var"),
    ImporterFault(
        "a cumulative sum backwards", L, "aten.cumsum.default", result(lambda b, y: b.flip(y, axes=(1,))), "cumsum"
    ),
    ImporterFault("the least for the largest", L, "aten.argmax.default", _negated, "argmax"),
    ImporterFault("a bound off by a hundredth", L, "aten.clamp.default", argument(2, lambda m: 1.51), "clamp"),
    ImporterFault("the sides of where exchanged", L, "aten.where.self", exchanged(1, 2), "torch.where"),
    ImporterFault(
        "rows and columns of a product exchanged", L, "aten.matmul.default", result(_square_transposed), "q @ k"
    ),
    ImporterFault("lstm gates in another order", R, "aten.lstm.input", _gates_exchanged, "lstm"),
    ImporterFault(
        "lstm directions exchanged", R, "aten.lstm.input", argument(2, lambda w: [*w[4:8], *w[:4], *w[8:]]), "lstm"
    ),
    ImporterFault("gru biases exchanged", R, "aten.gru.input", argument(2, lambda w: [*w[:2], w[3], w[2]]), "gru"),
]


@cache
def _exported(model: Callable[[], Any]) -> tuple[torch.nn.Module, dict[str, Any], Exported]:
    """A model traced once for all faults."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(5)
        module, inputs, dynamic = model()
    return module, inputs, export(module, (), inputs, dynamic)


def importer_trials() -> Iterator[tuple[str, Callable[[], Outcome]]]:
    """Each fault with what runs it."""
    for fault in IMPORTER_FAULTS:
        yield f"import: {fault.name}", lambda fault=fault: _trial(fault)


def verified(model: Callable[[], Any]) -> Comparison:
    """The comparison of a model with what the table, as it is now, makes of it."""
    module, inputs, exported = _exported(model)
    paths = [path for path, _ in exported.inputs]
    dims = exported.judged.dims
    graph = translate(exported.program, paths, dims, "model").graph
    names = [v.name for v in graph.inputs]

    def look() -> ProgramProbe:
        return ProgramProbe(exported.program, paths, dims, "model")

    source = SourceRunner(module, (), inputs, exported.inputs, names, look=look)
    return compare(graph, source, GraphRunner(graph, "the import"))


def _trial(fault: ImporterFault) -> Outcome:
    with patched(fault.operator, fault.crooked):
        try:
            report = verified(fault.model)
        except (DragomanError, AssertionError) as refusal:
            return Outcome(fault.name, True, fault.where in str(refusal), str(refusal))
    return judged(fault.name, report, fault.where)
