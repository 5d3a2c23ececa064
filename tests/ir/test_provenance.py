from __future__ import annotations

from dragoman.ir.provenance import NOWHERE, Provenance, Source, union

CONV = Source("aten.conv2d", "backbone.stage1.conv", "net.py:10  x = self.conv(x)")
NORM = Source("aten.batch_norm", "backbone.stage1.norm", "net.py:11  x = self.norm(x)")
HEAD = Source("aten.linear", "head", "net.py:20")


def of(*sources: Source) -> Provenance:
    return Provenance(sources)


def test_one_origin_is_shown_with_module_and_line() -> None:
    assert str(of(CONV)) == "backbone.stage1.conv (net.py:10  x = self.conv(x))"
    assert str(CONV) == "backbone.stage1.conv  aten.conv2d  net.py:10  x = self.conv(x)"
    assert str(of(Source(operator="aten.add"))) == "aten.add"
    assert str(NOWHERE) == ""


def test_a_union_keeps_each_origin_once_in_the_order_met() -> None:
    merged = union([of(CONV, NORM), NOWHERE, of(NORM), of(HEAD, CONV)])
    assert merged.sources == (CONV, NORM, HEAD)
    assert union([]) is NOWHERE
    assert union([NOWHERE, NOWHERE]) is NOWHERE


def test_the_module_is_what_all_origins_share() -> None:
    assert of(CONV, NORM).module == "backbone.stage1"
    assert of(CONV, HEAD).module == ""
    assert of(CONV, Source("aten.add")).module == "backbone.stage1.conv"
    assert of(Source(module="layer.1"), Source(module="layer.10")).module == "layer"
    assert of(Source(module="a.b"), Source(module="a.b.c")).module == "a.b"


def test_the_line_is_that_of_the_result_and_operators_are_named_once() -> None:
    merged = of(CONV, NORM, Source("aten.conv2d"))
    assert merged.line == "net.py:11  x = self.norm(x)"
    assert merged.operators == ("aten.conv2d", "aten.batch_norm")


def test_a_node_made_of_very_many_keeps_a_bounded_number() -> None:
    merged = union(of(Source(module=f"m{i}")) for i in range(1000))
    assert len(merged.sources) == 16
    assert merged.sources[0].module == "m0"
