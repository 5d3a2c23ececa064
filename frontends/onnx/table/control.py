"""If, Loop and Scan. Sub-graphs of ONNX see everything around them; regions of the IR take it as operands."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import onnx

from dragoman.frontends.onnx import known as k
from dragoman.frontends.onnx.call import Call
from dragoman.frontends.onnx.context import Context
from dragoman.frontends.onnx.operands import Operand, OptionalTensor, Scope, Tensor, TensorSequence, Unknown
from dragoman.frontends.onnx.registry import translates
from dragoman.frontends.onnx.table.turns import constant_turns
from dragoman.ir.dims import Dim, DimExpr, same
from dragoman.ir.errors import Malformed, Unsupported
from dragoman.ir.graph import Graph, Value
from dragoman.ir.op import normal_axis
from dragoman.ir.types import BOOL, I64, TensorType, same_type

_MOST_UNROLLED = 64  # turns of a loop that no other form fits


def results_of(scope: Scope, outputs: Sequence[Operand], what: str) -> list[Value]:
    """What a region gives, as values of its own."""
    values: list[Value] = []
    for output in outputs:
        if isinstance(output, Unknown):
            raise Unsupported(f"{what} holds operators without translation")
        if isinstance(output, OptionalTensor) and isinstance(output.held, Tensor):
            output = output.held
        if not isinstance(output, Tensor):
            raise Unsupported(f"{what} gives a sequence or an optional")
        values.append(output.value(scope))
    return values


def close(scope: Scope, own: Sequence[Value], captured: Sequence[Value], outputs: Sequence[Value]) -> Graph:
    """A region with its own inputs first and then one for each captured value, in that order."""
    given = [scope.local(v) for v in captured]
    graph = scope.graph
    graph.inputs[:] = [*own, *given]
    graph.set_outputs(outputs)
    return graph


def captures(*scopes: Scope) -> list[Value]:
    """What some regions take from outside, each once."""
    return list(dict.fromkeys(v for scope in scopes for v in scope.captured))


# ---- If --------------------------------------------------------------------------------------------------


@translates("If")
def if_(c: Context, n: Call) -> list[Operand]:
    """One branch or the other; the one that is taken, where that is known."""
    condition = n.known(0)
    branches = n.graph("then_branch"), n.graph("else_branch")
    if condition is not None:
        return c.inline(branches[0 if condition.reshape(-1)[0] else 1], [])
    predicate = c.reshape(n[0], ())
    written = [c.region(branch, []) for branch in branches]
    scopes = [scope for scope, _, _ in written]
    kinds = _kinds([outputs for _, _, outputs in written])
    listed = [[tensor for o in outputs for tensor in _tensors(o)] for _, _, outputs in written]
    results = [results_of(s, o, f"{w}_branch") for s, o, w in zip(scopes, listed, ("then", "else"), strict=True)]
    _unify(c, scopes, results)
    taken = captures(*scopes)
    then, orelse = (close(s, [], taken, r) for s, r in zip(scopes, results, strict=True))
    given = iter([Tensor.of(v) for v in c.b.cond(predicate, *taken, then=then, orelse=orelse)])
    return [_rebuilt(kind, given) for kind in kinds]


def _kinds(branches: Sequence[Sequence[Operand]]) -> Sequence[Operand]:
    """What the branches give, which must be of one kind and hold as many tensors; a tensor may be an optional's."""
    then, orelse = branches
    if len(then) != len(orelse):
        raise Malformed(f"If gives {len(then)} results in one branch, {len(orelse)} in the other")
    kept: list[Operand] = []
    for a, b in zip(then, orelse, strict=True):
        if _told(a) != _told(b) and {_told(a), _told(b)} != {"a tensor", "an optional that holds a tensor"}:
            raise Unsupported(f"If gives {_told(a)} in one branch and {_told(b)} in the other")
        kept.append(a if isinstance(a, Tensor) else b)
    return kept


