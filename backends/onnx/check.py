"""Whether a file or model is valid ONNX: the checker, and shape inference that takes no contradiction."""

from __future__ import annotations

from pathlib import Path

import onnx
import onnx.checker
import onnx.shape_inference

from dragoman.ir.errors import Malformed


def check(model: str | Path | onnx.ModelProto) -> onnx.ModelProto:
    """The model with inferred types. Raises Malformed with ONNX's own message if it is invalid anywhere.

    Of a file with external data the data is checked for presence only: types do not depend on it.
    """
    try:
        if isinstance(model, onnx.ModelProto):
            onnx.checker.check_model(model, full_check=True)
            proto = model
        else:
            onnx.checker.check_model(str(model))
            proto = onnx.load(str(model), load_external_data=False)
        return onnx.shape_inference.infer_shapes(proto, check_type=True, strict_mode=True, data_prop=True)
    except (onnx.checker.ValidationError, onnx.shape_inference.InferenceError) as error:
        raise Malformed(f"ONNX does not accept the model: {error}") from error
