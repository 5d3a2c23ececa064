"""Ensembles of trees of ai.onnx.ml, all versions, as one op."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import onnx.numpy_helper

from dragoman.frontends.onnx.call import Call
from dragoman.frontends.onnx.context import Context
from dragoman.frontends.onnx.registry import ML, translates
from dragoman.frontends.onnx.table.classical import labelled, post_transformed
from dragoman.ir.errors import Malformed, Unsupported
from dragoman.ir.graph import Value
from dragoman.ir.ops.trees import LEAF
from dragoman.ir.types import F32, I64, DType
from dragoman.ir.weights import ArrayWeight

_MODES = {"BRANCH_LEQ": 0, "BRANCH_LT": 1, "BRANCH_GTE": 2, "BRANCH_GT": 3, "BRANCH_EQ": 4, "BRANCH_NEQ": 5} | {
    "LEAF": LEAF
}


def _numbers(n: Call, name: str) -> Any:
    """Floats given as such, or as a tensor."""
    if n.given(f"{name}_as_tensor"):
        return onnx.numpy_helper.to_array(n.attributes[f"{name}_as_tensor"].t)
    return np.array(n.floats(name, []), np.float32)


def _ensemble(c: Context, x: Value, tables: Sequence[Any], targets: int) -> Value:
    roots, nodes, splits, leaves, weights = tables
    dtype = x.type.dtype if x.type.dtype.is_float else F32
    kinds: tuple[DType, ...] = (I64, I64, dtype, I64, dtype)
    named = ("roots", "nodes", "splits", "leaves", "leaf_weights")
    given = [
        c.weight(name, ArrayWeight(np.ascontiguousarray(np.asarray(a).astype(kind.numpy))))
        for name, a, kind in zip(named, (roots, nodes, splits, leaves, weights), kinds, strict=True)
    ]
    return c.b.tree_ensemble(c.cast(x, dtype), *given, targets=targets)


def _spelled(n: Call, prefix: str) -> list[Any]:
    """The tables of an ensemble whose nodes are named by tree and number."""
    keys = list(zip(n.ints("nodes_treeids"), n.ints("nodes_nodeids"), strict=True))
    place = {key: i for i, key in enumerate(keys)}
    if len(place) != len(keys):
        raise Malformed(f"{n.op} has two nodes of one name")
    modes = [_MODES.get(m, -1) for m in n.texts("nodes_modes")]
    if -1 in modes:
        raise Unsupported(f"{n.op} with nodes of other modes than {', '.join(_MODES)}")
    missing = n.ints("nodes_missing_value_tracks_true", [0] * len(keys)) or [0] * len(keys)
    nexts: list[list[int]] = []
    for name in ("nodes_truenodeids", "nodes_falsenodeids"):
        ids = n.ints(name)
        nexts.append(
            [
                i if mode == LEAF else place.get((key[0], to), -1)
                for i, (key, mode, to) in enumerate(zip(keys, modes, ids, strict=True))
            ]
        )
    if any(-1 in column for column in nexts):
        raise Malformed(f"{n.op} has a branch to no node")
    columns = (n.ints("nodes_featureids"), modes, *nexts, missing)
    nodes = np.array(list(zip(*columns, strict=True)), np.int64).reshape(-1, 5)
    reached = {to for column in nexts for i, to in enumerate(column) if modes[i] != LEAF}
    # A tree's root is its first node, unless another leads to it.
    roots = [i for i, _ in enumerate(keys) if i not in reached]
    trees = {key[0] for key in keys}
    if len(roots) != len(trees):
        raise Malformed(f"{n.op} has {len(roots)} roots for {len(trees)} trees")
    owners = [place.get(key, -1) for key in zip(n.ints(f"{prefix}_treeids"), n.ints(f"{prefix}_nodeids"), strict=True)]
    if -1 in owners:
        raise Malformed(f"{n.op} has the weight of no node")
    leaves = np.array(list(zip(owners, n.ints(f"{prefix}_ids"), strict=True)), np.int64).reshape(-1, 2)
    return [np.array(roots), nodes, _numbers(n, "nodes_values"), leaves, _numbers(n, f"{prefix}_weights")]


def _based(c: Context, n: Call, y: Value) -> Value:
    base = _numbers(n, "base_values")
    return c.b.add(y, c.array(base, y.type.dtype)) if base.size else y


@translates("TreeEnsembleRegressor", domain=ML)
def regressor(c: Context, n: Call) -> Value:
    """Sums or means of what the trees say."""
    aggregate, transform = n.text("aggregate_function", "SUM"), n.text("post_transform", "NONE")
    if aggregate not in ("SUM", "AVERAGE"):
        raise Unsupported(f"TreeEnsembleRegressor with the {aggregate} of the trees")
    if n.int("n_targets", 1) > 1 and transform != "NONE":
        raise Unsupported(f"TreeEnsembleRegressor of several targets with {transform}")
    if aggregate == "AVERAGE" and _numbers(n, "base_values").any():
        raise Unsupported("TreeEnsembleRegressor with a mean and base values")
    tables = _spelled(n, "target")
    y = _ensemble(c, n[0], tables, n.int("n_targets", 1))
    y = c.b.div(y, float(len(tables[0]))) if aggregate == "AVERAGE" else y
    return c.cast(post_transformed(c, n, _based(c, n, y), transform), F32)


@translates("TreeEnsembleClassifier", domain=ML)
def classifier(c: Context, n: Call) -> list[Value]:
    """Sums for each class, and the class that has the largest."""
    labels = max(len(n.ints("classlabels_int64s", [])), len(n.texts("classlabels_strings", [])))
    if labels < 2 or len(set(n.ints("class_ids"))) < 2:
        raise Unsupported("TreeEnsembleClassifier of two classes by the weights of one")
    scores = c.cast(_based(c, n, _ensemble(c, n[0], _spelled(n, "class"), labels)), F32)
    label = labelled(c, n, scores, "classlabels_int64s")
    return [label, post_transformed(c, n, scores, n.text("post_transform", "NONE"))]


@translates("TreeEnsemble", since=5, domain=ML)
def ensemble(c: Context, n: Call) -> Value:
    """The form of version 5: leaves apart from nodes."""
    aggregate = n.int("aggregate_function", 1)
    if n.int("post_transform", 0) or aggregate not in (0, 1):
        raise Unsupported(f"TreeEnsemble with aggregate {aggregate} and post-transform {n.int('post_transform', 0)}")
    inner, splits = _inner(n)
    count, targets = len(inner), n.ints("leaf_targetids")
    weights = onnx.numpy_helper.to_array(n.attributes["leaf_weights"].t)
    ends = np.array([(0, LEAF, 0, 0, 0)] * len(targets), np.int64)
    nodes = np.concatenate([inner, ends.reshape(-1, 5)])
    if nodes[:, 2:4].max(initial=0) >= len(nodes) or nodes[:, 2:4].min(initial=0) < 0:
        raise Malformed("TreeEnsemble has a branch to no node")
    leaves = np.stack([np.arange(len(targets)) + count, np.array(targets)], axis=1)
    roots = n.ints("tree_roots")
    tables = [roots, nodes, np.concatenate([splits, np.zeros(len(targets), splits.dtype)]), leaves, weights]
    y = _ensemble(c, n[0], tables, n.int("n_targets"))
    return c.b.div(y, float(len(roots))) if aggregate == 0 else y


def _inner(n: Call) -> tuple[Any, Any]:
    """The nodes that are no leaves, [k, 5], and their splits; leaves are numbered from k on.

    A node that asks for members of a set becomes one for each of them, one after the other, all with the same true
    branch.
    """
    modes = onnx.numpy_helper.to_array(n.attributes["nodes_modes"].t).astype(np.int64)
    splits = onnx.numpy_helper.to_array(n.attributes["nodes_splits"].t)
    missing = n.ints("nodes_missing_value_tracks_true", []) or [0] * len(modes)
    members = iter(_members(n, int((modes == _MEMBER).sum())))
    sets = [next(members) if mode == _MEMBER else [split] for mode, split in zip(modes, splits, strict=True)]
    more = sum(len(s) - 1 for s in sets)
    count, added = len(modes) + more, len(modes)

    def target(to: int, leaf: int) -> int:
        return to + count if leaf else to

    rows: list[tuple[int, ...]] = []
    chained: list[tuple[int, ...]] = []
    asked: list[Any] = []
    columns = [n.ints(name) for name in _BRANCHES]
    for i, (feature, yes, yes_leaf, no, no_leaf) in enumerate(zip(*columns, strict=True)):
        true, false = target(yes, yes_leaf), target(no, no_leaf)
        mode = 4 if modes[i] == _MEMBER else int(modes[i])
        links = [*range(added, added + len(sets[i]) - 1), false]
        added += len(sets[i]) - 1
        listed = [(feature, mode, true, to, missing[i]) for to in links]
        rows.append(listed[0])
        chained += listed[1:]
        asked += sets[i][1:]
    first = [s[0] for s in sets]
    return np.array([*rows, *chained], np.int64).reshape(-1, 5), np.array([*first, *asked], splits.dtype)


_MEMBER = 6
_BRANCHES = ("nodes_featureids", "nodes_truenodeids", "nodes_trueleafs", "nodes_falsenodeids", "nodes_falseleafs")


def _members(n: Call, count: int) -> list[list[Any]]:
    """The sets, which NaN ends in the attribute; an empty one asks for NaN, which equals nothing."""
    if not n.given("membership_values"):
        if count:
            raise Malformed("TreeEnsemble has nodes that ask for members of a set, and no sets")
        return []
    values = onnx.numpy_helper.to_array(n.attributes["membership_values"].t)
    ends = np.flatnonzero(np.isnan(values))
    if len(ends) != count:
        raise Malformed(f"TreeEnsemble has {len(ends)} sets for {count} nodes that ask for members of one")
    return [list(part[~np.isnan(part)]) or [np.nan] for part in np.split(values, ends + 1)[:count]]
