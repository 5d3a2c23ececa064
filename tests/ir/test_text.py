from __future__ import annotations

import json
import math
import resource
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from dragoman.ir.builder import Builder, trace
from dragoman.ir.dims import Symbol
from dragoman.ir.errors import Malformed, ParseError
from dragoman.ir.graph import Graph, Value
from dragoman.ir.interpreter import run
from dragoman.ir.provenance import Provenance, Source
from dragoman.ir.text import excerpt, literal, parse, show
from dragoman.ir.types import BF16, BOOL, C64, DTYPES, F32, I4, I64, STRING, U64, DType, TensorType, parse_type
from dragoman.ir.verify import verify
from dragoman.ir.weights import AbsentWeight, ArrayWeight, FileWeight, fingerprint
from tests.ir.cost import seconds

X = TensorType(F32, (2, 3))
HOSTILE = [
    "plain",
    "encoder.layer.3.attn",
    "0",
    "a b",
    'quote"and\\slash',
    "new\nline",
    "\x1b[31m",
    "right\u202eleft",
    "\ud800",
    "漢字",
    "é",
    "%x",
    "return",
    "# no comment",
    "'''",
    "x" * 5000,
    "a.",
    "_",
    "weight",
]


def round_trip(graph: Graph) -> Graph:
    text = str(graph)
    again = parse(text, {n: v.weight for n, v in graph.weights.items() if v.weight is not None})
    assert str(again) == text
    verify(again)
    return again


class TestRoundTrip:
    def test_hostile_names_of_inputs_weights_outputs_and_graphs(self) -> None:
        graph = Graph(HOSTILE[6])
        inputs = [graph.add_input(X, n) for n in HOSTILE]
        weights = [graph.add_weight(n, AbsentWeight(F32, (2, 3))) for n in HOSTILE]
        b = Builder(graph)
        graph.set_outputs([b.add(x, w) for x, w in zip(inputs, weights, strict=True)], HOSTILE)
        text = str(graph)
        assert text.isascii()
        assert text.replace("\n", "").isprintable()
        again = parse(text)
        assert [v.name for v in again.inputs] == HOSTILE
        assert list(again.weights) == HOSTILE
        assert again.output_names == tuple(HOSTILE)
        assert again.name == HOSTILE[6]
        assert str(again) == text

    @given(st.lists(st.text(max_size=8), unique=True, min_size=1, max_size=4))
    def test_any_names(self, names: list[str]) -> None:
        graph = Graph()
        graph.set_outputs([graph.add_input(X, n or "x") for n in names], names)
        assert str(parse(str(graph))) == str(graph)

    @pytest.mark.parametrize(
        ("value", "dtype"),
        [
            (math.nan, F32),
            (math.inf, F32),
            (-math.inf, BF16),
            (-0.0, F32),
            (5e-324, DTYPES["f64"]),
            (1e30, F32),
            (0.1, DTYPES["f16"]),
            (2**64 - 1, U64),
            (-8, I4),
            (True, BOOL),
            (complex(-0.0, math.nan), C64),
            ("a\n\"'\\ \ud800", STRING),
            ("", STRING),
        ],
    )
    def test_constants_keep_their_exact_value(self, value: complex | str, dtype: DType) -> None:
        graph = trace(lambda b: b.const(value, dtype))
        (before,), (after,) = graph, round_trip(graph)
        assert before.op == after.op

    def test_symbols_keep_their_ranges(self) -> None:
        batch, seq = Symbol("batch", 1, 64).dim, Symbol("seq", 0, 100).dim
        graph = trace(lambda b, x: b.neg(x), TensorType(F32, (batch, 2 * seq + 1)))
        assert " where batch in 1..64, seq in 0..100 {" in str(graph)
        assert round_trip(graph).symbols() == graph.symbols()

    def test_a_symbol_without_a_bound_is_open(self) -> None:
        text = str(trace(lambda b, x: b.neg(x), parse_type("f32[n]")))
        assert text.startswith("graph(%x0: f32[n]) where n in 1.. {")

    def test_optional_operands_and_several_results(self) -> None:
        def build(b: Builder, x: Value, w: Value) -> list[Value]:
            values, places = b.topk(b.layer_norm(x, None, w, axis=1, epsilon=1e-5), k=2, axis=-1)
            return [values, places]

        graph = trace(build, X, TensorType(F32, (3,)))
        assert "= layer_norm(%x0, _, %x1) {axis=1, epsilon=1e-05}" in str(graph)
        assert "%1: f32[2,2], %2: i64[2,2] = topk(%0)" in str(graph)
        round_trip(graph)

    def test_regions_are_indented_and_nest(self) -> None:
        def build(b: Builder, flag: Value, x: Value) -> Value:
            inner = trace(lambda c, p, y: c.neg(y), flag.type, x.type)
            nested = trace(lambda c, p, y: c.cond(p, p, y, then=inner, orelse=inner), flag.type, x.type)
            return b.cond(flag, flag, x, then=nested, orelse=inner)[0]

        graph = trace(build, TensorType(BOOL, ()), parse_type("f32[n]"))
        text = str(graph)
        assert "\n          %0: f32[n] = neg(%x1)\n" in text
        assert text.count("where") == 1  # the ranges of the outer graph hold within
        round_trip(graph)

    def test_a_symbol_of_a_region_is_declared_there_and_ends_there(self) -> None:
        text = """graph(%f: bool[], %x: f32[4]) {
  cond(%f, %x) {then=graph(%a: f32[4]) where k in 0..9 {
      %0: i64[1,k] = nonzero(%a) {size=[k]}
      return
    }, orelse=graph(%a: f32[4]) where k in 2..3 {
      %0: i64[1,k] = nonzero(%a) {size=[k]}
      return
    }}
  return
}"""
        graph = parse(text)
        assert str(graph) == text
        then, orelse = graph.nodes[0].op.regions
        assert (then.symbols()["k"].high, orelse.symbols()["k"].high) == (9, 3)

    def test_metadata_and_origins_are_not_part_of_the_text(self) -> None:
        graph = trace(lambda b, x: b.neg(x), X)
        plain = str(graph)
        graph.nodes[0].provenance = Provenance((Source("aten.neg", "a.b", "m.py:3  y = \x1b[1m-x"),))
        assert str(graph) == plain
        text = show(graph, origins=True)
        assert text.splitlines()[1] == "  %0: f32[2,3] = neg(%x0)  # a.b (m.py:3  y = \\x1b[1m-x)"
        assert str(parse(text)) == plain

    def test_an_empty_graph(self) -> None:
        assert str(Graph()) == "graph() {\n  return\n}"
        round_trip(Graph())


