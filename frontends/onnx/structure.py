"""What a graph must be before it is walked: names defined once and before their use, no cycles, bounded depth and size.

Nodes out of order are put in order; that is all that is mended. Every check is linear in the nodes and iterative.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence

import onnx

from dragoman.ir.errors import Malformed, OverBudget

MAX_DEPTH = 32  # of sub-graphs within sub-graphs, and of functions calling functions
MOST_NODES = 2_000_000  # once every function call is written out

FunctionKey = tuple[str, str, str]  # domain, name, overload


def subgraphs(node: onnx.NodeProto) -> Iterator[onnx.GraphProto]:
    """The graphs among a node's attributes."""
    for attribute in node.attribute:
        if attribute.type == onnx.AttributeProto.GRAPH:
            yield attribute.g
        elif attribute.type == onnx.AttributeProto.GRAPHS:
            yield from attribute.graphs


def key_of(node: onnx.NodeProto) -> FunctionKey:
    """What a node calls."""
    return ("" if node.domain == "ai.onnx" else node.domain, node.op_type, node.overload)


def called(node: onnx.NodeProto) -> str:
    """A node as messages name it."""
    operator = f"{node.domain}.{node.op_type}" if node.domain else node.op_type
    return f"{operator} {node.name!r}" if node.name else f"{operator} giving {', '.join(map(repr, node.output))}"


def _check_text(node: onnx.NodeProto) -> None:
    """Raise Malformed for a name that is no Unicode, which protobuf gives as bytes."""
    texts: tuple[object, ...] = (node.op_type, node.domain, node.name, node.overload, *node.input, *node.output)
    texts = (*texts, *(a.name for a in node.attribute), *(a.ref_attr_name for a in node.attribute))
    require_text(*texts)


def require_text(*texts: object) -> None:
    """Raise Malformed unless all names of a model are Unicode."""
    wrong = next((t for t in texts if not isinstance(t, str)), None)
    if wrong is not None:
        raise Malformed(f"a name in the model is no Unicode: {ascii(wrong)[:80]}")


def all_nodes(nodes: Sequence[onnx.NodeProto]) -> Iterator[onnx.NodeProto]:
    """Nodes and those of graphs within them. Raises Malformed where graphs nest too deep."""
    stack = [(nodes, 0)]
    while stack:
        current, depth = stack.pop()
        if depth > MAX_DEPTH:
            raise Malformed(f"sub-graphs are nested more than {MAX_DEPTH} deep")
        for node in current:
            _check_text(node)
            yield node
            stack.extend((graph.node, depth + 1) for graph in subgraphs(node))


def check_size(model: onnx.ModelProto, functions: Mapping[FunctionKey, onnx.FunctionProto]) -> int:
    """How many nodes the model has once functions are written out. Raises OverBudget, or Malformed for a recursion."""
    totals: dict[FunctionKey, int] = {}
    calls = {key: [key_of(n) for n in all_nodes(f.node)] for key, f in functions.items()}
    for key in functions:
        _count(key, calls, totals)
    total = sum(1 + totals.get(key_of(n), 0) for n in all_nodes(model.graph.node))
    if total > MOST_NODES:
        raise OverBudget(
            f"the model has {total:,} nodes once its functions are written out; {MOST_NODES:,} are handled"
        )
    return total


def _count(
    first: FunctionKey, calls: Mapping[FunctionKey, Sequence[FunctionKey]], totals: dict[FunctionKey, int]
) -> None:
    stack = [first]
    entered: dict[FunctionKey, None] = {}
    while stack:
        key = stack[-1]
        if key in totals:
            entered.pop(stack.pop(), None)
            continue
        waiting = [c for c in dict.fromkeys(calls[key]) if c in calls and c not in totals]
        circle = next((c for c in waiting if c in entered or c == key), None)
        if (circle is not None and key in entered) or circle == key:
            raise Malformed(f"the function {key[1]!r} calls itself, through {(circle or key)[1]!r}")
        entered[key] = None
        if waiting:
            if len(entered) > MAX_DEPTH:
                raise OverBudget(f"functions call functions more than {MAX_DEPTH} deep")
            stack.append(waiting[0])
            continue
        totals[key] = min(sum(1 + totals.get(c, 0) for c in calls[key]), MOST_NODES + 1)
        entered.pop(stack.pop(), None)


# ---- names and order -------------------------------------------------------------------------------------


def ordered(
    nodes: Sequence[onnx.NodeProto], given: Collection[str], outer: Collection[str], what: str
) -> list[onnx.NodeProto]:
    """Nodes with operands before users. `given` are names of the graph itself, `outer` those it sees around it.

    Raises Malformed for a name defined twice or nowhere, and for a cycle.
    """
    producer: dict[str, int] = {}
    for index, node in enumerate(nodes):
        for name in node.output:
            if name and (name in producer or name in given):
                raise Malformed(f"{what} defines {name!r} twice, the second time by {called(node)}")
            if name and name in outer:
                raise Malformed(f"{what} defines {name!r} by {called(node)}, a name of the graph around it")
            if name:
                producer[name] = index
    needs = [_needs(node) for node in nodes]
    seen: set[str] = set()
    in_order = True
    for node, names in zip(nodes, needs, strict=True):
        for name in names:
            if name in seen or name in given or name in outer:
                continue
            if name not in producer:
                raise Malformed(f"{what}: {called(node)} uses {name!r}, which nothing defines")
            in_order = False
        seen.update(node.output)
    return list(nodes) if in_order else _sorted(nodes, needs, producer, what)


def _sorted(
    nodes: Sequence[onnx.NodeProto], needs: Sequence[Collection[str]], producer: Mapping[str, int], what: str
) -> list[onnx.NodeProto]:
    users: list[list[int]] = [[] for _ in nodes]
    missing = [0] * len(nodes)
    for index, names in enumerate(needs):
        for origin in {producer[n] for n in names if n in producer}:
            users[origin].append(index)
            missing[index] += 1
    ready = [i for i, count in enumerate(missing) if count == 0]
    result: list[onnx.NodeProto] = []
    at = 0
    while at < len(ready):
        index = ready[at]
        at += 1
        result.append(nodes[index])
        for user in users[index]:
            missing[user] -= 1
            if missing[user] == 0:
                ready.append(user)
    if len(result) != len(nodes):
        stuck = next(n for n, count in zip(nodes, missing, strict=True) if count)
        raise Malformed(f"{what} has a cycle: {called(stuck)} needs its own result")
    return result


def _needs(node: onnx.NodeProto) -> list[str]:
    """The names that a node uses, what its sub-graphs take from outside included."""
    names = [name for name in node.input if name]
    inner = list(subgraphs(node))
    return [*names, *(name for graph in inner for name in free_names(graph))] if inner else names


def free_names(graph: onnx.GraphProto) -> list[str]:
    """What a sub-graph uses and does not define, what graphs within it use included."""
    free: dict[str, None] = {}
    stack: list[tuple[onnx.GraphProto, frozenset[str], int]] = [(graph, frozenset(), 0)]
    while stack:
        current, known, depth = stack.pop()
        if depth > MAX_DEPTH:
            raise Malformed(f"sub-graphs are nested more than {MAX_DEPTH} deep")
        own = known.union(
            (v.name for v in current.input),
            (t.name for t in current.initializer),
            (t.values.name for t in current.sparse_initializer),
            (name for node in current.node for name in node.output),
        )
        for node in current.node:
            free.update((name, None) for name in node.input if name and name not in own)
            stack.extend((inner, own, depth + 1) for inner in subgraphs(node))
        free.update((v.name, None) for v in current.output if v.name not in own)
    return list(free)
