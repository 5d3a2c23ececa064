"""`dragoman demo`: a real ResNet-50 and a real BERT with random weights, converted before the reader's eyes."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

from dragoman.ir.errors import OutputError, UsageError
from dragoman.torchvision_operators import declare_missing_operators

if TYPE_CHECKING:
    from dragoman.console import Console
    from dragoman.ir.findings import Verdict

_SEED = 20


@dataclass(frozen=True)
class Example:
    """A model to show: what it is, how to make it, and which dims of its inputs are dynamic."""

    title: str
    file: str
    make: Callable[[], tuple[Any, tuple[Any, ...], dict[str, Any]]]
    dynamic: dict[str, dict[int, str]]


def run(folder: Path, console: Console) -> bool:
    """Convert both models into `folder` and show what happens; returns whether each was shown to equal its source.

    Raises UsageError where a library is missing.
    """
    from dragoman.conversion import convert

    for library in ("torch", "timm", "transformers"):
        if find_spec(library) is None:
            raise UsageError(f"the demo needs {library}: pip install 'dragoman[zoo]'")
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise OutputError(f"{folder} cannot be made: {error.strerror or error}") from error
    verdicts: list[Verdict | None] = []
    for example in EXAMPLES:
        console.heading(example.title)
        console.stage("build")
        module, args, kwargs = example.make()
        report = convert(
            module,
            folder / example.file,
            args=args,
            kwargs=kwargs,
            dynamic=example.dynamic,
            overwrite=True,
            progress=console.stage,
        )
        console.report(report)
        verdicts.append(report.verdict)
    return all(v is not None and v.holds for v in verdicts)


def _needs(library: str) -> Any:
    from importlib import import_module

    try:
        return import_module(library)
    except ImportError as error:
        raise UsageError(f"the demo needs {library}: pip install 'dragoman[zoo]' ({error})") from None


def _resnet50() -> tuple[Any, tuple[Any, ...], dict[str, Any]]:
    torch = _needs("torch")
    declare_missing_operators()
    timm = _needs("timm")
    torch.manual_seed(_SEED)
    module = timm.create_model("resnet50", pretrained=False).eval()
    images = torch.randn(2, 3, 224, 224)
    _settle(torch, module, images)
    return module, (images,), {}


def _bert() -> tuple[Any, tuple[Any, ...], dict[str, Any]]:
    torch = _needs("torch")
    declare_missing_operators()
    transformers = _needs("transformers")
    torch.manual_seed(_SEED)
    config = transformers.BertConfig()
    module = transformers.BertModel(config).eval()
    tokens = torch.randint(5, config.vocab_size, (2, 16))
    mask = torch.ones_like(tokens)
    mask[1, 11:] = 0
    return module, (), {"input_ids": tokens, "attention_mask": mask}


def _settle(torch: Any, module: Any, images: Any) -> None:
    """Give batch norms statistics from data: untouched ones would make the norms do nothing and hide mistakes."""
    norms = [m for m in module.modules() if isinstance(m, torch.nn.BatchNorm2d)]
    for norm in norms:
        norm.train()
        norm.momentum = 1.0
        torch.nn.init.uniform_(norm.weight, 0.5, 1.5)
        torch.nn.init.normal_(norm.bias, std=0.1)
    with torch.no_grad():
        module(images)
    module.eval()


EXAMPLES = (
    Example("ResNet-50 (timm, random weights), any batch", "resnet50.onnx", _resnet50, {"x": {0: "batch"}}),
    Example(
        "BERT base (transformers, random weights), any batch and length",
        "bert.onnx",
        _bert,
        {"input_ids": {0: "batch", 1: "sequence"}, "attention_mask": {0: "batch", 1: "sequence"}},
    ),
)