class TestWeights:
    @pytest.mark.parametrize("dtype", [d for d in DTYPES.values() if d.kind not in ("complex", "string")], ids=str)
    @pytest.mark.parametrize("shape", [(), (0,), (2, 3), (8,)])
    def test_small_ones_are_printed_with_their_exact_values(self, dtype: DType, shape: tuple[int, ...]) -> None:
        count = math.prod(shape)
        values = (np.arange(count) * 0.3 - (1.0 if dtype.kind != "uint" else 0.0)).astype(np.float32)
        graph = Graph()
        weight = ArrayWeight(values.astype(dtype.numpy).reshape(shape))
        graph.set_outputs([graph.add_weight("w", weight)])
        again = parse(str(graph)).weights["w"].weight
        assert again is not None
        assert fingerprint(again) == fingerprint(weight)

    def test_special_floats_survive(self) -> None:
        graph = Graph()
        special = np.array([np.nan, np.inf, -np.inf, -0.0, 1e-45], np.float32)
        graph.set_outputs([graph.add_weight("w", ArrayWeight(special))])
        assert "= (nan, inf, -inf, -0.0, 1.401298464324817e-45)" in str(graph)
        again = parse(str(graph)).weights["w"].weight
        assert again is not None
        assert again.array().view(np.uint32).tolist()[1:] == special.view(np.uint32).tolist()[1:]

    def test_large_ones_are_named_and_their_values_given_to_the_parser(self, tmp_path: Path) -> None:
        missing = FileWeight(tmp_path / "not there", 0, F32, (1000, 1000))
        graph = Graph()
        graph.set_outputs([graph.add_weight("w", missing)])
        assert "  weight @w: f32[1000,1000]\n" in str(graph)
        assert parse(str(graph), {"w": missing}).weights["w"].weight is missing
        absent = parse(str(graph)).weights["w"].weight
        assert absent is not None
        with pytest.raises(Malformed, match="the weight 'w' was read from text without values"):
            absent.array()

    def test_a_given_weight_of_another_type_is_refused(self) -> None:
        text = 'graph() {\n  weight @w: f32[2]\n  return @w as "y"\n}'
        with pytest.raises(ParseError, match=r"line 2, column 10: the weight @w is f32\[2\] in the text, f32\[3\] as"):
            parse(text, {"w": ArrayWeight(np.zeros(3, np.float32))})


