"""Walks graphs of TensorFlow in order, calls of functions written out, and binds names to what they stand for.

Variables are values: a read gives what the last write before it left. What has no translation is collected and refused
at the end.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from dragoman.frontends.onnx import known as k
from dragoman.frontends.onnx.context import Context
from dragoman.frontends.refusals import Refusals
from dragoman.frontends.tensorflow.call import Call
from dragoman.frontends.tensorflow.operands import Operand, Tensor, Unknown, Variable
from dragoman.frontends.tensorflow.program import Program, full, function_program
from dragoman.frontends.tensorflow.registry import known_of, translation_of
from dragoman.ir.errors import Malformed, OverBudget, TypeRuleError, Unsupported
from dragoman.ir.graph import Value
from dragoman.ir.provenance import Provenance, Source
from dragoman.ir.types import I64

_MOST_NODES = 1_000_000
_CALLS = ("PartitionedCall", "StatefulPartitionedCall")
_MOST_RESULTS = 64  # of an operator without translation: enough for every name
_DEEPEST = 64  # calls within calls


class Walker:
    """One walk over a model. `library` holds the functions that nodes call, by name."""

    def __init__(self, context: Context, library: Mapping[str, Any], refusals: Refusals) -> None:
        self.c = context
        self.refusals = refusals
        self.current: dict[Variable, Tensor] = {}  # what variables hold at this point of the program
        self.written: list[Variable] = []
        self._library = library
        self._programs: dict[str, Program] = {}
        self._walked = 0
        self._calls: list[str] = []
        self._variables = {
            "ReadVariableOp": self._read,
            "VariableShape": self._shape,
            "AssignVariableOp": self._assign,
            "AssignAddVariableOp": self._add,
            "AssignSubVariableOp": self._add,
        }

    def run(self, program: Program, operands: Sequence[Operand]) -> list[Operand]:
        """The outputs of a program for these operands."""
        self._walked += len(program.nodes)
        if self._walked > _MOST_NODES:
            raise OverBudget(f"more than {_MOST_NODES:,} nodes, with calls of functions written out")
        names: dict[str, Operand] = dict(zip(program.inputs, operands, strict=True))
        before = self.c.b.provenance
        for node in program.nodes:
            source = Source(node.op, _module(node.name) or _outer(before), "")
            self.c.b.provenance = Provenance((source,))
            for number, result in enumerate(self._node(node, names, source)):
                names[f"{node.name}:{number}"] = result
        self.c.b.provenance = before
        return [self._found(names, name) for name in program.outputs]

    def call(self, function: str, operands: Sequence[Operand]) -> list[Operand]:
        """The outputs of a library function, written here."""
        definition = self._library.get(function)
        if definition is None:
            raise Malformed(f"the model calls {function!r}, which it does not define")
        if function in self._calls or len(self._calls) >= _DEEPEST:
            raise Malformed(f"the function {function!r} calls itself, or calls are more than {_DEEPEST} deep")
        if function not in self._programs:
            self._programs[function] = function_program(definition)
        self._calls.append(function)
        try:
            return self.run(self._programs[function], operands)
        finally:
            self._calls.pop()

    def _found(self, names: Mapping[str, Operand], name: str) -> Operand:
        found = names.get(name)
        if found is None:
            raise Malformed(f"nothing defines {name!r}")
        return found

    def _node(self, node: Any, names: Mapping[str, Operand], source: Source) -> list[Operand]:
        inputs = [self._found(names, full(i)) for i in node.input if not i.startswith("^")]
        try:
            if any(isinstance(x, Unknown) for x in inputs):
                return [Unknown()] * _MOST_RESULTS
            return self._translated(Call(self.c, node, inputs))
        except Unsupported as refusal:
            self.refusals.add(source, str(refusal) if str(refusal) != node.op else "")
            return [Unknown()] * _MOST_RESULTS
        except TypeRuleError as refusal:  # TensorFlow made the node, so it is the IR that lacks this form of it
            self.refusals.add(source, str(refusal))
            return [Unknown()] * _MOST_RESULTS

    def _translated(self, call: Call) -> list[Operand]:
        if call.op in _CALLS:
            return self.call(call.node.attr["f"].func.name, call.inputs)
        if call.op in self._variables:
            return self._variables[call.op](call)
        known = self._known(call)
        if known is not None:
            return known
        translation = translation_of(call.op)
        if translation is None:
            raise Unsupported(call.op)
        results = translation(self.c, call)
        listed = results if isinstance(results, (list, tuple)) else [results]
        return [Tensor.of(r) if isinstance(r, Value) else r for r in listed]

    def _known(self, call: Call) -> list[Operand] | None:
        """The results element by element, where all inputs are integers or sizes known so."""
        function = known_of(call.op)
        if function is None or not all(isinstance(x, Tensor) for x in call.inputs):
            return None
        if call.op not in _OF_SHAPES and not all(_is_size(call.tensor(i)) for i in range(len(call.inputs))):
            return None
        try:
            found = function(call)
        except (k.Undecided, ArithmeticError, ValueError, IndexError):
            return None
        if found is None:
            return None
        listed = found if isinstance(found, list) else [found]
        return [self.c.of_known(a, d) for a, d in listed if k.fits(a, d)] or None

    # ---- variables -----------------------------------------------------------------------------------

    def value_of(self, variable: Variable) -> Tensor:
        """What a variable holds now."""
        if variable not in self.current:
            self.current[variable] = Tensor.of(self.c.scope.root.graph.add_weight(variable.name, variable.initial))
        return self.current[variable]

    def _read(self, call: Call) -> list[Operand]:
        return [self.value_of(call.variable(0))]

    def _shape(self, call: Call) -> list[Operand]:
        shape = call.variable(0).type.shape
        return [self.c.of_known(k.array_of(shape), call.dtype("out_type") if call.has("out_type") else I64)]

    def _assign(self, call: Call) -> list[Operand]:
        self._write(call, call.tensor(1))
        return []

    def _add(self, call: Call) -> list[Operand]:
        before = self.value_of(call.variable(0)).value(self.c.scope)
        write = self.c.b.sub if call.op == "AssignSubVariableOp" else self.c.b.add
        self._write(call, Tensor.of(write(before, call[1])))
        return []

    def _write(self, call: Call, value: Tensor) -> None:
        variable = call.variable(0)
        if self.c.scope.parent is not None:
            raise Unsupported(f"{call.op}: the variable {variable.name!r} is written within control flow")
        self.current[variable] = value
        if variable not in self.written:
            self.written.append(variable)


_OF_SHAPES = ("Shape", "ShapeN", "Size", "Rank")


def _is_size(tensor: Tensor) -> bool:
    if tensor.type.dtype.is_integer or tensor.type.dtype.kind == "bool":
        return tensor.known is not None
    return not tensor.is_value and tensor.known is not None


def _module(name: str) -> str:
    return name.rpartition("/")[0].replace("/", ".")


def _outer(provenance: Provenance) -> str:
    return provenance.sources[0].module if provenance.sources else ""
