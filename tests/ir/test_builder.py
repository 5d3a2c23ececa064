from __future__ import annotations

import copy
import gc
import math
import weakref

import numpy as np
import pytest

from dragoman.ir.builder import Builder, make, trace
from dragoman.ir.dims import Symbol
from dragoman.ir.errors import TypeRuleError, UsageError, VerifyError
from dragoman.ir.graph import Graph
from dragoman.ir.op import REGISTRY
from dragoman.ir.ops.constant import Constant
from dragoman.ir.provenance import Provenance, Source
from dragoman.ir.types import BF16, BOOL, C64, F16, F32, I4, I8, I64, STRING, U8, DType, TensorType

X = TensorType(F32, (2, 3))


def constants(graph: Graph) -> list[Constant]:
    return [n.op for n in graph if isinstance(n.op, Constant)]


class TestMethods:
    def test_every_op_is_a_method_with_the_ops_docstring(self) -> None:
        b = Builder(Graph())
        for name, cls in REGISTRY.items():
            assert getattr(b, name).__doc__ == cls.__doc__

    def test_an_unknown_op_gets_a_suggestion(self) -> None:
        with pytest.raises(AttributeError, match="there is no op named 'sigmod'; did you mean 'sigmoid'"):
            Builder(Graph()).sigmod  # noqa: B018
        with pytest.raises(AttributeError, match=r"there is no op named 'zzzzzz'$"):
            Builder(Graph()).zzzzzz  # noqa: B018

    def test_a_builder_can_be_copied(self) -> None:
        b = Builder(Graph())
        assert copy.copy(b).graph is b.graph

    def test_an_op_with_several_results_gives_a_tuple(self) -> None:
        graph = trace(lambda b, x: list(b.topk(x, k=2, axis=1)), X)
        assert [str(v.type) for v in graph.outputs] == ["f32[2,2]", "i64[2,2]"]

    def test_one_wants_exactly_one_result(self) -> None:
        with pytest.raises(VerifyError, match="topk has 2 results where one was expected"):
            trace(lambda b, x: b.one(make(REGISTRY["topk"], {"k": 1, "axis": 0}), x), X)

    def test_nodes_go_before_the_node_given_and_carry_the_provenance(self) -> None:
        graph = trace(lambda b, x: b.neg(x), X)
        origin = Provenance((Source("aten.abs", "m"),))
        Builder(graph, graph.nodes[0], origin).abs(graph.inputs[0])
        assert [n.op.name for n in graph] == ["abs", "neg"]
        assert graph.nodes[0].provenance is origin

    def test_equal_ops_are_one_object_and_others_are_not(self) -> None:
        graph = trace(lambda b, x: [b.neg(b.neg(x)), b.softmax(x, axis=1), b.softmax(x, axis=[1][0])], X)
        first, second, third, fourth = graph
        assert first.op is second.op
        assert third.op is fourth.op
        values = [0.0, -0.0, np.float32(-0.0), 0, False, np.float16(0.0)]
        ops = [make(REGISTRY["constant"], {"value": v, "dtype": F32}) for v in values]
        assert [math.copysign(1, op.value) for op in ops] == [1, -1, -1, 1, 1, 1]  # type: ignore[attr-defined]

    def test_ops_with_regions_are_not_held(self) -> None:
        region = Graph()
        make(REGISTRY["cond"], {"then": region, "orelse": region})
        gone = weakref.ref(region)
        del region
        gc.collect()
        assert gone() is None