LINE = 'graph(%x: f32[2,3]) {\n  %0: f32[2,3] = neg(%x)\n  return %0 as "y"\n}'


class TestSpelling:
    @pytest.mark.parametrize(
        "text",
        [
            LINE,
            LINE.replace("\n", " "),
            f"# a comment\n\n{LINE}  # another\n",
            LINE.replace("%x", '%"x"', 1),
            LINE.replace("neg(%x)", 'neg(%"\\u0078")'),
            LINE.replace("%0", "%first"),
            LINE.replace("f32[2,3]", "f32[2, 1 + 2]"),
            LINE.replace(" ", "\t"),
        ],
    )
    def test_spaces_comments_quotes_and_names_of_results_are_free(self, text: str) -> None:
        assert str(parse(text)) == LINE

    def test_an_attribute_may_be_named_like_a_number(self) -> None:
        text = str(trace(lambda b, x: b.nan_to_num(x, nan=2.0, positive=math.inf, negative=-1), X))
        assert "nan=2.0" in text
        assert str(parse(text)) == text

    @pytest.mark.parametrize(
        ("value", "text"),
        [
            (None, "none"),
            (True, "true"),
            ((1, (2.0, ())), "(1, (2.0, ()))"),
            (np.float32(0.5), "0.5"),
            (np.int64(-3), "-3"),
            (-math.inf, "-inf"),
            (F32, "f32"),
            (Symbol("n").dim * 2, "[2*n]"),
            (1j, "complex(0.0, 1.0)"),
            ('"', '"\\""'),
        ],
    )
    def test_literals(self, value: object, text: str) -> None:
        assert literal(value) == text

    def test_what_has_no_text_form_is_said(self) -> None:
        with pytest.raises(Malformed, match="an attribute of type set has no text form"):
            literal({1})


def broken(old: str, new: str) -> str:
    assert old in LINE
    return LINE.replace(old, new, 1)


DEEP = "(" * 70


