"""The pipelines, as lists to read."""

from __future__ import annotations

from dragoman.ir.graph import Graph
from dragoman.ir.ops.activation import Relu
from dragoman.ir.ops.elementwise import Square
from dragoman.ir.ops.reduce import ReduceMean
from dragoman.passes.deduplicate import deduplicate
from dragoman.passes.eliminate_dead import eliminate_dead
from dragoman.passes.fold_constants import fold_constants, fold_scalars
from dragoman.passes.layout import choose_layout
from dragoman.passes.manager import Context, Pass
from dragoman.passes.recognition.recogniser import recognise_with, recognisers
from dragoman.passes.rewrite import RULES, Rule, rules_in
from dragoman.passes.rules import (
    arithmetic,
    attention,
    batch_norm,
    bias,
    cells,
    guards,
    heads,
    logarithms,
    masks,
    movement,
    products,
    projections,
    reductions,
    rows,
    scores,
    variances,
)

CANONICAL: tuple[Rule, ...] = rules_in(movement, arithmetic, reductions)
MASKS: tuple[Rule, ...] = rules_in(attention)
GUARDS: tuple[Rule, ...] = rules_in(guards)
VARIANCES: tuple[Rule, ...] = rules_in(variances)
POSITIONS: tuple[Rule, ...] = rules_in(masks)
PRODUCTS: tuple[Rule, ...] = rules_in(products)
LOGARITHMS: tuple[Rule, ...] = rules_in(logarithms)
SCORES: tuple[Rule, ...] = rules_in(scores)
LOOPS: tuple[Rule, ...] = rules_in(cells)
AFFINE: tuple[Rule, ...] = rules_in(bias, batch_norm)
ROWS: tuple[Rule, ...] = rules_in(rows)
PROJECTIONS: tuple[Rule, ...] = rules_in(projections)
HEADS: tuple[Rule, ...] = rules_in(heads)
_ROUNDS = 4  # of products and moves, each of which may show the other more


def all_rules() -> tuple[Rule, ...]:
    """Every rule there is: those written down, and those that follow from decompositions."""
    return (*RULES.values(), *recognisers())


def canonicalise(graph: Graph, context: Context) -> int:
    """One form for what can be written in several: moves merged, arithmetic that does nothing dropped."""
    return context.rewrite(graph, CANONICAL)


def contract(graph: Graph, context: Context) -> int:
    """Products of matrices, however they were written, as one matmul each, with few moves around them."""
    total = 0
    for _ in range(_ROUNDS):
        changes = context.rewrite(graph, PRODUCTS)
        if not changes:
            break
        total += changes + canonicalise(graph, context)
    return total


def find_variances(graph: Graph, context: Context) -> int:
    """Variances from means of squares, in the form that norms have."""
    means = [r for r in recognisers() if r.op in (ReduceMean, Relu, Square)]
    changes = recognise_with(graph, context, means) + context.rewrite(graph, VARIANCES)
    if changes:
        changes += deduplicate(graph, context) + canonicalise(graph, context) + deduplicate(graph, context)
    return changes


def recognise(graph: Graph, context: Context) -> int:
    """Composite ops that were spelled out."""
    # A softmax shows what is added to its scores, and that shows the attention around it.
    return recognise_with(graph, context, recognisers(), beside=(*MASKS, *GUARDS)) + context.rewrite(graph, LOGARITHMS)


def bare_scores(graph: Graph, context: Context) -> int:
    """Attention whose scores have more axes than they need: those go, and it is looked for again."""
    total = 0
    for _ in range(2 * _ROUNDS):
        changes = context.rewrite(graph, (*GUARDS, *SCORES, projections.DropOnesBeforeTranspose))
        if not changes:
            break
        total += changes + canonicalise(graph, context) + contract(graph, context)
    return total + recognise(graph, context) if total else 0


def recognise_loops(graph: Graph, context: Context) -> int:
    """Recurrent layers that were spelled out as loops over time."""
    return context.rewrite(graph, LOOPS)


def simplify_masks(graph: Graph, context: Context) -> int:
    """Masks and indices that are computed from positions: known, sliced or causal."""
    return context.rewrite(graph, (*POSITIONS, *CANONICAL))


def fold_batch_norm(graph: Graph, context: Context) -> int:
    """Biases and batch normalisation into the convolution or matmul before them."""
    return context.rewrite(graph, AFFINE)


def flatten_rows(graph: Graph, context: Context) -> int:
    """Linear layers over rows instead of stacks of them, each projection by itself, where the target is faster so."""
    if not context.layout.rows:
        return 0
    return context.rewrite(graph, (*ROWS, *CANONICAL)) + context.rewrite(graph, (*PROJECTIONS, *CANONICAL))


def fuse_heads(graph: Graph, context: Context) -> int:
    """Attention as the one operator that the target has."""
    return context.rewrite(graph, HEADS) if context.layout.heads else 0


IMPORTED: tuple[Pass, ...] = (eliminate_dead, deduplicate, canonicalise)
"""What every import goes through: nothing here depends on a target."""

OPTIMISE: tuple[Pass, ...] = (
    eliminate_dead,
    fold_scalars,
    deduplicate,
    canonicalise,
    simplify_masks,
    contract,
    find_variances,
    recognise,
    bare_scores,
    recognise_loops,
    simplify_masks,
    fold_constants,
    deduplicate,
    canonicalise,
    fold_batch_norm,
    choose_layout,
    deduplicate,  # one transpose for all that need it, so that none is sunk below one of them alone
    fold_batch_norm,  # what transposes kept apart
    fold_constants,
    flatten_rows,
    fold_constants,
    canonicalise,
    fuse_heads,
    canonicalise,
    deduplicate,
    eliminate_dead,
)
"""What `convert` runs before a backend takes over."""
