"""The source compiled by torch.compile."""

from __future__ import annotations

import shutil
from collections.abc import Sequence

from dragoman.bench.target import Loaded, Target, Task
from dragoman.bench.targets.torch_eager import arrays, call_of, peak_on_device, timed


class TorchCompile(Target):
    """`torch.compile(module)`; the variants are its modes, such as `torch.compile:max-autotune`."""

    name = "torch.compile"
    needs = ("torch",)
    install = "'dragoman[torch]'"
    kinds = ("module",)

    def missing(self) -> str:
        """A C++ compiler, too."""
        return super().missing() or ("" if shutil.which("c++") else "needs a C++ compiler: apt-get install g++")

    def variants(self) -> Sequence[str]:
        """The default mode alone; others on request."""
        return ("",)

    def load(self, task: Task) -> Loaded:
        """Compiled when it first runs."""
        import torch

        module, args, kwargs = call_of(task)
        compiled = torch.compile(module, mode=task.variant or None)
        return Loaded(timed(compiled, args, kwargs), arrays, device_bytes=peak_on_device)


TARGET = TorchCompile()