class TestErrors:
    @pytest.mark.parametrize(
        ("text", "line", "column", "complaint"),
        [
            ("", 1, 1, "'graph' expected, found the end"),
            ("graph(%x: f32[2]) {\n", 1, 20, "a word expected, found the end"),
            (f"{LINE} {{", 4, 3, "'{' after the end of the graph"),
            (broken("f32[2,3]) {", "f33[2,3]) {"), 1, 11, "'f33' is not an element type"),
            (broken("f32[2,3]) {", "f32[2,-3]) {"), 1, 11, "the extent -3 is negative"),
            (broken("f32[2,3]) {", "f32[2,3) {"), 1, 11, "a type expected, found 'f32'"),
            (broken("f32[2,3]) {", "f32[2,3]) where s in 5..2 {"), 1, 27, "the range 5..2 of dynamic dimension 's'"),
            (broken("f32[2,3]) {", "f32[2,3]) where s in 1.5.. {"), 1, 32, "an integer expected, found '1.5'"),
            (broken("f32[2,3]) {", "f32[2,3]) where s in 1.., s in 2.. {"), 1, 37, "s has another range already"),
            (broken("f32[2,3]) {", "f32[2,3], %x: f32[1]) {"), 1, 21, "%x is defined twice"),
            (broken("f32[2,3]) {", "f32[2,3], @w: f32[1]) {"), 1, 21, "an input is written %name, found '@w'"),
            (broken("neg", "ngt"), 2, 18, "'ngt' is not an op"),
            (broken("neg", "return"), 2, 18, "'return' is not an op"),
            (broken("neg(%x)", "neg(%y)"), 2, 22, "%y is not defined above"),
            (broken("neg(%x)", "neg(%0)"), 2, 22, "%0 is not defined above"),
            (broken("neg(%x)", "neg(é)"), 2, 22, "a value expected, found 'é', which begins nothing in the grammar"),
            (broken("neg(%x)", "neg(%x, %x)"), 2, 3, "neg(f32[2,3], f32[2,3]): takes (x), got 2 operand(s)"),
            (broken("neg(%x)", "neg(%x) {a=1}"), 2, 3, "neg: got an unexpected keyword argument 'a'"),
            (broken("neg(%x)", "softmax(%x) {axis=2}"), 2, 3, "axis=2 is out of range for rank 2"),
            (broken("neg(%x)", "softmax(%x) {axis=1, axis=1}"), 2, 39, "the attribute axis is given twice"),
            (broken("neg(%x)", "softmax(%x) {axis=one}"), 2, 36, "a literal expected, found 'one'"),
            (broken("neg(%x)", 'softmax(%x) {axis="\\q"}'), 2, 36, "is not a JSON string"),
            (broken("neg(%x)", f"softmax(%x) {{axis={'9' * 5000}}}"), 2, 36, "an integer expected, found '999"),
            (broken("neg(%x)", "softmax(%x) {axis=[1 +]}"), 2, 36, "the dimension '1 +' lacks an operand"),
            (broken("neg(%x)", f"softmax(%x) {{axis={DEEP}}}"), 2, 99, "nesting deeper than 64"),
            (broken("neg(%x)", "constant() {value=complex(1), dtype=c64}"), 2, 36, "complex needs two floats"),
            (broken("%0: f32[2,3] =", "%0: f32[3,2] ="), 2, 3, "neg infers f32[2,3], the text says f32[3,2]"),
            (broken("%0: f32[2,3] =", "%0: f32[2,3], %1: f32[2,3] ="), 2, 3, "neg has 1 results, the text names 2"),
            (broken("%0: f32[2,3] =", "%x: f32[2,3] ="), 2, 3, "%x is defined twice"),
            (broken("%0: f32[2,3] = neg", "%0 neg"), 2, 6, "':' expected, found 'neg'"),
            (broken('as "y"', "as y"), 3, 16, "a string expected, found 'y'"),
            (broken("return %0", 'return %0 as "y", %0'), 3, 3, "2 outputs need as many different names"),
            (broken("\n}", ""), 3, 19, "'}' expected, found the end"),
            (broken("{\n", "{\n  weight @w: f32[2] = (1.0)\n"), 2, 23, "2 value(s) in parentheses expected"),
            (broken("{\n", "{\n  weight @w: u8[1] = (256)\n"), 2, 22, "the value 256 is not of dtype u8"),
            (broken("{\n", "{\n  weight @w: i8[1] = (1.0)\n"), 2, 22, "the value 1.0 is not of dtype i8"),
            (broken("{\n", "{\n  weight @w: bool[1] = (1)\n"), 2, 24, "the value 1 is not of dtype bool"),
            (broken("{\n", "{\n  weight @w: f32[n]\n"), 2, 10, "the weight @w has a symbolic shape"),
            (broken("{\n", "{\n  weight @w: f32[99999999999] = (1.0)\n"), 2, 33, "99999999999 value(s)"),
            (broken("{\n", "{\n  weight %w: f32[2]\n"), 2, 10, "a weight is written @name, found '%w'"),
        ],
    )
    def test_malformed_text_is_told_with_line_and_column(
        self, text: str, line: int, column: int, complaint: str
    ) -> None:
        with pytest.raises(ParseError) as caught:
            parse(text)
        assert str(caught.value).startswith(f"line {line}, column {column}: ")
        assert complaint in str(caught.value)
        assert len(str(caught.value)) < 400

    def test_a_deep_nest_of_regions_is_refused_by_parser_and_printer_alike(self) -> None:
        flag = TensorType(BOOL, ())
        chain = "graph(%p: bool[]) {{\n cond(%p, %p) {{then={0}, orelse={1}}} return }}"
        leaf = "graph(%p: bool[]) { return }"
        text = leaf
        for _ in range(63):
            text = chain.format(text, leaf)
        deep = parse(text)
        assert str(parse(str(deep))) == str(deep)
        with pytest.raises(ParseError, match="nesting deeper than 64"):
            parse(chain.format(text, leaf))
        region = parse(leaf)
        deeper = trace(lambda b, p: b.cond(p, p, then=deep, orelse=region), flag)
        with pytest.raises(Malformed, match="graphs nested more than 64 deep have no text form"):
            str(deeper)

    @given(st.integers(0, len(LINE)), st.text(max_size=3))
    def test_any_damage_is_a_parse_error_or_another_graph(self, at: int, junk: str) -> None:
        for text in (LINE[:at] + junk + LINE[at:], LINE[:at] + junk + LINE[at + 1 :], LINE[:at]):
            try:
                graph = parse(text)
            except ParseError:
                continue
            assert str(parse(str(graph))) == str(graph)

    def test_text_is_never_evaluated(self) -> None:
        with pytest.raises(ParseError):
            parse(broken("neg(%x)", "softmax(%x) {axis=__import__('os')}"))


