"""One conversion of one zoo model by one tool, measured in this process; run by convert.py, never by hand.

Owns the tools: what each is asked to do, and what is imported before the clock starts. The same modules are imported
for every tool (`PRELOADED`: torch's exporter, ONNX, onnxscript; and every module of ours), and the model and its
example arguments are built, so that the clock sees conversion only; what is imported later all the same is listed in
`late_imports`. Refuses to judge: it reports numbers, and whether ONNX Runtime computes what the module does.
"""

from __future__ import annotations

import contextlib
import importlib
import io
import logging
import pkgutil
import shutil
import sys
import tempfile
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any

from fresh_process import Request, Result, answer
from meter import Meter
from subjects import Subject, subject

# What torch.export and torch.onnx import while they run, found by comparing sys.modules before and after.
PRELOADED = (
    "torch._dynamo",
    "torch._export.converter",
    "torch._export.non_strict_utils",
    "torch._export.passes.replace_autocast_with_hop_pass",
    "torch._export.passes.replace_set_grad_with_hop_pass",
    "torch._export.verifier",
    "torch._functorch._aot_autograd.subclass_parametrization",
    "torch._functorch.aot_autograd",
    "torch._inductor.compiler_bisector",
    "torch._inductor.fx_passes.dedupe_symint_uses",
    "torch._inductor.sizevars",
    "torch._inductor.utils",
    "torch._subclasses.schema_check_mode",
    "torch.export._draft_export",
    "torch.export._patches",
    "torch.export._trace",
    "torch.fx.experimental.symbolic_shapes",
    "torch.fx.experimental.validator",
    "torch.nn.attention.flex_attention",
    "torch.onnx._internal.exporter._compat",
    "torch.onnx._internal.exporter._core",
    "torch.onnx._internal.exporter._registration",
    "torch.onnx._internal.exporter._torchlib.ops",
    "multiprocessing.synchronize",
    "networkx",
    "onnx.reference",
    "onnx_ir.passes.common",
    "onnxscript",
    "onnxscript._framework_apis.torch_2_5",
    "onnxscript._framework_apis.torch_2_6",
    "onnxscript._framework_apis.torch_2_8",
    "onnxscript._framework_apis.torch_2_9",
    "onnxscript._framework_apis.torch_2_11",
    "onnxscript.function_libs.torch_lib.ops",
    "onnxscript.optimizer",
    "onnxscript.rewriter",
    "onnxscript.rewriter.onnx_fusions",
    "onnxscript.version_converter",
    "sympy.combinatorics.tensor_can",
    "sympy.sets.setexpr",
    "sympy.tensor.tensor",
)
PRELOADED_WITH_TRANSFORMERS = ("transformers.integrations.executorch",)
_OURS = ("dragoman", "dragoman.ir", "dragoman.ir.ops", "dragoman.frontends.pytorch", "dragoman.passes")
_OURS_DEEP = ("dragoman.frontends.pytorch", "dragoman.passes", "dragoman.backends.onnx")


def ours(it: Subject, path: Path, request: Request) -> None:
    """`dragoman.convert`, with or without verification."""
    import dragoman

    dragoman.convert(
        it.module,
        path,
        args=it.args,
        kwargs=it.kwargs,
        dynamic=it.dynamic,
        external="always" if request["external"] else "never",
        verify=request.get("verify", False),
        overwrite=True,
    )


def torch_onnx(it: Subject, path: Path, request: Request) -> None:
    """`torch.onnx.export(dynamo=True)` with its own defaults otherwise."""
    import torch

    torch.onnx.export(
        it.module,
        it.args,
        path,
        kwargs=it.kwargs,
        dynamo=True,
        external_data=request["external"],
        dynamic_shapes=it.dynamic_shapes,
        verbose=False,
    )


def torch_export(it: Subject, path: Path, request: Request) -> None:
    """`torch.export.export` alone, which writes nothing: the part that both others are built on."""
    import torch

    torch.export.export(it.module, it.args, it.kwargs, dynamic_shapes=it.dynamic_shapes, strict=False)


TOOLS: dict[str, Callable[[Subject, Path, Request], None]] = {
    "dragoman": ours,
    "torch.onnx": torch_onnx,
    "torch.export": torch_export,
}