def _told(operand: Operand) -> str:
    if isinstance(operand, TensorSequence):
        return f"a sequence of {len(operand.items)}"
    if isinstance(operand, OptionalTensor):
        return "an optional without value" if operand.held is None else f"an optional that holds {_told(operand.held)}"
    return "a tensor"


def _tensors(operand: Operand) -> list[Operand]:
    if isinstance(operand, TensorSequence):
        return list(operand.items)
    if isinstance(operand, OptionalTensor):
        return [] if operand.held is None else _tensors(operand.held)
    return [operand]


def _rebuilt(kind: Operand, given: Iterator[Tensor]) -> Operand:
    if isinstance(kind, TensorSequence):
        return TensorSequence([next(given) for _ in kind.items], kind.dtype)
    if isinstance(kind, OptionalTensor):
        held = None if kind.held is None else _rebuilt(kind.held, given)
        assert not isinstance(held, (OptionalTensor, Unknown))
        return OptionalTensor(held)
    return next(given)


def _unify(c: Context, scopes: Sequence[Scope], results: Sequence[list[Value]]) -> None:
    """Give both branches results of one type: an extent that differs is a size of its own, told by the run."""
    for index, (a, b) in enumerate(zip(*results, strict=True)):
        if same_type(a.type, b.type):
            continue
        if a.type.dtype != b.type.dtype or a.type.rank != b.type.rank:
            raise Unsupported(f"If gives {a.type} in one branch and {b.type} in the other")
        shape = tuple(x if same(x, y) else c.fresh("branch") for x, y in zip(a.type.shape, b.type.shape, strict=True))
        for scope, values in zip(scopes, results, strict=True):
            values[index] = _loosened(c, scope, values[index], shape)


def _loosened(c: Context, scope: Scope, x: Value, shape: tuple[Dim, ...]) -> Value:
    outer, c.scope = c.scope, scope
    try:
        return c.b.dynamic_reshape(x, c.i64(x.type.shape), shape=shape, keep_zeros=True)
    finally:
        c.scope = outer


# ---- Loop ------------------------------------------------------------------------------------------------


@translates("Loop")
def loop(c: Context, n: Call) -> list[Operand]:
    """Turns while a condition holds, at most as many as a number says; carried values, and what each turn gives."""
    body = n.graph("body")
    carried = [_tensor_like(n.operand(i)) for i in range(2, len(n.inputs))]
    limit = n.dims(0) if n.has(0) else None
    first = n.known(1) if n.has(1) else k.scalar_of(True)
    if first is not None and not first.reshape(-1)[0]:
        limit = [0]
    endless = first is not None and bool(first.reshape(-1)[0]) and _goes_on(body)
    if limit is not None and isinstance(limit[0], int) and limit[0] < 0:
        limit = [0]
    if any(isinstance(x, (TensorSequence, OptionalTensor)) for x in carried):
        return _unrolled(c, n, body, carried, limit, endless)
    turns = _Turns(c, n, body, [x for x in carried if isinstance(x, Tensor)], endless)
    if not turns.keeps_types:
        few = endless and limit is not None and isinstance(limit[0], int) and limit[0] <= _MOST_UNROLLED
        if few or not turns.may_keep_types:
            return _unrolled(c, n, body, carried, limit, endless)
        turns.assume_types()
    if endless and (limit is not None or n.has(0)):
        return turns.scan(limit[0] if limit is not None else _counted(c, n))
    count = turns.constant(limit) if first is not None else None
    if count is not None:
        return turns.scan(count)
    if not turns.stacked:
        return turns.loop(limit)
    length = turns.count(limit)
    again = _Turns(c, n, body, turns.carried, endless)
    if not again.keeps_types:
        again.assume_types()
    return again.scan(length)


def _tensor_like(operand: Operand) -> Operand:
    return operand.held if isinstance(operand, OptionalTensor) and isinstance(operand.held, Tensor) else operand