class TestNumbers:
    @pytest.mark.parametrize(
        ("number", "dtype", "value"),
        [
            (2, F32, 2.0),
            (True, F32, 1.0),
            (np.float32(0.5), F32, 0.5),
            (np.int64(3), I64, 3),
            (1, C64, 1 + 0j),
            (2.5, BF16, 2.5),
        ],
    )
    def test_a_number_takes_the_dtype_of_its_neighbour(self, number: float, dtype: DType, value: complex) -> None:
        graph = trace(lambda b, x: b.add(x, number), TensorType(dtype, (2,)))
        (constant,) = constants(graph)
        assert (constant.value, constant.dtype) == (value, dtype)
        assert type(constant.value) is type(value)

    def test_a_condition_does_not_make_its_neighbours_booleans(self) -> None:
        graph = trace(lambda b, c, x: b.where(c, x, 0), TensorType(BOOL, (2, 3)), X)
        assert constants(graph)[0].dtype is F32

    def test_among_booleans_a_number_is_one(self) -> None:
        graph = trace(lambda b, c: b.logical_and(c, True), TensorType(BOOL, (2,)))
        assert constants(graph)[0].value is True

    @pytest.mark.parametrize(
        ("number", "dtype", "complaint"),
        [
            (1.5, I64, "the value 1.5 is not of dtype i64"),
            (300, U8, r"the value 300 is out of the range 0\.\.255 of u8"),
            (-9, I4, r"the value -9 is out of the range -8\.\.7 of i4"),
            (1j, F32, "the value 1j is not of dtype f32"),
        ],
    )
    def test_a_number_that_does_not_fit_is_refused(self, number: complex, dtype: DType, complaint: str) -> None:
        with pytest.raises(TypeRuleError, match=complaint):
            trace(lambda b, x: b.add(x, number), TensorType(dtype, (2,)))

    def test_a_number_alone_or_something_else_is_refused(self) -> None:
        with pytest.raises(TypeRuleError, match=r"neg\(1\): a number needs another operand"):
            trace(lambda b: b.neg(1))
        with pytest.raises(TypeRuleError, match="add: 'x' is neither a value nor a number"):
            trace(lambda b, x: b.add(x, "x"), X)

    def test_extents_are_constants_or_dimensions(self) -> None:
        n = Symbol("n").dim
        graph = trace(lambda b: [b.extent(3, F16), b.extent(2 * n, F16), b.extent(3, I8)])
        assert [n.op.describe(()) for n in graph] == [
            "constant() {value=3.0, dtype=f16}",
            "dimension() {dim=2*n, dtype=f16}",
            "constant() {value=3, dtype=i8}",
        ]


class TestConstants:
    def test_equality_knows_signed_zeros_kinds_and_nan(self) -> None:
        def constant(value: complex | str, dtype: DType) -> Constant:
            return Constant(value=value, dtype=dtype)

        assert constant(1, F32) == constant(1.0, F32) == constant(True, F32)
        assert hash(constant(1, F32)) == hash(constant(1.0, F32))
        assert constant(0.0, F32) != constant(-0.0, F32)
        assert constant(float("nan"), F32) == constant(float("nan"), F32)
        assert constant(1, I64) != constant(1, I8)
        assert constant(0j, C64) != constant(complex(0.0, -0.0), C64)
        assert constant("1", STRING) != constant("1.0", STRING)

    @pytest.mark.parametrize(("value", "dtype"), [("a", F32), (1, STRING), (2, BOOL), (0.0, BOOL), (1.0, I64)])
    def test_a_value_of_another_kind_is_refused(self, value: float | str, dtype: DType) -> None:
        with pytest.raises(TypeRuleError, match=f"is not of dtype {dtype}"):
            Builder(Graph()).const(value, dtype)


