from __future__ import annotations

import gc
import math
import tracemalloc
import weakref
from collections.abc import Callable, Sequence
from typing import Any

import ml_dtypes
import numpy as np
import pytest

from dragoman.ir.arithmetic import FLOAT64, NATIVE
from dragoman.ir.builder import Builder, trace
from dragoman.ir.dims import Dim, Symbol, parse_dim
from dragoman.ir.errors import UsageError, VerifyError
from dragoman.ir.field import FIELD, embed
from dragoman.ir.graph import Graph, Node, Value
from dragoman.ir.interpreter import Interpreter, bind_shape, bind_shapes, evaluate_type, run
from dragoman.ir.op import REGISTRY, Array, Op
from dragoman.ir.provenance import Provenance, Source
from dragoman.ir.types import BF16, BOOL, F16, F32, F64, I4, I8, I16, I64, STRING, U8, DType, TensorType, parse_type
from dragoman.ir.weights import ArrayWeight, ComputedWeight
from tests.ir.cost import seconds

S = Symbol("s", 1, 100)
KNOWN = {"s": S, "t": Symbol("t", 0)}


def typed(text: str) -> TensorType:
    return parse_type(text, KNOWN)


def identity(*types: str) -> Graph:
    return trace(lambda b, *xs: list(xs), *map(typed, types))


def refusal(graph: Graph, *inputs: Any) -> str:
    with pytest.raises(UsageError) as caught:
        run(graph, *inputs)
    return str(caught.value)


class TestSymbols:
    def test_a_linear_expression_tells_its_symbol(self) -> None:
        graph = trace(lambda b, x: b.extent(KNOWN["s"].dim, I64), typed("f32[2*s+1]"))
        assert run(graph, np.zeros(7))[0] == 3

    @pytest.mark.parametrize(
        ("types", "shapes", "expected"),
        [
            (["f32[2*s + t,s]"], [(7, 2)], {"s": 2, "t": 3}),
            (["f32[s + t]", "f32[s]"], [(5,), (2,)], {"s": 2, "t": 3}),
            (["f32[s*t]", "f32[t]"], [(6,), (3,)], {"s": 2, "t": 3}),
            (["f32[floordiv(s, 2),s]"], [(2, 5)], {"s": 5}),
            (["f32[s - t]", "f32[s + t]", "f32[t]"], [(2,), (4,), (1,)], {"s": 3, "t": 1}),
        ],
    )
    def test_shapes_tell_each_other_what_they_need(
        self, types: list[str], shapes: list[tuple[int, ...]], expected: dict[str, int]
    ) -> None:
        given = [(typed(t), s, f"x{i}") for i, (t, s) in enumerate(zip(types, shapes, strict=True))]
        assert bind_shapes(given, {}) == expected

    @pytest.mark.parametrize(
        ("type", "shape", "complaint"),
        [
            ("f32[3]", (4,), "'x' should be f32[3], got [4]: axis 0 is 4, not 3"),
            ("f32[s,s]", (4, 5), "'x' should be f32[s,s], got [4, 5]: axis 1 is 5, not s = 4"),
            ("f32[s]", (4, 5), "'x' should be f32[s], got rank 2: [4, 5]"),
            ("f32[2*s + 1]", (4,), "axis 0, 4, does not tell 2*s + 1: it is no value of that"),
            ("f32[s + t]", (4,), "axis 0, 4, does not tell s + t: too few sizes are known"),
            ("f32[s]", (0,), "'x': s = 0 is outside its range 1..100"),
            ("f32[s]", (101,), "'x': s = 101 is outside its range 1..100"),
            ("f32[2*s + 1]", (1,), "'x': s = 0 is outside its range 1..100"),
        ],
    )
    def test_a_shape_that_does_not_fit_is_told(self, type: str, shape: tuple[int, ...], complaint: str) -> None:
        with pytest.raises(UsageError) as caught:
            bind_shape(typed(type), shape, {}, "x")
        assert complaint in str(caught.value)

    def test_inputs_must_agree_with_each_other(self) -> None:
        message = refusal(identity("f32[s]", "f32[s,2]"), np.zeros(3), np.zeros((4, 2)))
        assert message == "'x1' should be f32[s,2], got [4, 2]: axis 0 is 4, not s = 3"

    def test_each_run_binds_anew(self) -> None:
        interpreter = Interpreter(trace(lambda b, x: b.extent(S.dim, I64), typed("f32[s]")))
        assert [int(interpreter.run([np.zeros(n)])[0]) for n in (3, 5, 1)] == [3, 5, 1]

    def test_a_size_given_beforehand_stays(self) -> None:
        graph = trace(lambda b, x: b.broadcast_to(x, shape=(S.dim,)), typed("f32[]"))
        interpreter = Interpreter(graph)
        interpreter.symbols["s"] = 4
        assert [interpreter.run([1.0])[0].shape for _ in range(2)] == [(4,), (4,)]

    def test_a_data_dependent_size_is_bound_when_its_node_has_run(self) -> None:
        k: Dim = Symbol("k", 0).dim

        def build(b: Builder, x: Value) -> list[Value]:
            places = b.nonzero(x, size=k)
            return [b.add(b.reshape(places, shape=(k,)), 0), b.extent(2 * k, I64)]

        interpreter = Interpreter(trace(build, typed("f32[5]")))
        for array in ([0, 1, 0, 2, 3], [0, 0, 0, 0, 0], [1, 1, 1, 1, 1]):
            places, doubled = interpreter.run([array])
            assert places.tolist() == np.flatnonzero(array).tolist()
            assert doubled == 2 * np.count_nonzero(array)

    def test_types_are_evaluated_at_sizes(self) -> None:
        assert evaluate_type(typed("f32[s,2*s + t,3]"), {"s": 2, "t": 1}) == (2, 5, 3)


