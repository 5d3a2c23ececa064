"""Where an ONNX node comes from: the module and source line that its exporter wrote down, in the forms in use.

torch.onnx names modules in the node's name (`/encoder/layer.0/MatMul`) or in its metadata, Dragoman in metadata.
Nothing read here decides semantics.
"""

from __future__ import annotations

import ast
import re

import onnx

from dragoman.ir.provenance import Provenance, Source

_LINE = re.compile(r'File "([^"\n]{1,300})", line (\d{1,9})')


def origin_of(node: onnx.NodeProto, within: str = "") -> Provenance:
    """The provenance of a node; `within` is the module of the function call that it is part of."""
    operator = f"{node.domain}.{node.op_type}" if node.domain else node.op_type
    metadata = {p.key: p.value for p in node.metadata_props} if node.metadata_props else {}
    module = metadata.get("dragoman.module") or _scopes(metadata.get("pkg.torch.onnx.name_scopes", ""))
    module = module or _module(node.name) or within
    line = metadata.get("dragoman.line") or _line(metadata.get("pkg.torch.onnx.stack_trace", ""))
    return Provenance((Source(operator, module, line),))


def _module(name: str) -> str:
    path, slash, _ = name.rpartition("/")
    return path.strip("/").replace("/", ".") if slash else ""


def _scopes(text: str) -> str:
    """The last module in torch's list of scopes: `['', 'encoder', 'encoder.layer.0', 'linear']`."""
    if not text.startswith("[") or len(text) > 20_000:
        return ""
    try:
        listed = ast.literal_eval(text)
    except (ValueError, SyntaxError, RecursionError, MemoryError):
        return ""
    names = [s for s in listed if isinstance(s, str)] if isinstance(listed, list) else []
    return names[-2] if len(names) > 1 else ""


def _line(trace: str) -> str:
    found = _LINE.findall(trace[-2000:])
    return f"{found[-1][0].rpartition('/')[2]}:{found[-1][1]}" if found else ""
