"""ai.onnx.ml: trees and look-ups. What it keeps in attributes must be known when the model is written: weights."""

from __future__ import annotations

from typing import Any

import numpy as np

from dragoman.backends.onnx.emitter import Emitter
from dragoman.backends.onnx.table import emits
from dragoman.ir.graph import Node, Value
from dragoman.ir.ops.trees import LEAF
from dragoman.ir.types import F32, I64, STRING

_DOMAIN = "ai.onnx.ml"
_MODES = ("BRANCH_LEQ", "BRANCH_LT", "BRANCH_GTE", "BRANCH_GT", "BRANCH_EQ", "BRANCH_NEQ", "LEAF")
_KINDS = {STRING: "strings", I64: "int64s", F32: "floats"}
_COMPUTED = "ONNX keeps the tables in attributes, and these are computed"


def _takes_trees(node: Node, opset: int) -> str | None:
    x, *tables = node.operands
    assert x is not None
    if x.type.dtype is not F32:
        return f"TreeEnsembleRegressor gives f32, not {x.type.dtype}"
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
    if x.type.dtype not in _KINDS or values.type.dtype not in _KINDS:
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
    key, value = _KINDS[keys.type.dtype], _KINDS[values.type.dtype]
    listed = [h.array().tolist() for v in (keys, values) if (h := e.weight(v)) is not None]
    tables = {f"keys_{key}": listed[0], f"values_{value}": listed[1]}
    named = {"strings": "default_string", "int64s": "default_int64", "floats": "default_float"}[value]
    return e.op("LabelEncoder", x, domain=_DOMAIN, **tables, **{named: _scalar(default)})