def _counted(c: Context, n: Call) -> Dim:
    count = c.b.maximum(c.reshape(c.cast(n[0], I64), ()), 0)
    return c.size(count, "turns")


def _goes_on(body: onnx.GraphProto) -> bool:
    """Whether the condition that a body gives is the one it was given, or true."""
    name = body.output[0].name if body.output else ""
    producers = {out: node for node in body.node for out in node.output}
    constants = {t.name: t for t in body.initializer}
    for _ in range(len(body.node) + 1):
        if len(body.input) > 1 and name == body.input[1].name:
            return True
        if name in constants:
            return bool(onnx.numpy_helper.to_array(constants[name]).all())
        node = producers.get(name)
        if node is None:
            return False
        if node.op_type == "Constant":
            value = next((a.t for a in node.attribute if a.name == "value"), None)
            return value is not None and bool(onnx.numpy_helper.to_array(value).all())
        if node.op_type not in ("Identity", "Cast"):
            return False
        name = node.input[0]
    return False


def _unrolled(
    c: Context, n: Call, body: onnx.GraphProto, carried: Sequence[Operand], limit: Sequence[Dim] | None, endless: bool
) -> list[Operand]:
    """The turns one after the other: for values that change their type, or are sequences."""
    turns = limit[0] if limit else None
    if not endless or not isinstance(turns, int) or turns > _MOST_UNROLLED:
        raise Unsupported(
            "Loop carries a value that changes its shape, or a sequence, over a number of turns that is known only"
            " when the model runs, or large"
        )
    state = list(carried)
    stacks: list[list[Value]] = []
    for turn in range(turns):
        outputs = c.inline(body, [c.of_known(k.scalar_of(turn), I64), c.of_known(k.scalar_of(True), BOOL), *state])
        state = list(outputs[1 : 1 + len(state)])
        given = results_of(c.scope, outputs[1 + len(state) :], "the body of Loop")
        stacks = stacks or [[] for _ in given]
        for stack, value in zip(stacks, given, strict=True):
            stack.append(value)
    if turns == 0 and len(n.outputs) > len(state):
        raise Unsupported("a Loop without turns that stacks what they give")
    return [*state, *(Tensor.of(c.b.stack(*stack, axis=0)) for stack in stacks)]


def _may_be_same(a: TensorType, b: TensorType) -> bool:
    known = [(x, y) for x, y in zip(a.shape, b.shape, strict=False) if isinstance(x, int) and isinstance(y, int)]
    return a.dtype == b.dtype and a.rank == b.rank and all(x == y for x, y in known)


