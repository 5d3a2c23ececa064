"""The benchmark harness: `dragoman bench`, and `python -m dragoman.bench gpu` for kernels where the hardware is.

target.py     what a target is; targets/ has ours, entry points add others
reading.py    the source read once: inputs, float64 truth, ONNX files
process.py    the process of one target, seen from here; worker.py is the other end
harness.py    sources × batch sizes × targets × precisions; rounds.py interleaves them
intervals.py  medians and ratios with bootstrap intervals; study.py tests them
work.py       operations and bytes from the IR
results.py    records; table.py and dragoman/report show them
"""

from __future__ import annotations

import sys
from types import ModuleType
from typing import Any


class _Callable(ModuleType):
    """This package, which is also the function `dragoman.bench(…)`."""

    def __call__(self, *sources: Any, **options: Any) -> Any:
        """`dragoman.bench.harness.bench`."""
        from dragoman.bench.harness import bench

        return bench(*sources, **options)


sys.modules[__name__].__class__ = _Callable
