"""Types and constants of an artefact as arrays."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

import ml_dtypes
import numpy as np

from dragoman.ir.errors import Unsupported
from dragoman.ir.types import TensorType, dtype_of

_DTYPES: Mapping[str, Any] = {
    "i1": np.bool_,
    **{f"{letter}i{n}" if letter else f"i{n}": f"{letter}int{n}" for letter in ("", "u") for n in (8, 16, 32, 64)},
    "f16": np.float16,
    "f32": np.float32,
    "f64": np.float64,
    "bf16": ml_dtypes.bfloat16,
    "i4": ml_dtypes.int4,
    "ui4": ml_dtypes.uint4,
    "f8E4M3FN": ml_dtypes.float8_e4m3fn,
    "f8E5M2": ml_dtypes.float8_e5m2,
    "complex<f32>": np.complex64,
    "complex<f64>": np.complex128,
}


def type_of(type: Any) -> TensorType:
    """A tensor type of the artefact; extents that it leaves open are 1 here. Raises Unsupported."""
    text = re.fullmatch(r"tensor<(?P<dims>(?:(?:\d+|\?)x)*)(?P<dtype>[^,]+?)(?:, .*)?>", str(type))
    if text is None or text["dtype"] not in _DTYPES:
        raise Unsupported(f"a value is {type}")
    dims = [d for d in text["dims"].split("x") if d]
    return TensorType(dtype_of(np.dtype(_DTYPES[text["dtype"]])), tuple(1 if d == "?" else int(d) for d in dims))


def array_of(operation: Any) -> Any:
    """The elements of a constant."""
    type = type_of(operation.results[0].type)
    dtype = type.dtype.numpy
    shape = tuple(int(d) for d in type.shape if isinstance(d, int))
    if type.dtype.is_complex:
        return _complex(constant_text(operation), dtype, shape)
    attribute = operation.attributes["value"]
    if attribute.is_splat:
        return np.full(shape, attribute.get_splat_value().value).astype(dtype)
    if type.dtype.kind != "bool":
        try:
            return np.array(attribute, copy=True).reshape(shape)
        except (TypeError, ValueError, RuntimeError, BufferError):  # element types that the buffer protocol lacks
            pass
    return np.array(list(attribute)).astype(dtype).reshape(shape)


def constant_text(operation: Any) -> str:
    """What a constant is, as text. The bindings cannot hand over complex ones otherwise."""
    text = str(operation)
    return text[text.index("dense<") :]


def is_splat(operation: Any) -> bool:
    """Whether a constant is one number, or the same everywhere."""
    type = type_of(operation.results[0].type)
    if not type.shape:
        return True
    if type.dtype.is_complex:
        return constant_text(operation).startswith("dense<(")
    return bool(operation.attributes["value"].is_splat)


def _complex(text: str, dtype: Any, shape: tuple[int, ...]) -> Any:
    """Complex numbers, which the bindings hand over as text only: pairs, or all bytes in hexadecimal."""
    part = np.dtype(f"f{dtype.itemsize // 2}")
    blob = re.match(r'dense<"0x([0-9A-Fa-f]*)">', text)
    if blob is not None:
        return np.frombuffer(bytes.fromhex(blob[1]), dtype).reshape(shape).copy()
    pairs = re.findall(r"\(([^,()]+),([^,()]+)\)", text[: text.rindex(" : ")])
    parts = [_real(t, part) for pair in pairs for t in pair]
    found = np.array(parts, part).view(dtype)
    return np.full(shape, found[0]) if found.size == 1 else found.reshape(shape)


def _real(text: str, part: Any) -> Any:
    """A number as it is, or its bits in hexadecimal."""
    text = text.strip()
    if text.startswith("0x"):
        return np.array(int(text, 16), f"u{part.itemsize}").view(part)[()]
    return part.type(text)
