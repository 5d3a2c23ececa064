"""What each pointwise op is in Triton, said once: text over its operands, `{0}`, `{1}`, …, and `T`, the computed type.

Operands arrive in the type that `body.COMPUTED` tells: half precision in f32. What is not here is decomposed, or left
to torch (`library`).
"""

from __future__ import annotations

from collections.abc import Callable

from dragoman.backends.triton.body import COMPUTED, Body, Index, Term, computed
from dragoman.ir.graph import Node
from dragoman.ir.ops.comparison import Isinf
from dragoman.ir.ops.constant import Constant
from dragoman.ir.ops.elementwise import Cast

_LARGEST_POWER = 8  # exponents up to this are products

FLOAT = {
    "div": "{0} / {1}",
    "floor": "tl.floor({0})",
    "ceil": "tl.ceil({0})",
    "round": "functions.round_even({0})",
    "trunc": "functions.trunc({0})",
    "exp": "tl.exp({0})",
    "log": "tl.log({0})",
    "sqrt": "tl.sqrt({0})",
    "rsqrt": "tl.rsqrt({0})",
    "expm1": "functions.expm1({0})",
    "log1p": "functions.log1p({0})",
    "sin": "tl.sin({0})",
    "cos": "tl.cos({0})",
    "tanh": "functions.tanh({0})",
    "erf": "tl.erf({0})",
    "sigmoid": "1 / (1 + tl.exp(-{0}))",
    "isnan": "{0} != {0}",
    "silu": "{0} / (1 + tl.exp(-{0}))",
}
REAL = {
    "add": "{0} + {1}",
    "sub": "{0} - {1}",
    "mul": "{0} * {1}",
    "neg": "-{0}",
    "abs": "tl.abs({0})",
    "sign": "functions.sign({0})",
    "maximum": "functions.maximum({0}, {1})",
    "minimum": "functions.minimum({0}, {1})",
    "fmod": "functions.left_over({0}, {1})",
    "remainder": "functions.remainder({0}, {1})",
    "less": "{0} < {1}",
    "less_equal": "{0} <= {1}",
    "greater": "{0} > {1}",
    "greater_equal": "{0} >= {1}",
}
INTEGER = {
    "div": "functions.quotient({0}, {1})",
    "bitwise_and": "{0} & {1}",
    "bitwise_or": "{0} | {1}",
    "bitwise_xor": "{0} ^ {1}",
    "bitwise_not": "~{0}",
    "shift_left": "functions.shift_left({0}, {1})",
    "shift_right": "functions.shift_right({0}, {1})",
}
ANY = {
    "equal": "{0} == {1}",
    "not_equal": "{0} != {1}",
    "where": "tl.where({0}, {1}, {2})",
    "logical_and": "{0} & {1}",
    "logical_or": "{0} | {1}",
    "logical_xor": "{0} ^ {1}",
    "logical_not": "{0} == 0",
}
BOOLEAN = {"bitwise_and": "{0} & {1}", "bitwise_or": "{0} | {1}", "bitwise_xor": "{0} ^ {1}", "bitwise_not": "{0} == 0"}


def expression(node: Node) -> str | None:
    """The text of a pointwise node, or None where there is none."""
    special = _SPECIAL.get(node.op.name)
    if special is not None:
        return special(node)
    first = node.operands[0]
    assert first is not None
    dtype = first.type.dtype
    tables = [ANY]
    if dtype.is_float:
        tables += [FLOAT, REAL]
    elif dtype.is_integer:
        tables += [INTEGER, REAL]
    elif dtype.kind == "bool":
        tables += [BOOLEAN]
    return next((t[node.op.name] for t in tables if node.op.name in t), None)


def _cast(node: Node) -> str | None:
    op = node.op
    assert isinstance(op, Cast)
    assert node.operands[0] is not None
    given = node.operands[0].type.dtype
    if op.dtype.kind == "bool":
        return "{0} != 0"
    if op.dtype.name in ("f16", "bf16"):
        narrow = "tl.float16" if op.dtype.name == "f16" else "tl.bfloat16"
        return f"{{0}}.to({narrow}).to(tl.float32)" if given != op.dtype else "{0}"
    return f"{{0}}.to({computed(op.dtype)})"


def _isinf(node: Node) -> str:
    op = node.op
    assert isinstance(op, Isinf)
    signs = [s for s, wanted in (("inf", op.positive), ("-inf", op.negative)) if wanted]
    return " | ".join(f'({{0}} == float("{s}"))' for s in signs) or "({0} != {0}) & ({0} == {0})"


def _power(node: Node) -> str | None:
    exponent = node.operands[1]
    if exponent is None or not isinstance(exponent.op, Constant) or not exponent.type.dtype.is_float:
        return None
    number = exponent.op.value
    if number == 0.5:  # pow(-0, 0.5) is 0, and pow(-inf, 0.5) is inf
        return 'tl.where({0} == float("-inf"), float("inf"), tl.sqrt({0} + 0.0))'
    if not isinstance(number, float) or not number.is_integer() or not 1 <= number <= _LARGEST_POWER:
        return None
    return " * ".join(["{0}"] * int(number))


_SPECIAL: dict[str, Callable[[Node], str | None]] = {"cast": _cast, "isinf": _isinf, "power": _power}


def evaluate(body: Body, node: Node, index: Index) -> Term:
    """A pointwise node at an index."""
    text = expression(node)
    assert text is not None
    used = [k for k in range(len(node.operands)) if f"{{{k}}}" in text]
    terms = {k: body.operand(node, k, index) for k in used}
    given = [terms.get(k, Term("")) for k in range(len(node.operands))]
    return body.call(text, *given)


def refused(node: Node) -> str | None:
    """Why a pointwise node has no expression, or None."""
    types = [*(v.type for v in node.operands if v is not None), *(v.type for v in node.results)]
    strange = next((t.dtype for t in types if t.dtype.name not in COMPUTED), None)
    if strange is not None:
        return f"Triton does not compute in {strange}"
    return None if expression(node) is not None else f"{node.op.name} of {types[0].dtype} has no Triton expression"