class TestExcerpts:
    def test_the_node_is_marked_among_its_neighbours(self) -> None:
        def build(b: Builder, x: Value) -> Value:
            for _ in range(6):
                x = b.neg(x)
            return x

        graph = trace(build, X)
        assert excerpt(graph, graph.nodes[3]).splitlines() == [
            "    %1: f32[2,3] = neg(%0)",
            "    %2: f32[2,3] = neg(%1)",
            ">>  %3: f32[2,3] = neg(%2)",
            "    %4: f32[2,3] = neg(%3)",
            "    %5: f32[2,3] = neg(%4)",
        ]
        assert excerpt(graph, graph.nodes[0]).splitlines()[0] == ">>  %0: f32[2,3] = neg(%x0)"
        assert excerpt(graph, graph.terminator).splitlines()[-1] == '>>  return %5 as "output0"'

    def test_a_graph_that_does_not_verify_is_printed_too(self) -> None:
        graph, other = trace(lambda b, x: b.neg(x), X), trace(lambda b, x: b.neg(x), X)
        graph.nodes[0].set_operand(0, other.inputs[0])
        assert "neg(%?)" in str(graph)
        assert "neg(%?)" in excerpt(graph, graph.nodes[0])


class TestCost:
    def test_a_hundred_thousand_nodes_print_and_parse_in_linear_time(
        self, record_property: Callable[..., None]
    ) -> None:
        def chain(length: int) -> Graph:
            def build(b: Builder, x: Value) -> Value:
                y = x
                for _ in range(length):
                    y = b.add(y, x)
                return y

            return trace(build, parse_type("f32[b,64]"))

        small, large = chain(10_000), chain(100_000)
        text = [str(small), str(large)]
        showing = [seconds(lambda g=g: show(g)) for g in (small, large)]
        parsing = [seconds(lambda t=t: parse(t)) for t in text]
        verifying = [seconds(lambda g=g: verify(g)) for g in (small, large)]
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        record_property("seconds", json.dumps({"show": showing, "parse": parsing, "verify": verifying, "peak": peak}))
        # Generous: a quadratic step would make it 100.
        assert showing[1] < 30 * showing[0] + 1
        assert parsing[1] < 30 * parsing[0] + 1
        assert verifying[1] < 30 * verifying[0] + 1

    def test_a_parsed_graph_computes_the_same(self) -> None:
        graph = trace(lambda b, x: b.softmax(b.mul(x, 0.1), axis=1), X)
        x = np.arange(6.0).reshape(2, 3)
        np.testing.assert_array_equal(run(parse(str(graph)), x)[0], run(graph, x)[0])


def rich_graph() -> Graph:
    graph = Graph("a small model")
    x = graph.add_input(parse_type("f32[batch,4]", {"batch": Symbol("batch", 1, 64)}), "x")
    flag = graph.add_input(TensorType(BOOL, ()), "use bias")
    w = graph.add_weight("layer.weight", AbsentWeight(F32, (3, 4)))
    bias = graph.add_weight("layer bias", ArrayWeight(np.array([0.1, -0.0, np.inf], np.float32)))
    b = Builder(graph, provenance=Provenance((Source("aten.linear", "layer", "net.py:7  return self.layer(x)"),)))
    hidden = b.linear(x, w)
    then = trace(lambda c, y, v: c.add(y, v), hidden.type, bias.type, names=["y", "v"])
    orelse = trace(lambda c, y, v: c.mul(y, 1.5), hidden.type, bias.type, names=["y", "v"])
    (chosen,) = b.cond(flag, hidden, bias, then=then, orelse=orelse)
    normal = b.layer_norm(chosen, None, bias, axis=-1, epsilon=1e-5)
    values, places = b.topk(b.cast(normal, dtype=BF16), k=2, axis=-1)
    rows = b.reshape(values, shape=(x.type.shape[0] * 2,))
    graph.set_outputs([rows, places, b.cast(b.extent(x.type.shape[0], I64), dtype=F32)], ["rows", "places", "how many"])
    return graph


def test_the_text_of_a_small_model(golden: Callable[[str], None]) -> None:
    graph = rich_graph()
    verify(graph)
    golden(show(graph, origins=True))
    round_trip(graph)