class _Turns:
    """A loop over values that are tensors, with one turn of it written as a region."""

    def __init__(self, c: Context, n: Call, body: onnx.GraphProto, carried: Sequence[Tensor], endless: bool) -> None:
        self.c, self.n, self.carried = c, n, carried
        self.start = [x.settle(c.scope) for x in carried]
        self.stacked = len(body.output) - 1 - len(carried)
        flag: TensorType | Tensor = c.of_known(k.scalar_of(True), BOOL) if endless else TensorType(BOOL, ())
        types = [v.type for v in self.start]
        self._scope, self._given, outputs = c.region(body, [TensorType(I64, ()), flag, *types])
        if not endless and not outputs:
            raise Malformed("the body of Loop gives no condition")
        self._goes_on, *self._values = results_of(self._scope, outputs, "the body of Loop")
        self._flag = None if endless else self._given.pop(1)

    @property
    def keeps_types(self) -> bool:
        """Whether the carried values have the types that they began with."""
        pairs = zip(self._values, self.start, strict=False)
        return all(same_type(after.type, before.type) for after, before in pairs)

    @property
    def may_keep_types(self) -> bool:
        """Whether they differ in sizes alone that only a run tells."""
        pairs = zip(self._values, self.start, strict=False)
        return all(_may_be_same(after.type, before.type) for after, before in pairs)

    def assume_types(self) -> None:
        """Take the carried values to keep their sizes: a run in which one does not fails."""
        outer, self.c.scope = self.c.scope, self._scope
        try:
            kept = [self.c.assume(v, s.type.shape) for v, s in zip(self._values, self.start, strict=False)]
        finally:
            self.c.scope = outer
        self._values[: len(kept)] = kept

    def scan(self, length: Dim) -> list[Operand]:
        """A known number of turns."""
        c = self.c
        turn, *state = self._given
        own = [*state, turn]
        if self._flag is not None:  # turns that the condition allowed are counted already
            own = [*state, turn, self._flag]
        taken = captures(self._scope)
        body = close(self._scope, own, taken, self._values)
        rows = [c.b.iota(size=length)]
        if self._flag is not None:
            rows.append(c.full((length,), True, BOOL))
        results = c.b.scan(
            *self.start, *rows, *taken, body=body, carries=len(state), length=length, invariants=len(taken)
        )
        return [Tensor.of(v) for v in results]

    def loop(self, limit: Sequence[Dim] | None) -> list[Operand]:
        """Turns while the condition holds, nothing stacked."""
        _, state = self._looped(limit)
        return [Tensor.of(v) for v in state]

    def count(self, limit: Sequence[Dim] | None) -> Dim:
        """How many turns there are, by running them for nothing else."""
        turns, _ = self._looped(limit)
        return self.c.size(turns, "turns")

    def constant(self, limit: Sequence[Dim] | None) -> int | None:
        """How many turns there are, where constants decide it; for a condition that holds at first."""
        c, most = self.c, limit[0] if limit else None
        if self._flag is None or isinstance(most, DimExpr):
            return None
        if most == 0:
            return 0
        turn, *state = self._given
        outer, c.scope = c.scope, self._scope
        following = {turn: c.b.add(turn, 1), self._flag: self._goes_on, **dict(zip(state, self._values, strict=False))}
        c.scope = outer
        start = {turn: c.const(0, I64), self._flag: c.const(True, BOOL), **dict(zip(state, self.start, strict=True))}
        captured = {inner: value for value, inner in self._scope.captured.items()}
        return constant_turns(c, following, start, captured, self._goes_on, most)

    def _looped(self, limit: Sequence[Dim] | None) -> tuple[Value, list[Value]]:
        """(turns, carried values at the end). The state is the turn, the condition, and the carried values."""
        c, n = self.c, self.n
        first = c.reshape(n[1], ()) if n.has(1) else c.const(True, BOOL)
        bound = self._bound(limit)
        scope, (turn, *state) = self._scope, self._given
        flag = self._flag if self._flag is not None else scope.add_input(TensorType(BOOL, ()), "proceed")
        outer, c.scope = c.scope, scope
        following = [c.b.add(turn, 1), c.reshape(self._goes_on, ()), *self._values[: len(state)]]
        c.scope = outer
        start = [c.const(0, I64), first, *self.start]
        asked = Scope(Graph("condition"), outer)
        inputs = [asked.add_input(v.type, v.name or f"state{i}") for i, v in enumerate(start)]
        verdict = inputs[1]
        if bound is not None:
            verdict = asked.builder.logical_and(verdict, asked.builder.less(inputs[0], asked.local(bound)))
        taken = captures(scope, asked)
        body = close(scope, [turn, flag, *state], taken, following)
        condition = close(asked, inputs, taken, [verdict])
        turns, _, *end = c.b.while_loop(*start, *taken, condition=condition, body=body, invariants=len(taken))
        return turns, list(end)

    def _bound(self, limit: Sequence[Dim] | None) -> Value | None:
        if limit is not None:
            dim = limit[0]
            return self.c.b.extent(dim, I64) if isinstance(dim, DimExpr) else self.c.const(int(dim), I64)
        return self.c.reshape(self.c.cast(self.n[0], I64), ()) if self.n.has(0) else None


