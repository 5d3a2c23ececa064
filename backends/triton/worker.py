"""A process that loads generated folders and runs them: requests on its input, answers on its output.

A message is one line of JSON and then the bytes of its arrays. It imports torch and Triton only, so that a model which
runs here runs with those alone; its own folder is not on the path.
"""

# The folder's model is known only when it is loaded.
# pyright: reportUnknownMemberType=false
from __future__ import annotations

import importlib.util
import json
import os
import sys
from pathlib import Path
from typing import Any, BinaryIO


def main() -> None:
    """Answer requests until there are none."""
    answers = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)  # what a library prints must not mix with answers
    models: dict[str, Any] = {}
    requests = sys.stdin.buffer
    while line := requests.readline():
        request = json.loads(line)
        given = [_read(requests, told) for told in request["inputs"]]
        try:
            path = request["path"]
            if path not in models:
                models.clear()
                models[path] = _load(Path(path))
            _answer(answers, models[path].run(given), "")
        except Exception as error:  # whatever goes wrong is for the caller to tell
            _answer(answers, [], f"{type(error).__name__}: {error}")


def _load(folder: Path) -> Any:
    name = "generated"
    for known in [m for m in sys.modules if m.partition(".")[0] == name]:
        del sys.modules[known]
    spec = importlib.util.spec_from_file_location(
        name, folder / "__init__.py", submodule_search_locations=[str(folder)]
    )
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    spec.loader.exec_module(module)
    return module.model


def _read(requests: BinaryIO, told: dict[str, Any]) -> Any:
    import torch

    raw = bytearray(requests.read(told["bytes"]))
    dtype = getattr(torch, told["dtype"])
    tensor = torch.frombuffer(raw, dtype=dtype) if raw else torch.empty(0, dtype=dtype)
    return tensor.view(told["shape"])


def _answer(answers: BinaryIO, outputs: list[Any], error: str) -> None:
    import torch

    raw = [x.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy().tobytes() for x in outputs]
    told = [
        {"dtype": str(x.dtype).removeprefix("torch."), "shape": list(x.shape), "bytes": len(r)}
        for x, r in zip(outputs, raw, strict=True)
    ]
    answers.write(json.dumps({"outputs": told, "error": error}).encode() + b"\n" + b"".join(raw))
    answers.flush()


if __name__ == "__main__":
    main()
