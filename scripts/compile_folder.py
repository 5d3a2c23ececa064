"""Compiles every launch of a generated folder ahead of time, without a device: Triton may refuse what ran interpreted.

    scripts/compile_folder.py FOLDER [TARGET…]     targets: sm_80 sm_90 sm_100 gfx942 (all by default)

The folder's model is run on empty inputs with each launch recorded instead of done. Prints one JSON line for each
different launch and target, with registers, shared memory and spills. Ends with 1 if one does not compile.
"""

from __future__ import annotations

import importlib
import json
import sys
from pathlib import Path
from typing import Any

from compile_kernels import TARGETS, compiled  # first: it sets what Triton reads when it is imported

import torch  # isort: skip
from triton.runtime.jit import JITFunction  # isort: skip

from dragoman.kernels.case import Build

_SIZE = 16  # of each dynamic dim
_TYPES = {torch.float16: "fp16", torch.bfloat16: "bf16", torch.float32: "fp32", torch.float64: "fp64", torch.bool: "i1"}
_TYPES |= {torch.int8: "i8", torch.int16: "i16", torch.int32: "i32", torch.int64: "i64", torch.uint8: "u8"}
_TYPES |= {torch.uint16: "u16", torch.uint32: "u32", torch.uint64: "u64"}


def launches(folder: Path) -> list[Build]:
    """The different launches of a run."""
    found: dict[str, Build] = {}

    def record(kernel: Any, *args: Any, grid: Any, warmup: bool, **settings: Any) -> None:
        given = dict(zip(kernel.arg_names, args, strict=False))
        given |= {name: settings.pop(name) for name in list(settings) if name in kernel.arg_names}
        fixed = {kernel.arg_names[i] for i in kernel.constexprs}
        signature = {name: _type(value) for name, value in given.items() if name not in fixed}
        constants = {name: value for name, value in given.items() if name in fixed}
        hooks = {name: getattr(value, "__name__", value) for name, value in constants.items()}
        name = f"{kernel.__name__} {signature} {hooks}"
        warps, stages = settings.get("num_warps", 4), settings.get("num_stages", 3)
        found.setdefault(name, Build(name, kernel, signature, constants, warps, stages))

    JITFunction.run = record
    sys.path.insert(0, str(folder.resolve().parent))
    package = importlib.import_module(folder.name)
    model = package.model
    sizes = [min(max(_SIZE, s["low"]), s["high"]) for s in model.info["symbols"]]
    shapes = package.graph.shapes(*sizes)
    told = zip(shapes, model.info["inputs"], strict=True)
    model.run([torch.zeros(shape, dtype=getattr(torch, t["dtype"])) for shape, t in told])
    return list(found.values())


def _type(value: Any) -> Any:
    """What Triton finds out of an argument at a launch."""
    if isinstance(value, tuple):
        return tuple(_type(v) for v in value)
    if isinstance(value, torch.Tensor):
        return f"*{_TYPES[value.dtype]}" + (":16" if value.data_ptr() % 16 == 0 else "")
    if isinstance(value, float):
        return "fp32"
    if value == 1:
        return "1"
    return ("i32" if -(2**31) <= value < 2**31 else "i64") + (":16" if value % 16 == 0 else "")


def main(folder: Path, targets: list[str]) -> int:
    """Compile; the exit code."""
    failed = 0
    for build in launches(folder):
        for target in targets or TARGETS:
            try:
                print(json.dumps(compiled(build, target)), flush=True)
            except Exception as error:  # every launch is tried, and each failure told
                failed = 1
                text = f"{error} {error.__cause__ or ''}"
                print(json.dumps({"build": build.name, "target": target, "error": text[:3000]}), flush=True)
    return failed


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1]), sys.argv[2:]))
