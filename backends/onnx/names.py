"""Names in the emitted model: those of the model's own inputs, outputs and parameters, and unique ones for the rest.

A node is called after the module it came from and its operator, `encoder.layer.3.attn/MatMul`, with a counter where
that repeats; its results after the node. All names depend on the graph alone, so that the same graph gives the same
bytes.
"""

from __future__ import annotations


class Names:
    """The two name spaces of an ONNX model: values and nodes. Unique across sub-graphs too, as ONNX demands."""

    def __init__(self) -> None:
        self._values: set[str] = set()
        self._next_value: dict[str, int] = {}
        self._next_node: dict[str, int] = {}
        self._nodes: set[str] = set()

    def value(self, wanted: str) -> str:
        """A value name: the one wanted, with a number if it is taken."""
        name = _numbered(storable(wanted) or "value", self._next_value, self._values)
        self._values.add(name)
        return name

    def node(self, module: str, op_type: str) -> str:
        """A name for a node of a module."""
        name = _numbered(f"{module}/{op_type}" if module else op_type, self._next_node, self._nodes)
        self._nodes.add(name)
        return name

    def results(self, node: str, count: int) -> list[str]:
        """Names for the results of a node."""
        names = [f"{node}_output_{index}" for index in range(count)]
        if not self._values.isdisjoint(names):
            return [self.value(name) for name in names]
        self._values.update(names)
        return names


def storable(text: str) -> str:
    """Text as a model file can hold it: what is no Unicode (lone surrogates from a file's bytes) is spelled out."""
    return text if text.isascii() else text.encode("utf-8", "backslashreplace").decode()


def _numbered(wanted: str, following: dict[str, int], taken: set[str]) -> str:
    number = following.get(wanted, 0)
    name = f"{wanted}_{number}" if number else wanted
    while name in taken:
        number += 1
        name = f"{wanted}_{number}"
    following[wanted] = number + 1
    return name