class TestInputs:
    def test_the_number_of_inputs_is_told_with_their_names(self) -> None:
        assert refusal(identity("f32[]", "f32[]"), 1.0) == "the graph takes 2 inputs (x0, x1), got 1"

    @pytest.mark.parametrize(
        ("dtype", "given"),
        [
            (I64, np.zeros(2)),
            (BOOL, np.zeros(2)),
            (F32, np.zeros(2, np.complex64)),
            (F32, np.array(["a", "b"])),
            (STRING, np.zeros(2)),
            (U8, np.zeros(2, ml_dtypes.bfloat16)),
        ],
    )
    def test_another_kind_of_number_is_refused(self, dtype: DType, given: np.ndarray[Any, Any]) -> None:
        assert refusal(identity(f"{dtype}[2]"), given).startswith(f"'x0' should be {dtype}[2], got ")

    @pytest.mark.parametrize(("dtype", "given"), [(U8, [256]), (U8, [-1]), (I8, [2**63]), (I4, [8]), (I4, [-9])])
    def test_integers_out_of_range_are_refused(self, dtype: DType, given: list[int]) -> None:
        assert "out of its range" in refusal(identity(f"{dtype}[1]"), given)

    @pytest.mark.parametrize(
        ("dtype", "given"),
        [
            (F32, [1, 2]),
            (F32, [True, False]),
            (BF16, np.array([1, 2], ml_dtypes.bfloat16)),
            (BOOL, [0, 1]),
            (I4, [-8, 7]),
            (I64, np.array([3], np.uint8)),
            (F64, np.float32(1.5).reshape(1)),
            (STRING, ["ab", "c"]),
            (I64, []),
        ],
    )
    def test_what_loses_nothing_is_taken(self, dtype: DType, given: Any) -> None:
        graph = identity(f"{dtype}[{len(given)}]")
        graph.inputs[0].type = TensorType(dtype, (len(given),))
        array = np.asarray(given) if len(given) else np.zeros(0, np.int64)
        assert run(graph, array)[0].tolist() == array.tolist()

    def test_python_numbers_are_arrays_of_rank_0(self) -> None:
        (result,) = run(trace(lambda b, x: b.add(x, x), typed("f32[]")), 2)
        assert isinstance(result, np.ndarray)
        assert (result.shape, float(result)) == ((), 4.0)


