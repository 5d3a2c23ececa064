"""What ONNX itself says an operator is made of: the function bodies in its schemas, for operators outside the table."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import onnx
import onnx.defs

from dragoman.frontends.onnx.call import Call
from dragoman.frontends.onnx.dtypes import code_of_dtype
from dragoman.frontends.onnx.operands import Operand, Tensor, TensorSequence
from dragoman.ir.types import TensorType


def function_body(call: Call) -> onnx.FunctionProto | None:
    """The body of the operator for these inputs and attributes, or None if ONNX has none."""
    schema: Any
    try:
        schema = onnx.defs.get_schema(call.op, call.version, call.domain)
    except onnx.defs.SchemaError:
        return None
    if schema.has_function:
        body = _parsed(_newest(schema.function_opset_versions, call, schema.get_function_with_opset_version))
        return None if body is None else _with_defaults(body, schema)
    if not schema.has_context_dependent_function:
        return None
    types = [_type(x).SerializeToString() for x in call.inputs]
    node = onnx.NodeProto()
    node.CopyFrom(call.proto)
    del node.attribute[:]
    for name, attribute in call.attributes.items():
        given = node.attribute.add()
        given.CopyFrom(attribute)
        given.name = name
        given.ClearField("ref_attr_name")
    raw = node.SerializeToString()

    def build(version: int) -> bytes:
        return schema.get_context_dependent_function_with_opset_version(version, raw, types)

    return _parsed(_newest(schema.context_dependent_function_opset_versions, call, build))


def _with_defaults(body: onnx.FunctionProto, schema: Any) -> onnx.FunctionProto:
    """The body with what attributes are where a call leaves them out."""
    given = {a.name for a in body.attribute_proto}
    for name, attribute in schema.attributes.items():
        default = attribute.default_value
        if name not in given and default.type:
            body.attribute_proto.add().CopyFrom(default)
            body.attribute_proto[-1].name = name
    return body


def _newest(versions: list[int], call: Call, build: Callable[[int], bytes]) -> bytes | None:
    default = call.c.opsets.get("", 0)
    fitting = [v for v in versions if v <= max(default, call.version if call.domain == "" else default)]
    return build(max(fitting)) if fitting else None


def _parsed(body: bytes | None) -> onnx.FunctionProto | None:
    if not body:
        return None
    return onnx.FunctionProto.FromString(body)


def _type(operand: Operand | None) -> onnx.TypeProto:
    found = onnx.TypeProto()
    if isinstance(operand, Tensor):
        _fill(found, operand.type)
    elif isinstance(operand, TensorSequence) and operand.items:
        _fill(found.sequence_type.elem_type, operand.items[0].type)
    return found


def _fill(target: onnx.TypeProto, type: TensorType) -> None:
    target.tensor_type.elem_type = code_of_dtype(type.dtype)
    target.tensor_type.shape.SetInParent()
    for dim in type.shape:
        place = target.tensor_type.shape.dim.add()
        if isinstance(dim, int):
            place.dim_value = dim
        else:
            place.dim_param = str(dim)
