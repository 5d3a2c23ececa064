from __future__ import annotations

import pickle
from collections.abc import Iterator
from typing import Any

import pytest

from dragoman.ir.builder import Builder, make, trace
from dragoman.ir.dims import Dim, Symbol
from dragoman.ir.errors import TypeRuleError
from dragoman.ir.graph import Graph, Value
from dragoman.ir.op import (
    REGISTRY,
    Arithmetic,
    Array,
    Op,
    TensorType,
    normal_axes,
    normal_axis,
    operand,
    require,
    same_dtype,
    sample,
)
from dragoman.ir.types import F32, I64, DType

X = TensorType(F32, (2, 3))
N = Symbol("n")


@pytest.fixture(autouse=True)
def _registry_as_it_was() -> Iterator[None]:
    before = dict(REGISTRY)
    yield
    for name in set(REGISTRY) - set(before):
        del REGISTRY[name]
        if name in vars(Builder):
            delattr(Builder, name)


class TestDefinition:
    def test_one_class_gives_builder_method_types_and_traits(self) -> None:
        class Doubled(Op, name="doubled", pointwise=True):
            """x + x."""

            times: int = 2

            def infer(self, x: TensorType, y: TensorType | None = None) -> TensorType:
                return x

            def reference(self, m: Arithmetic, x: Array) -> Array:
                return x * self.times

            def decompose(self, b: Builder, x: Value) -> Value:
                return b.add(x, x)

        graph = trace(lambda b, x: b.doubled(x), X)
        assert REGISTRY["doubled"] is Doubled
        assert graph.outputs[0].type == X
        assert (Doubled.pointwise, Doubled.movement, Doubled.is_composite(), Doubled.returns_one) == (
            True,
            False,
            True,
            True,
        )
        assert Doubled.attribute_names() == ("times",)
        assert (Doubled.signature.required, Doubled.signature.optional) == (("x",), ("y",))
        assert list(Doubled().attributes()) == []
        assert list(Doubled(times=3).attributes()) == [("times", 3)]

    def test_two_ops_of_one_name_unknown_traits_and_untold_results_are_mistakes(self) -> None:
        with pytest.raises(TypeError, match="two ops are named 'add'"):

            class Other(Op, name="add"):  # pyright: ignore[reportUnusedClass]
                def infer(self, x: TensorType) -> TensorType:
                    return x

        with pytest.raises(TypeError, match="'pointwize' is not a trait"):

            class Misspelt(Op, name="misspelt", pointwize=True):  # pyright: ignore[reportUnusedClass]
                def infer(self, x: TensorType) -> TensorType:
                    return x

        with pytest.raises(TypeError, match=r"Untold\.infer must be annotated to return TensorType or tuple"):

            class Untold(Op, name="untold"):  # pyright: ignore[reportUnusedClass]
                def infer(self, x: TensorType) -> Any:
                    return x

    def test_a_type_rule_that_trips_is_malformed_input_told_with_the_op(self) -> None:
        class Tripping(Op, name="tripping"):
            key: str

            def infer(self, x: TensorType) -> TensorType:
                return {"a": x}[self.key]

        assert make(Tripping, {"key": "a"}).result_types((X,)) == (X,)
        with pytest.raises(TypeRuleError, match=r"tripping\(f32\[2,3\]\) \{key=b\}: KeyError: 'b'"):
            make(Tripping, {"key": "b"}).result_types((X,))

    def test_a_type_rule_is_run_once_for_the_same_question_but_not_where_a_region_may_change(self) -> None:
        asked: list[TensorType] = []

        class Asking(Op, name="asking"):
            region: Graph | None = None

            def infer(self, x: TensorType) -> TensorType:
                asked.append(x)
                return x

        for _ in range(3):
            make(Asking, {}).result_types((TensorType(F32, (N.dim,)),))
        assert len(asked) == 1
        op = Asking(region=Graph())
        for _ in range(3):
            op.result_types((X,))
        assert len(asked) == 4

    def test_every_op_tells_what_it_is_and_has_samples(self) -> None:
        for name, cls in REGISTRY.items():
            assert cls.__doc__, name
            assert any(True for _ in cls.samples()), name
            assert name.isidentifier()


class TestAttributes:
    def test_symbols_are_found_and_replaced_at_any_depth(self) -> None:
        n: Dim = N.dim
        op = make(REGISTRY["pad"], {"padding": ((0, n), (2 * n, 0))})
        assert op.symbols() == {"n"}
        assert op.is_symbolic
        replaced = op.substitute({"n": 3})
        assert replaced == make(REGISTRY["pad"], {"padding": ((0, 3), (6, 0))})
        assert not replaced.is_symbolic
        assert replaced.substitute({"n": 4}) is replaced

    def test_regions_are_found_among_attributes(self) -> None:
        a, b = Graph("a"), Graph("b")
        assert make(REGISTRY["cond"], {"then": a, "orelse": b}).regions == (a, b)
        assert make(REGISTRY["neg"], {}).regions == ()

        class Switch(Op, name="switch"):
            branches: tuple[Graph, ...]

            def infer(self, x: TensorType) -> TensorType:
                return x

        assert make(Switch, {"branches": [a, b, a]}).regions == (a, b, a)

    def test_a_copy_from_another_process_is_equal(self) -> None:
        op = make(REGISTRY["pad"], {"padding": ((0, N.dim),), "value": -0.0})
        hash(op)
        again = pickle.loads(pickle.dumps(op))
        assert again == op
        assert hash(again) == hash(op)
        assert again != op.with_attributes(value=0.0)

    def test_a_long_attribute_is_cut_short_in_an_error(self) -> None:
        op = make(REGISTRY["transpose"], {"perm": tuple(range(500))})
        assert len(op.describe((X,))) < 200
        assert op.describe((X, None)).startswith("transpose(f32[2,3], _) {perm=(0, 1, 2,")
        assert make(REGISTRY["cond"], {"then": Graph(), "orelse": Graph()}).describe(()).count("<graph>") == 2


class TestWhatTypeRulesSay:
    def test_axes(self) -> None:
        assert [normal_axis(a, 3) for a in (-3, -1, 0, 2)] == [0, 2, 0, 2]
        assert normal_axes((2, -3), 3) == (0, 2)
        assert normal_axes((), 0) == ()
        for call, complaint in (
            (lambda: normal_axis(0, 0), "axis=0 is out of range for rank 0"),
            (lambda: normal_axis(3, 3, "dim"), "dim=3 is out of range for rank 3"),
            (lambda: normal_axes((0, -3), 3), "axes has a repeated axis"),
        ):
            with pytest.raises(TypeRuleError, match=complaint):
                call()

    def test_dtypes_never_promote(self) -> None:
        same_dtype(X, None, X)
        with pytest.raises(
            TypeRuleError, match="operands have dtypes f32 and i64; insert a cast, dtypes never promote"
        ):
            same_dtype(X, TensorType(I64, ()))
        with pytest.raises(TypeRuleError, match="^why$"):
            require(False, "why")
        require(True, "why")

    def test_samples_take_text_or_domains(self) -> None:
        made = sample("f32[2]", operand("f32[]", low=0.1), None, axis=1)
        assert [o.type if o else None for o in made.operands] == ["f32[2]", "f32[]", None]
        assert made.attributes == {"axis": 1}
        assert isinstance(F32, DType)