class TestRegions:
    @pytest.mark.parametrize("arithmetic", [FLOAT64, NATIVE], ids=lambda m: m.name)
    def test_a_condition_runs_one_branch(self, arithmetic: Any) -> None:
        then = trace(lambda b, x: b.neg(x), typed("f16[s]"))
        orelse = trace(lambda b, x: b.mul(x, 2), typed("f16[s]"))
        graph = trace(lambda b, p, x: b.cond(p, x, then=then, orelse=orelse), TensorType(BOOL, ()), typed("f16[s]"))
        x = np.array([1.5, 3], np.float16)
        assert run(graph, np.True_, x, arithmetic=arithmetic)[0].tolist() == [-1.5, -3.0]
        assert run(graph, np.False_, x, arithmetic=arithmetic)[0].tolist() == [3.0, 6.0]

    def test_a_loop_of_many_turns_plans_its_body_once(self, monkeypatch: pytest.MonkeyPatch) -> None:
        import dragoman.ir.interpreter as module

        planned: list[Graph] = []
        original = module._with_last_uses  # pyright: ignore[reportPrivateUsage]

        def counting(graph: Graph, keep: Any) -> Any:
            planned.append(graph)
            return original(graph, keep)

        monkeypatch.setattr(module, "_with_last_uses", counting)
        body = trace(lambda b, c, x: b.add(c, x), typed("f32[]"), typed("f32[]"))
        graph = trace(
            lambda b, c, xs: b.scan(c, xs, body=body, carries=1, length=500), typed("f32[]"), TensorType(F32, (500,))
        )
        assert run(graph, 0.0, np.arange(500.0))[0] == 124750.0
        assert len(planned) == 2

    def test_a_subclass_sees_the_nodes_of_regions_with_its_own_state(self) -> None:
        class Counting(Interpreter):
            def __init__(self, graph: Graph, *, label: str) -> None:
                super().__init__(graph)
                self.seen = [label]

            def run_node(self, node: Node, operands: Sequence[Array | None]) -> tuple[Array, ...]:
                self.seen.append(node.op.name)
                return super().run_node(node, operands)

        body = trace(lambda b, x: b.neg(x), typed("f32[]"))
        graph = trace(lambda b, p, x: b.cond(p, x, then=body, orelse=body), TensorType(BOOL, ()), typed("f32[]"))
        interpreter = Counting(graph, label="start")
        interpreter.run([np.True_, 1.0])
        assert interpreter.seen == ["start", "cond", "neg"]

    def test_a_size_found_in_a_region_stays_there(self) -> None:
        k: Dim = Symbol("k", 0).dim
        body = trace(
            lambda b, t, x: b.add(t, b.reduce_sum(b.nonzero(x, size=k), axes=(0, 1))), typed("i64[]"), typed("f32[3]")
        )
        graph = trace(lambda b, t, xs: b.scan(t, xs, body=body, carries=1, length=2), typed("i64[]"), typed("f32[2,3]"))
        interpreter = Interpreter(graph)
        assert interpreter.run([0, [[1, 1, 1], [0, 0, 1]]])[0] == 0 + 1 + 2 + 2
        assert interpreter.symbols == {}


class Wrong(Op):
    """What an op whose semantics contradict its type rule would do."""

    def infer(self, x: TensorType) -> TensorType:
        return x

    def reference(self, m: Any, x: Array) -> Array:
        return x[:1]


