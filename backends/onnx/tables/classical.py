"""ai.onnx.ml: trees and look-ups. What it keeps in attributes must be known when the model is written: weights."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from dragoman.backends.onnx import types
from dragoman.backends.onnx.emitter import Emitter
from dragoman.backends.onnx.table import emits
from dragoman.ir.graph import Node, Value
from dragoman.ir.ops.trees import LEAF
from dragoman.ir.types import BF16, F16, F32, F64, I8, I16, I32, I64, STRING, U8, U16, U32

_DOMAIN = "ai.onnx.ml"
_MODES = ("BRANCH_LEQ", "BRANCH_LT", "BRANCH_GTE", "BRANCH_GT", "BRANCH_EQ", "BRANCH_NEQ", "LEAF")
_KINDS = {STRING: "strings", I64: "int64s", F32: "floats"}
# What LabelEncoder is written for each dtype, which it holds all numbers of.
_ENCODED = {**dict.fromkeys((I8, I16, I32, U8, U16, U32, I64), I64), STRING: STRING} | dict.fromkeys(
    (F16, BF16, F32), F32
)
_COMPUTED = "ONNX keeps the tables in attributes, and these are computed"


def _takes_trees(node: Node, opset: int) -> str | None:
    x, *tables = node.operands
    assert x is not None
    if x.type.dtype is not F32:
        return f"TreeEnsembleRegressor gives f32, not {x.type.dtype}"
    return _held(tables)


def _held(tables: Sequence[Value | None]) -> str | None:
    """Why ONNX cannot keep the tables of an ensemble, or None."""
    held = [v.weight for v in tables if v is not None and v.weight is not None]
    if len(held) < len(tables):
        return _COMPUTED
    leaves = held[3].array()
    if len(np.unique(leaves, axis=0)) < len(leaves):
        return "a leaf has two weights for one target, and ONNX Runtime reads the first alone"
    return None


@emits("tree_ensemble", where=_takes_trees)
def tree_ensemble(e: Emitter, node: Node, x: Value, *tables: Value) -> str:
    """TreeEnsembleRegressor; each node belongs to the tree whose root leads to it."""
    op: Any = node.op
    held = [e.weight(v) for v in tables]
    roots, nodes, splits, leaves, weights = (h.array() for h in held if h is not None)
    trees = _owners(roots, nodes)
    kept = np.flatnonzero(trees >= 0)
    entries = np.flatnonzero(trees[leaves[:, 0]] >= 0)
    feature, mode, true, false, missing = (nodes[kept, i].tolist() for i in range(5))
    return e.op(
        "TreeEnsembleRegressor",
        x,
        domain=_DOMAIN,
        n_targets=op.targets,
        nodes_treeids=trees[kept].tolist(),
        nodes_nodeids=kept.tolist(),
        nodes_featureids=feature,
        nodes_modes=[_MODES[m] for m in mode],
        nodes_values=[float(v) for v in splits[kept]],
        nodes_truenodeids=true,
        nodes_falsenodeids=false,
        nodes_missing_value_tracks_true=missing,
        target_treeids=trees[leaves[entries, 0]].tolist(),
        target_nodeids=leaves[entries, 0].tolist(),
        target_ids=leaves[entries, 1].tolist(),
        target_weights=[float(v) for v in weights[entries]],
    )


def _takes_wide(node: Node, opset: int) -> str | None:
    x, *tables = node.operands
    assert x is not None
    if x.type.dtype is not F64:
        return _takes_trees(node, opset) or f"TreeEnsemble is written for f64 alone, not {x.type.dtype}"
    # ai.onnx.ml 5 has no TreeEnsembleRegressor any more, and a model is of one version.
    mixed = node.graph is not None and any(
        other.op.name == "tree_ensemble" and other.results[0].type.dtype is F32 for other in node.graph
    )
    if mixed:
        return "ensembles in f32 and in f64 in one model"
    leaves = tables[3].weight if tables[3] is not None else None
    if leaves is not None and len(np.unique(leaves.array()[:, 0])) < len(leaves.array()):
        return "a leaf of TreeEnsemble has one weight"
    return _held(tables)


@emits("tree_ensemble", where=_takes_wide)
def wide_ensemble(e: Emitter, node: Node, x: Value, *tables: Value) -> str:
    """TreeEnsemble of ai.onnx.ml 5. A tree that is a leaf gets a node with two branches to it."""
    op: Any = node.op
    roots, nodes, splits, leaves, weights = (h.array() for h in map(e.weight, tables) if h is not None)
    inner = np.flatnonzero(nodes[:, 1] != LEAF)
    place = {int(old): new for new, old in enumerate(inner)}
    entry = {int(at): i for i, (at, _) in enumerate(leaves)}
    spare = [int(r) for r in roots if int(r) not in place]
    rows = [*nodes[inner].tolist(), *([0, 0, r, r, 0] for r in spare)]
    place |= {r: len(inner) + i for i, r in enumerate(spare)}
    branches = [[_branch(nodes, place, entry, row[2 + side]) for row in rows] for side in (0, 1)]
    held = [splits[inner].astype(np.float64), np.zeros(len(spare))]
    return e.op(
        "TreeEnsemble",
        x,
        domain=_DOMAIN,
        domain_version=5,
        n_targets=op.targets,
        tree_roots=[place[int(r)] for r in roots],
        nodes_featureids=[row[0] for row in rows],
        nodes_modes=types.tensor("", np.array([row[1] for row in rows], np.uint8), U8),
        nodes_splits=types.tensor("", np.concatenate(held), F64),
        nodes_truenodeids=[to for to, _ in branches[0]],
        nodes_trueleafs=[leaf for _, leaf in branches[0]],
        nodes_falsenodeids=[to for to, _ in branches[1]],
        nodes_falseleafs=[leaf for _, leaf in branches[1]],
        nodes_missing_value_tracks_true=[row[4] for row in rows],
        leaf_targetids=[int(t) for t in leaves[:, 1]],
        leaf_weights=types.tensor("", weights.astype(np.float64), F64),
    )


def _branch(nodes: Any, place: dict[int, int], entry: dict[int, int], to: int) -> tuple[int, int]:
    """Where a branch leads, and whether that is a leaf."""
    return (entry[to], 1) if nodes[to, 1] == LEAF else (place[to], 0)


def _owners(roots: Any, nodes: Any) -> Any:
    """The tree of each node; −1 for one that no root leads to."""
    found = np.full(len(nodes), -1, np.int64)
    stack = [(int(root), tree) for tree, root in enumerate(roots)]
    while stack:
        at, tree = stack.pop()
        if found[at] >= 0:
            continue
        found[at] = tree
        if nodes[at, 1] != LEAF:
            stack += [(int(nodes[at, 2]), tree), (int(nodes[at, 3]), tree)]
    return found


def _takes_lookup(node: Node, opset: int) -> str | None:
    x, keys, values, default = node.operands
    assert x is not None
    assert keys is not None
    assert values is not None
    assert default is not None
    if not {x.type.dtype, values.type.dtype} <= _ENCODED.keys():
        return f"LabelEncoder takes no {x.type.dtype} to {values.type.dtype}"
    known = keys.weight is not None and values.weight is not None and _scalar(default) is not None
    return None if known else _COMPUTED


def _scalar(v: Value) -> Any:
    if v.weight is not None:
        return v.weight.array().item()
    op: Any = v.producer.op if v.producer is not None else None
    return op.value if op is not None and op.name == "constant" else None


@emits("lookup", where=_takes_lookup)
def lookup(e: Emitter, node: Node, x: Value, keys: Value, values: Value, default: Value) -> str:
    """LabelEncoder."""
    taken, given = _ENCODED[keys.type.dtype], _ENCODED[values.type.dtype]
    key, value = _KINDS[taken], _KINDS[given]
    listed = [h.array().tolist() for v in (keys, values) if (h := e.weight(v)) is not None]
    tables = {f"keys_{key}": listed[0], f"values_{value}": listed[1]}
    named = {"strings": "default_string", "int64s": "default_int64", "floats": "default_float"}[value]
    y = e.op("LabelEncoder", e.cast(x, taken), domain=_DOMAIN, **tables, **{named: _scalar(default)})
    return e.cast_from(y, given, values.type.dtype)
