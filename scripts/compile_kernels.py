"""Compiles the builds of every kernel ahead of time, without a device, and tells registers, shared memory and spills.

    scripts/compile_kernels.py [TARGET…]      targets: sm_80 sm_90 sm_100 gfx942 (all by default)

Prints one JSON line for each build and target. Ends with 1 if one does not compile.
"""

from __future__ import annotations

import importlib
import json
import os
import pkgutil
import re
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

os.environ["TRITON_INTERPRET"] = "0"
os.environ.setdefault("TRITON_DEFAULT_FP_FUSION", "1")

import triton  # after its settings
from triton.backends.compiler import GPUTarget
from triton.compiler import ASTSource

import dragoman.kernels

TARGETS: dict[str, tuple[str, Any, int]] = {
    "sm_80": ("cuda", 80, 32),
    "sm_90": ("cuda", 90, 32),
    "sm_100": ("cuda", 100, 32),
    "gfx942": ("hip", "gfx942", 64),
}


def builds() -> Iterator[Any]:
    """The builds of all kernel files."""
    for module in pkgutil.iter_modules(dragoman.kernels.__path__):
        yield from getattr(importlib.import_module(f"dragoman.kernels.{module.name}"), "BUILDS", ())


def compiled(build: Any, target: str) -> dict[str, Any]:
    """What one build takes on one target."""
    kernel = build.kernel
    signature = {name: build.signature.get(name, "constexpr") for name in kernel.arg_names}
    leaves = dict(_leaves(signature))
    ones = {path: 1 for path, text in leaves.items() if text == "1"}
    attributes = {path: [["tt.divisibility", 16]] for path, text in leaves.items() if text.endswith(":16")}
    types = {name: _types(text) for name, text in signature.items()}
    source = ASTSource(kernel, signature=types, constexprs={**build.constants, **ones}, attrs=attributes)
    options = {"num_warps": build.warps, "num_stages": build.stages}
    made = triton.compile(source, target=GPUTarget(*TARGETS[target]), options=options)
    used = _on_amd(made.asm["amdgcn"]) if "amdgcn" in made.asm else _on_nvidia(made.asm["cubin"])
    return {"build": build.name, "target": target, "shared": made.metadata.shared, **used}


def _leaves(signature: dict[str, Any]) -> Iterator[tuple[tuple[int, ...], str]]:
    """The types in a signature by their place: (argument, element of its tuple, element of that, …)."""
    pending = [((index,), text) for index, text in enumerate(signature.values())]
    while pending:
        path, text = pending.pop()
        if isinstance(text, tuple):
            pending.extend(((*path, inner), each) for inner, each in enumerate(text))
        else:
            yield path, text


def _types(text: Any) -> Any:
    if isinstance(text, tuple):
        return tuple(_types(each) for each in text)
    return "constexpr" if text == "1" else text.partition(":")[0]


def _on_amd(text: str) -> dict[str, int]:
    found = {name: re.search(rf"\.{name}:\s*(\d+)", text) for name in ("vgpr_count", "vgpr_spill_count")}
    registers, spills = (int(m.group(1)) if m else -1 for m in found.values())
    return {"registers": registers, "spills": spills}


def _on_nvidia(cubin: bytes) -> dict[str, int]:
    """By the tool that comes with Triton; −1 where it is not there."""
    tool = Path(triton.__file__).parent / "backends" / "nvidia" / "bin" / "cuobjdump"
    if not tool.is_file():
        return {"registers": -1, "spills": -1}
    with tempfile.NamedTemporaryFile(suffix=".cubin") as file:
        file.write(cubin)
        file.flush()
        done = subprocess.run([tool, "--dump-resource-usage", file.name], capture_output=True, text=True, check=True)
    registers, stack = (re.search(rf"\b{name}:(\d+)", done.stdout) for name in ("REG", "STACK"))
    return {"registers": int(registers.group(1)) if registers else -1, "spills": int(stack.group(1)) if stack else -1}


def main(targets: list[str]) -> int:
    """Compile; the exit code."""
    failed = 0
    for build in builds():
        for target in targets or TARGETS:
            try:
                print(json.dumps(compiled(build, target)), flush=True)
            except Exception as error:  # every build is tried, and each failure told
                failed = 1
                print(json.dumps({"build": build.name, "target": target, "error": str(error)[:2000]}), flush=True)
    return failed


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