class TestErrors:
    @staticmethod
    def graph_of(op: Op, provenance: Provenance) -> Graph:
        graph = Graph()
        x = graph.add_input(typed("f32[3]"), "x")
        node = Node(op, [x], provenance)
        node.results = (Value(typed("f32[3]"), node),)
        graph._link(node, graph.terminator)  # pyright: ignore[reportPrivateUsage]
        graph.set_outputs(node.results)
        return graph

    def test_an_op_that_computes_another_shape_than_its_type_is_caught(self) -> None:
        op = Wrong()
        type(op).name = "wrong"
        with pytest.raises(
            VerifyError, match=r"the shape computed is \[1\], that of its type f32\[3\] is \[3\]"
        ) as caught:
            run(self.graph_of(op, Provenance((Source("aten.wrong", "head", "net.py:3"),))), np.zeros(3))
        assert caught.value.__notes__ == ["while running <wrong(f32[3]) -> f32[3]> from head (net.py:3)"]

    def test_an_op_that_computes_another_number_of_results_is_caught(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(REGISTRY["neg"], "reference", lambda self, m, x: (x, x))
        with pytest.raises(VerifyError, match="neg computed 2 results, its type rule says 1"):
            run(trace(lambda b, x: b.neg(x), typed("f32[3]")), np.zeros(3))

    def test_any_failure_is_told_with_the_node(self) -> None:
        graph = trace(lambda b, x, i: b.take(x, i, axis=0), typed("f32[3]"), typed("i64[]"))
        with pytest.raises(UsageError) as caught:
            run(graph, np.zeros(3), 7)
        assert caught.value.__notes__ == ["while running <take(f32[3], i64[]) {axis=0} -> f32[]>"]

    def test_numpy_warns_of_nothing(self) -> None:
        graph = trace(lambda b, x: b.cast(b.div(b.log(x), x), dtype=F16), typed("f32[2]"))
        for arithmetic in (FLOAT64, NATIVE):
            assert np.isinf(run(graph, np.array([0.0, 1e-30]), arithmetic=arithmetic)[0][0])
        signalling = np.array([0x7F800001], np.uint32).view(np.float32)
        weighted = Graph()
        weighted.set_outputs([weighted.add_input(typed("f16[1]")), weighted.add_weight("w", ArrayWeight(signalling))])
        assert [math.isnan(r[0]) for r in run(weighted, np.array([1e30]))] == [False, True]
        assert np.isinf(run(weighted, np.array([1e30]), arithmetic=NATIVE)[0][0])


class TestPrecision:
    def test_float64_does_not_round_between_nodes_and_native_does(self) -> None:
        def build(b: Builder, x: Value) -> Value:
            return b.sub(b.add(x, 1.0), x)

        x = np.array([2048.0])
        for dtype, native in ((F16, 0.0), (BF16, 0.0), (F32, 1.0)):
            graph = trace(build, TensorType(dtype, (1,)))
            assert run(graph, x)[0].tolist() == [1.0]
            (result,) = run(graph, x, arithmetic=NATIVE)
            assert result.dtype == dtype.numpy
            assert result.astype(float).tolist() == [native]

    @pytest.mark.parametrize(
        ("dtype", "x", "y", "total"),
        [(I8, 127, 1, -128), (U8, 255, 1, 0), (I16, -(2**15), -1, 2**15 - 1), (I64, 2**63 - 1, 1, -(2**63))],
    )
    def test_integers_wrap_in_their_width(self, dtype: DType, x: int, y: int, total: int) -> None:
        graph = trace(lambda b, a, c: b.add(a, c), TensorType(dtype, ()), TensorType(dtype, ()))
        for arithmetic in (FLOAT64, NATIVE, FIELD):
            (result,) = run(graph, np.int64(x), np.int64(y), arithmetic=arithmetic)
            assert isinstance(result, np.ndarray)
            assert (int(result), result.dtype) == (total, dtype.numpy)

    def test_four_bit_integers_wrap_where_they_are_stored(self) -> None:
        graph = trace(lambda b, x: b.cast(b.cast(x, dtype=I4), dtype=I8), typed("i8[4]"))
        for arithmetic in (FLOAT64, NATIVE, FIELD):
            assert run(graph, np.array([7, 8, -9, 100], np.int8), arithmetic=arithmetic)[0].tolist() == [7, -8, 7, 4]

    def test_residues_go_in_and_come_out(self) -> None:
        graph = trace(lambda b, x: b.add(x, x), typed("f32[2]"))
        (result,) = run(graph, embed(np.array([1.5, 2.0])), arithmetic=FIELD)
        assert bool(np.all(result == np.array([3.0, 4.0])))


class TestMemory:
    def test_a_value_is_freed_after_its_last_use(self) -> None:
        alive: list[int] = []
        made: list[Any] = []

        class Watching(Interpreter):
            def run_node(self, node: Node, operands: Sequence[Array | None]) -> tuple[Array, ...]:
                results = super().run_node(node, operands)
                made.extend(weakref.ref(r) for r in results)
                del operands
                alive.append(sum(r() is not None for r in made))
                return results

        def build(b: Builder, x: Value) -> Value:
            for _ in range(50):
                x = b.neg(x)
                b.abs(x)  # nobody uses this
            return x

        interpreter = Watching(trace(build, typed("f32[8]")))
        gc.collect()
        interpreter.run([np.zeros(8)])
        assert max(alive) <= 4
        assert interpreter.values == {}

    def test_a_long_chain_of_large_values_stays_small(self) -> None:
        def build(b: Builder, x: Value) -> Value:
            for _ in range(30):
                x = b.neg(x)
            return x

        graph = trace(build, TensorType(F32, (1 << 17,)))  # a MiB in float64
        x = np.zeros(1 << 17)
        tracemalloc.start()
        run(graph, x)
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        assert peak < 4 << 20

    def test_weights_are_brought_in_for_each_use_and_not_held(self) -> None:
        made: list[int] = []

        def compute() -> Array:
            made.append(1)
            return np.ones((4,), np.float32)

        graph = Graph()
        w = graph.add_weight("w", ComputedWeight(F32, (4,), compute))
        b = Builder(graph)
        graph.set_outputs([b.add(b.add(w, w), w)])
        interpreter = Interpreter(graph)
        assert interpreter.run([])[0].tolist() == [3.0] * 4
        assert len(made) == 3
        assert interpreter.values == {}

    def test_kept_values_can_be_read_after_the_run(self) -> None:
        graph = trace(lambda b, x: b.abs(b.neg(x)), typed("f32[2]"))
        first = graph.nodes[0].result
        interpreter = Interpreter(graph, keep=lambda v: v is first)
        interpreter.run([np.array([1.0, 2.0])])
        assert interpreter.values[first].tolist() == [-1.0, -2.0]
        assert graph.inputs[0] not in interpreter.values

    def test_an_edit_between_runs_is_seen(self) -> None:
        graph = trace(lambda b, x: b.neg(x), typed("f32[2]"))
        interpreter = Interpreter(graph)
        assert interpreter.run([[1.0, 2.0]])[0].tolist() == [-1.0, -2.0]
        graph.set_outputs([Builder(graph).exp(graph.outputs[0])])
        np.testing.assert_allclose(interpreter.run([[1.0, 2.0]])[0], np.exp([-1.0, -2.0]))


def test_a_chain_of_a_hundred_thousand_nodes_runs_without_recursion() -> None:
    def build(b: Builder, x: Value) -> Value:
        y = x
        for _ in range(100_000):
            y = b.add(y, x)
        return y

    graph = trace(build, typed("f64[2]"))
    found: list[list[float]] = []
    assert seconds(lambda: found.append(run(graph, np.array([1.0, -0.5]))[0].tolist())) < 30
    assert found == [[100_001.0, -50_000.5]]


@pytest.mark.parametrize("shape", [(), (0,), (2, 0, 3), (1, 1)])
def test_scalars_and_empty_arrays_run_through_every_arithmetic(shape: tuple[int, ...]) -> None:
    def build(b: Builder, x: Value) -> list[Value]:
        y = b.mul(b.add(x, 1.0), x)
        return [y, b.reduce_sum(y, axes=tuple(range(len(shape)))), b.cast(b.less(x, y), dtype=I64)]

    graph = trace(build, TensorType(F32, shape))
    x = np.full(shape, 2.0)
    for arithmetic in (FLOAT64, NATIVE, FIELD):
        product, total, flags = run(graph, x, arithmetic=arithmetic)
        assert (product.shape, total.shape, flags.shape) == (shape, (), shape)
        if arithmetic is not FIELD:
            assert product.tolist() == np.full(shape, 6.0).tolist()
            assert float(total) == 6.0 * np.prod(shape)


def test_a_weight_may_be_an_output_and_an_input_too() -> None:
    graph = Graph()
    x = graph.add_input(typed("f32[2]"), "x")
    w = graph.add_weight("w", ArrayWeight(np.array([1, 2], np.float32)))
    graph.set_outputs([w, x, w], ["a", "b", "c"])
    assert [r.tolist() for r in run(graph, np.array([3.0, 4.0]))] == [[1.0, 2.0], [3.0, 4.0], [1.0, 2.0]]


def test_dims_within_attributes_follow_the_run() -> None:
    graph = trace(lambda b, x: b.pad(x, padding=((0, parse_dim("s", KNOWN)),), value=7.0), typed("f32[s]"))
    make: Callable[[int], Any] = lambda n: run(graph, np.zeros(n))[0].tolist()  # noqa: E731
    assert make(1) == [0.0, 7.0]
    assert make(2) == [0.0, 0.0, 7.0, 7.0]
