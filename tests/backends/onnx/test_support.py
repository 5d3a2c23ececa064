"""Completeness: at each opset each op is emitted, decomposed or refused with a reason, and the docs say which."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from dragoman.backends.onnx import emit
from dragoman.backends.onnx.table import REFUSED, TABLE, load_tables, supports
from dragoman.ir.errors import EmitRefused
from dragoman.ir.graph import Graph, Node
from dragoman.ir.op import REGISTRY, Op
from dragoman.ir.samples import sample_graph

DOCUMENT = Path(__file__).resolve().parents[3] / "docs" / "onnx-support.md"
OPSETS = (13, 17, 18, 20, 21, 23)
load_tables()

HEAD = """# What ONNX can say of the IR

Each op of the IR at each opset, over the samples its tests run on. **whole**: ONNX has it, as one or a few nodes.
*parts*: decomposed into ops that are emitted. *both*: whole for some dtypes or attributes, in parts for others. A
number is the share of the samples that are emitted where some are refused; `—`: none is. Values without elements are
constants and left out. Primitives are set in capitals.

This page is written by `pytest tests/backends/onnx/test_support.py --update-golden`.

"""


def nodes(cls: type[Op]) -> Iterator[tuple[Graph, Node]]:
    for sample in cls.samples():
        graph = sample_graph(cls, sample)
        yield graph, next(iter(graph))


def ops() -> Iterator[tuple[str, type[Op]]]:
    for name, cls in sorted(REGISTRY.items()):
        if any(True for _ in cls.samples()):
            yield name, cls


def cell(cls: type[Op], opset: int) -> tuple[str, list[str], set[str]]:
    """How an op fares at an opset, the ONNX operators it becomes, and why samples of it are refused."""
    whole, parts, refused = 0, 0, 0
    operators: dict[str, None] = {}
    reasons: set[str] = set()
    for graph, node in nodes(cls):
        if any(v.type.size == 0 for v in graph.outputs):
            continue
        try:
            model = emit(graph, opset=opset).skeleton
        except EmitRefused as refusal:
            refused += 1
            reasons.update(o.reason for o in refusal.occurrences)
            continue
        if supports(node, opset) is None:
            whole += 1
            operators.update(dict.fromkeys(n.op_type for n in model.graph.node))
        else:
            parts += 1
    total = whole + parts + refused
    if refused == total:
        return "—", [], reasons
    text = "both" if whole and parts else "**whole**" if whole else "*parts*"
    return text + (f" {total - refused}/{total}" if refused else ""), list(operators), reasons


def table() -> Iterator[str]:
    yield "| op | " + " | ".join(map(str, OPSETS)) + " | in ONNX (opset 20) | refused |"
    yield "|---" * (len(OPSETS) + 3) + "|"
    for name, cls in ops():
        cells = [cell(cls, opset) for opset in OPSETS]
        operators = cells[OPSETS.index(20)][1]
        shown = ", ".join(operators[:6]) + (", …" if len(operators) > 6 else "")
        reasons = "; ".join(sorted({re.sub(r"ONNX opset \d+", "ONNX", r) for _, _, found in cells for r in found}))
        title = f"`{name}`" if cls.is_composite() else f"`{name.upper()}`"
        yield f"| {title} | " + " | ".join(text for text, _, _ in cells) + f" | {shown} | {reasons} |"


def test_every_primitive_is_emitted_or_refused_with_a_reason() -> None:
    without = [name for name, cls in ops() if not cls.is_composite() and name not in TABLE and name not in REFUSED]
    assert without == []


@pytest.mark.parametrize("name", [name for name, _ in ops()])
def test_a_refusal_names_its_reason(name: str) -> None:
    for opset in OPSETS:
        for graph, node in nodes(REGISTRY[name]):
            reason = supports(node, opset)
            assert reason is None or len(reason) > 10
            if graph.outputs[0].type.size == 0:
                continue  # nothing has to be computed
            if reason is not None and not node.op.is_composite():
                with pytest.raises(EmitRefused) as refusal:
                    emit(graph, opset=opset)
                assert [o.reason for o in refusal.value.occurrences] == [reason]


def test_the_support_table_in_the_docs_is_true(request: pytest.FixtureRequest) -> None:
    text = HEAD + "\n".join(table()) + "\n"
    if request.config.getoption("--update-golden"):
        DOCUMENT.write_text(text, encoding="utf-8")
    assert DOCUMENT.read_text(encoding="utf-8") == text, "run with --update-golden if the change is meant"
