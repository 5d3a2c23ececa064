"""Memory while writing: one weight at a time, whatever the model weighs. Measured in a process of its own."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

COUNT, LARGEST = 8, 24 << 20
SLACK = 48 << 20  # buffers of 16 MiB that are alive at once, and what the allocator keeps

SCRIPT = """
import json, resource, sys
from pathlib import Path
import numpy as np
from dragoman.backends.onnx import save
from dragoman.ir.builder import Builder
from dragoman.ir.graph import Graph
from dragoman.ir.types import F32, parse_type
from dragoman.ir.weights import ComputedWeight, FileWeight, FrameworkWeight

folder, kind, external, count, nbytes = Path(sys.argv[1]), sys.argv[2], sys.argv[3] == "True", *map(int, sys.argv[4:])
width = 1024
rows = nbytes // 4 // width
graph = Graph()
turned = kind.endswith("turned")
x = graph.add_input(parse_type(f"f32[b,s,{width}]" if turned else "f32[]"), "x")
held = np.memmap(folder / "weights", np.float32, "c", shape=(count, rows, width)) if "framework" in kind else None
b = Builder(graph)
outputs = []
for index in range(count):
    if kind == "computed":
        weight = ComputedWeight(F32, (rows, width), lambda: np.full((rows, width), 0.5, np.float32))
    elif kind.startswith("framework"):
        weight = FrameworkWeight(F32, (rows, width), lambda at=index: held[at])
    else:
        weight = FileWeight(folder / "weights", index * nbytes, F32, (rows, width))
    w = graph.add_weight(f"w{index}", weight)
    outputs.append(b.linear(x, w) if turned else b.add(w, x))
graph.set_outputs(outputs)

def peak():
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024

before = peak()
saved = save(graph, folder / "m.onnx", external=external)
print(json.dumps({"grown": peak() - before, "written": saved.file_bytes}))
"""


@pytest.mark.parametrize("external", [False, True])
@pytest.mark.parametrize("kind", ["mapped", "computed", "turned", "framework", "framework turned"])
def test_writing_holds_one_weight_at_a_time(tmp_path: Path, kind: str, external: bool) -> None:
    with (tmp_path / "weights").open("wb") as file:
        file.truncate(COUNT * LARGEST)
    arguments = [str(tmp_path), kind, str(external), str(COUNT), str(LARGEST)]
    done = subprocess.run([sys.executable, "-c", SCRIPT, *arguments], capture_output=True, text=True, check=True)
    measured = json.loads(done.stdout)
    assert measured["written"] >= COUNT * LARGEST
    assert measured["grown"] <= LARGEST + SLACK, f"{measured['grown'] >> 20} MiB more than before"