# ---- Scan ------------------------------------------------------------------------------------------------


@translates("Scan")
def scan_8(c: Context, n: Call) -> list[Operand]:
    """The first version has a batch: refused but for one sequence, which is looked at without it."""
    if n.has(0):
        raise Unsupported("Scan of opset 8 with lengths of its own for each sequence")
    batch = n.type(1).shape[0]
    if not isinstance(batch, int) or batch > _MOST_UNROLLED:
        raise Unsupported(f"Scan of opset 8 over a batch of {batch}")
    sequences = n.int("num_scan_inputs")
    carries = len(n.inputs) - 1 - sequences
    directions = n.ints("directions", [0] * sequences)
    columns: list[list[Value]] = []
    for at in range(batch):
        rows = [c.b.squeeze(c.slice(n[i], 0, at, at + 1), axes=(0,)) for i in range(1, len(n.inputs))]
        given = _scanned(c, n.graph("body"), rows[:carries], rows[carries:], directions, [])
        columns = columns or [[] for _ in given]
        for column, value in zip(columns, given, strict=True):
            column.append(value)
    return [Tensor.of(c.b.stack(*column, axis=0)) for column in columns]


@translates("Scan", since=9)
def scan(c: Context, n: Call) -> list[Operand]:
    """Turns over the entries of sequences along their axes."""
    count = n.int("num_scan_inputs")
    values = n.values
    carries, sequences = values[: len(values) - count], values[len(values) - count :]
    axes = n.ints("scan_input_axes", [0] * count)
    moved = [_to_front(c, x, axis) for x, axis in zip(sequences, axes, strict=True)]
    directions = n.ints("scan_input_directions", [0] * count)
    stacked = len(n.graph("body").output) - len(carries)
    backwards = n.ints("scan_output_directions", [0] * stacked)
    given = _scanned(c, n.graph("body"), carries, moved, directions, backwards)
    out_axes = n.ints("scan_output_axes", [0] * stacked)
    ends = given[: len(carries)]
    stacks = [_from_front(c, x, axis) for x, axis in zip(given[len(carries) :], out_axes, strict=True)]
    return [Tensor.of(v) for v in (*ends, *stacks)]


def _to_front(c: Context, x: Value, axis: int) -> Value:
    at = normal_axis(axis, x.type.rank)
    rest = [a for a in range(x.type.rank) if a != at]
    return c.b.transpose(x, perm=(at, *rest)) if at else x


def _from_front(c: Context, x: Value, axis: int) -> Value:
    at = normal_axis(axis, x.type.rank)
    perm = list(range(1, x.type.rank))
    perm.insert(at, 0)
    return c.b.transpose(x, perm=tuple(perm)) if at else x


def _scanned(
    c: Context,
    body: onnx.GraphProto,
    carries: Sequence[Value],
    sequences: Sequence[Value],
    directions: Sequence[int],
    backwards: Sequence[int],
) -> list[Value]:
    turned = [c.b.flip(x, axes=(0,)) if d else x for x, d in zip(sequences, directions, strict=True)]
    length = turned[0].type.shape[0]
    elements = [x.type.with_shape(x.type.shape[1:]) for x in turned]
    scope, given, outputs = c.region(body, [*(v.type for v in carries), *elements])
    values = results_of(scope, outputs, "the body of Scan")
    taken = captures(scope)
    region = close(scope, given, taken, values)
    results = c.b.scan(
        *carries, *turned, *taken, body=region, carries=len(carries), length=length, invariants=len(taken)
    )
    ends, stacks = results[: len(carries)], results[len(carries) :]
    flipped = (
        [c.b.flip(x, axes=(0,)) if d else x for x, d in zip(stacks, backwards, strict=True)] if backwards else stacks
    )
    return [*ends, *flipped]
