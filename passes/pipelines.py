"""The pipelines, as lists to read."""

from __future__ import annotations

from dragoman.ir.graph import Graph
from dragoman.passes.deduplicate import deduplicate
from dragoman.passes.eliminate_dead import eliminate_dead
from dragoman.passes.fold_constants import fold_constants, fold_scalars
from dragoman.passes.layout import choose_layout
from dragoman.passes.manager import Context, Pass
from dragoman.passes.recognition.recogniser import recognise_with, recognisers
from dragoman.passes.rewrite import RULES, Rule, rules_in
from dragoman.passes.rules import arithmetic, attention, batch_norm, bias, movement

CANONICAL: tuple[Rule, ...] = rules_in(movement, arithmetic)
MASKS: tuple[Rule, ...] = rules_in(attention)
AFFINE: tuple[Rule, ...] = rules_in(bias, batch_norm)


def all_rules() -> tuple[Rule, ...]:
    """Every rule there is: those written down, and those that follow from decompositions."""
    return (*RULES.values(), *recognisers())


def canonicalise(graph: Graph, context: Context) -> int:
    """One form for what can be written in several: moves merged, arithmetic that does nothing dropped."""
    return context.rewrite(graph, CANONICAL)


def recognise(graph: Graph, context: Context) -> int:
    """Composite ops that were spelled out."""
    # A softmax shows what is added to its scores, and that shows the attention around it.
    return recognise_with(graph, context, recognisers(), beside=MASKS)


def fold_batch_norm(graph: Graph, context: Context) -> int:
    """Biases and batch normalisation into the convolution or matmul before them."""
    return context.rewrite(graph, AFFINE)


IMPORTED: tuple[Pass, ...] = (eliminate_dead, deduplicate, canonicalise)
"""What every import goes through: nothing here depends on a target."""

OPTIMISE: tuple[Pass, ...] = (
    eliminate_dead,
    fold_scalars,
    deduplicate,
    canonicalise,
    recognise,
    fold_constants,
    deduplicate,
    canonicalise,
    fold_batch_norm,
    choose_layout,
    fold_batch_norm,  # what transposes kept apart
    fold_constants,
    canonicalise,
    deduplicate,
    eliminate_dead,
)
"""What `convert` runs before a backend takes over."""