class TestAttributes:
    def test_lists_and_numpy_numbers_become_plain(self) -> None:
        op = make(REGISTRY["transpose"], {"perm": [np.int64(1), 0]})
        assert op == make(REGISTRY["transpose"], {"perm": (1, 0)})
        assert hash(op) == hash(make(REGISTRY["transpose"], {"perm": (1, 0)}))
        assert [type(p) for p in op.perm] == [int, int]  # type: ignore[attr-defined]

    def test_a_whole_number_where_a_float_is_declared_is_a_float(self) -> None:
        op = make(REGISTRY["layer_norm"], {"axis": -1, "epsilon": 1})
        assert op.describe((X,)) == "layer_norm(f32[2,3]) {axis=-1, epsilon=1.0}"

    @pytest.mark.parametrize(
        ("name", "attributes", "complaint"),
        [
            ("softmax", {"axes": 1}, "softmax: got an unexpected keyword argument 'axes'; its attributes are axis"),
            ("softmax", {}, "softmax: missing 1 required attribute: 'axis'; its attributes are axis"),
            ("neg", {"a": 1}, "neg: got an unexpected keyword argument 'a'; its attributes are none"),
            ("softmax", {"axis": {1}}, "softmax: an attribute cannot be a set: {1}"),
            ("softmax", {"axis": np.arange(2)}, "softmax: an attribute cannot be a ndarray"),
        ],
    )
    def test_a_wrong_attribute_is_named_with_those_there_are(
        self, name: str, attributes: dict[str, object], complaint: str
    ) -> None:
        with pytest.raises(TypeRuleError) as caught:
            make(REGISTRY[name], attributes)
        assert str(caught.value).startswith(complaint)

    @pytest.mark.parametrize("axis", [2, -3])
    def test_a_type_rule_that_refuses_tells_the_op_and_its_operands(self, axis: int) -> None:
        with pytest.raises(TypeRuleError) as caught:
            trace(lambda b, x: b.softmax(x, axis=axis), X)
        assert str(caught.value) == f"softmax(f32[2,3]) {{axis={axis}}}: axis={axis} is out of range for rank 2"

    @pytest.mark.parametrize(
        ("name", "attribute", "given", "form"),
        [
            ("softmax", "axis", 1.5, "int"),
            ("softmax", "axis", None, "int"),
            ("transpose", "perm", (0, "x"), "tuple[int, ...]"),
            ("transpose", "perm", 1, "tuple[int, ...]"),
            ("reshape", "shape", (2.0,), "Shape"),
            ("cast", "dtype", "f32", "DType"),
            ("pad", "padding", ((0, 1, 2),), "tuple[tuple[Dim, Dim], ...]"),
            ("clip", "low", "0", "float | None"),
            ("gelu", "approximate", True, "str"),
            ("reduce_sum", "keepdims", 2, "bool"),
            ("cond", "then", "graph", "Graph"),
        ],
    )
    def test_an_attribute_of_another_form_is_refused(self, name: str, attribute: str, given: object, form: str) -> None:
        others = {"axes": (0,)} if name == "reduce_sum" else {"orelse": Graph()} if name == "cond" else {}
        with pytest.raises(TypeRuleError) as caught:
            make(REGISTRY[name], {attribute: given, **others})
        assert f"{name}: the attribute {attribute!r} should be {form}, not " in str(caught.value)

    def test_truth_values_and_the_numbers_0_and_1_stand_for_each_other(self) -> None:
        assert make(REGISTRY["reduce_sum"], {"axes": [True], "keepdims": 1}) == make(
            REGISTRY["reduce_sum"], {"axes": (1,), "keepdims": True}
        )

    def test_too_few_and_too_many_operands_tell_the_signature(self) -> None:
        with pytest.raises(TypeRuleError, match=r"add\(f32\[2,3\]\): takes \(x, y\), got 1 operand"):
            trace(lambda b, x: b.add(x), X)
        with pytest.raises(TypeRuleError, match=r"linear\(.*\): takes \(x, weight, bias\?\), got 4"):
            trace(lambda b, x: b.linear(x, x, x, x), X)
        with pytest.raises(TypeRuleError, match="the operand 'x' is required"):
            trace(lambda b, x: b.where(x, None, x), X)
        with pytest.raises(TypeRuleError, match=r"an operand among \*xs is missing"):
            trace(lambda b, x: b.concat(x, None, x, axis=0), X)


class TestTrace:
    def test_inputs_get_names_and_outputs_what_is_returned(self) -> None:
        graph = trace(lambda b, x, y: [y, b.add(x, y)], X, X, names=["left", "right"])
        assert [v.name for v in graph.inputs] == ["left", "right"]
        assert graph.outputs[0] is graph.inputs[1]
        assert graph.name == ""

    def test_a_function_gives_the_graph_its_name(self) -> None:
        def relu_twice(b: Builder, x: object) -> object:
            return b.relu(b.relu(x))  # type: ignore[arg-type]

        assert trace(relu_twice, X).name == "relu_twice"

    def test_each_input_needs_a_name(self) -> None:
        with pytest.raises(UsageError, match="2 inputs need as many names, got 1"):
            trace(lambda b, x, y: x, X, X, names=["a"])
