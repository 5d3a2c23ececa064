"""An ONNX source as it is, in ONNX Runtime: what Dragoman's own file is compared with."""

from __future__ import annotations

from dragoman.bench.targets.onnx_runtime import OnnxRuntime


class OnnxGiven(OnnxRuntime):
    """The file as given, all optimisations on."""

    name = "given"
    kinds = ("onnx",)
    as_is = True
    forms = ("given",)
    reads = "given"
    precisions = ("f32",)


TARGET = OnnxGiven()
