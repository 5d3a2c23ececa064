"""Control flow on the host: a region is a function, a choice an `if`, a loop a loop."""

from __future__ import annotations

from dragoman.backends.triton.program import Program
from dragoman.ir.graph import Graph, Node
from dragoman.ir.ops.control import Cond, Scan, WhileLoop


def emit_control(program: Program, node: Node) -> None:
    """Write the function of each region, then what calls it."""
    op = node.op
    if isinstance(op, Cond):
        _cond(program, node, op)
    elif isinstance(op, WhileLoop):
        _while(program, node, op)
    else:
        assert isinstance(op, Scan)
        _scan(program, node, op)


def _region(program: Program, region: Graph) -> str:
    """The name of a region's function, whose text is written here."""
    name = f"region_{program.shared.regions}"
    program.shared.regions += 1
    inner = Program(region, program.shared, planned=False)
    inner.emit()
    parameters = ", ".join(f"a{k}" for k in range(len(region.inputs)))
    program.lines.append(f"def {name}({parameters}):")
    program.lines += [f"    {line}" for line in inner.lines]
    return name


def _given(program: Program, node: Node, start: int = 0) -> list[str]:
    return [program.whole(v) for v in node.operands[start:] if v is not None]


def _cond(program: Program, node: Node, op: Cond) -> None:
    then, orelse = _region(program, op.then), _region(program, op.orelse)
    given = ", ".join(_given(program, node, 1))
    predicate = node.operands[0]
    assert predicate is not None
    flag = program.name(predicate)
    names = [program.fresh(r) for r in node.results]
    program.lines.append(f"turn = {then}({given}) if bool({flag}) else {orelse}({given})")
    program.lines += [f"{name} = turn[{k}]" for k, name in enumerate(names)]


def _while(program: Program, node: Node, op: WhileLoop) -> None:
    condition, body = _region(program, op.condition), _region(program, op.body)
    given = _given(program, node)
    names = [program.fresh(r) for r in node.results]
    rest = "".join(f", {g}" for g in given[len(names) :])
    program.lines.append(f"state = ({''.join(f'{g}.clone(), ' for g in given[: len(names)]).rstrip()})")
    program.lines.append(f"while bool({condition}(*state{rest})[0]):")
    program.lines.append(f"    state = {body}(*state{rest})")
    program.lines += [f"{name} = state[{k}]" for k, name in enumerate(names)]


def _scan(program: Program, node: Node, op: Scan) -> None:
    body = _region(program, op.body)
    given = _given(program, node)
    end = len(given) - op.invariants
    carries, sequences, invariants = given[: op.carries], given[op.carries : end], given[end:]
    stacked = [program.buffer(r) for r in node.results[op.carries :]]
    names = [program.fresh(r) for r in node.results[: op.carries]]
    length = program.shared.dim(op.length)
    program.lines.append(f"state = ({''.join(f'{c}.clone(), ' for c in carries).rstrip()})")
    program.lines.append(f"for i in {f'reversed(range({length}))' if op.reverse else f'range({length})'}:")
    elements = "".join(f", {s}[i]" for s in sequences) + "".join(f", {v}" for v in invariants)
    program.lines.append(f"    turn = {body}(*state{elements})")
    program.lines.append(f"    state = turn[:{op.carries}]")
    program.lines += [f"    {name}[i].copy_(turn[{op.carries + k}])" for k, name in enumerate(stacked)]
    program.lines += [f"{name} = state[{k}]" for k, name in enumerate(names)]