def measure(request: Request) -> Result:
    """Load everything, convert under the meter, look at what was written."""
    logging.disable(logging.WARNING)
    import torch

    torch.set_num_threads(int(request.get("threads", 1)))
    absent = preload()
    it = subject(request["model"])
    if "transformers" in sys.modules:
        absent += [name for name in PRELOADED_WITH_TRANSFORMERS if not _imported(name)]
    folder = Path(tempfile.mkdtemp(prefix="dragoman-bench-", dir=request.get("folder")))
    try:
        return {"weight_bytes": it.weight_bytes, "absent": absent, **_measured(it, folder / "model.onnx", request)}
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def preload() -> list[str]:
    """Import what any tool will need; returns the names that this environment does not have."""
    absent = [name for name in (*PRELOADED, *_OURS, *_OURS_DEEP) if not _imported(name)]
    for name in (*_OURS, *_OURS_DEEP):
        if name not in absent:
            walk = pkgutil.walk_packages if name in _OURS_DEEP else pkgutil.iter_modules
            found = [m.name for m in walk(sys.modules[name].__path__, f"{name}.")]
            absent += [each for each in found if not each.endswith("__main__") and not _imported(each)]
    return absent


def _imported(name: str) -> bool:
    try:
        importlib.import_module(name)
    except ImportError:
        return False
    return True


def _measured(it: Subject, path: Path, request: Request) -> Result:
    tool = TOOLS[request["tool"]]
    known = set(sys.modules)
    meter = Meter(sampled=request.get("sampled", False))
    said = io.StringIO()
    failure = ""
    with contextlib.redirect_stdout(said), contextlib.redirect_stderr(said):
        try:
            with meter:
                tool(it, path, request)
        except Exception as error:
            failure = brief(error)
            if request.get("debug"):
                failure += "\n" + traceback.format_exc()
    late = sorted(name for name in sys.modules if name not in known)
    result: Result = {**meter.reading.as_dict(), "late_imports": late}
    if failure:
        return {**result, "failure": failure}
    if path.exists():
        result |= inspect(path)
        if request.get("check"):
            result |= agreement(it, path)
    return result


def brief(error: BaseException) -> str:
    """What a tool's failure says, in one line: its innermost cause first."""
    while error.__cause__ is not None:
        error = error.__cause__
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return f"{type(error).__name__}: {' '.join(lines)[:300]}"


def inspect(path: Path) -> Result:
    """Nodes of the main graph, and bytes of all files written beside it."""
    import onnx

    model = onnx.load(path, load_external_data=False)
    files = [file for file in path.parent.rglob("*") if file.is_file()]
    return {
        "nodes": len(model.graph.node),
        "opset": max(o.version for o in model.opset_import if o.domain in ("", "ai.onnx")),
        "file_bytes": sum(file.stat().st_size for file in files),
    }


def agreement(it: Subject, path: Path) -> Result:
    """The largest difference between ONNX Runtime on the file and the module itself, over the module's largest value.

    It guards the benchmark against counting a wrong file as a fast one; `dragoman verify` is what proves a file.
    """
    import onnxruntime
    import torch

    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4
    options.intra_op_num_threads = 1
    try:
        session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
        feeds = {i.name: value.numpy() for i, value in zip(session.get_inputs(), it.inputs.values(), strict=True)}
        got = session.run(None, feeds)
    except Exception as error:
        return {"difference": None, "difference_failure": brief(error)}
    torch.backends.mha.set_fastpath_enabled(False)
    with torch.no_grad():
        expected = _flat(it.module(*it.args, **it.kwargs))
    return {"difference": max((_distance(g, e) for g, e in zip(got, expected, strict=True)), default=0.0)}


def _flat(outputs: Any) -> list[Any]:
    from torch.utils._pytree import tree_leaves

    return [leaf.detach().numpy() for leaf in tree_leaves(outputs) if hasattr(leaf, "detach")]


def _distance(got: Any, expected: Any) -> float:
    import numpy as np

    if got.shape != expected.shape:
        return float("inf")
    if expected.size == 0:
        return 0.0
    scale = float(np.max(np.abs(expected.astype(np.float64)))) or 1.0
    return float(np.max(np.abs(got.astype(np.float64) - expected.astype(np.float64)))) / scale


if __name__ == "__main__":
    answer(measure)
