"""Our Triton kernels, captured in a CUDA graph where the device has them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from dragoman.bench.target import Loaded, Target, Task
from dragoman.bench.targets.torch_eager import arrays, peak_on_device


class TritonKernels(Target):
    """Dragoman's kernels; `triton:graph` replays them from a CUDA graph."""

    name = "triton"
    needs = ("torch", "triton")
    install = "'dragoman[triton]'"
    precisions = ("f32",)

    def missing(self) -> str:
        """A GPU, too: interpreted kernels have no time worth comparing."""
        from pathlib import Path

        absent = super().missing()
        found = any(Path(device).exists() for device in ("/dev/nvidiactl", "/dev/kfd"))
        return absent or ("" if found else "needs a GPU")

    def variants(self) -> Sequence[str]:
        """Launched one by one, and replayed."""
        return ("", "graph")

    def load(self, task: Task) -> Loaded:
        """Compiled and tuned here."""
        import torch

        from dragoman.frontends.pytorch.weights import from_numpy

        given = [from_numpy(array).cuda() for array in task.arrays().values()]
        compiled: Any = task.model().compile("triton")
        call = compiled.capture(*given) if task.variant == "graph" else compiled

        def run() -> Any:
            result = call(*given)
            torch.cuda.synchronize()
            return result

        return Loaded(run, arrays, device_bytes=peak_on_device)


TARGET = TritonKernels()
