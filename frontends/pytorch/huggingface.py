"""Models in a Hugging Face directory: `config.json` and safetensors files, built with the class that the
configuration names.

The class comes from the installed transformers, never from code beside the model, and nothing is fetched. Weights are
memory-mapped: a tensor is read when it is used, and no second copy exists. Refuses pickled and missing weights.
"""

from __future__ import annotations

import inspect
import json
from functools import cache
from logging import CRITICAL
from pathlib import Path
from typing import Any

import torch

from dragoman.frontends.dynamic import Dynamic
from dragoman.ir.errors import Malformed, UnsafeInput, Unsupported, UsageError

_SHOWN = 8  # missing weights are named up to here


@cache
def register_caches() -> None:
    """Tell torch how to flatten transformers' caches, so that they may be inputs and outputs."""
    try:
        from transformers.integrations.executorch import register_dynamic_cache_export_support
    except ImportError:  # a transformers without this helper flattens them itself, or not at all
        return
    register_dynamic_cache_export_support()


def is_model_directory(folder: Path) -> bool:
    """Whether a folder holds a Hugging Face configuration."""
    return (folder / "config.json").is_file()


def load_model(folder: Path) -> torch.nn.Module:
    """The model in a directory, in eval mode, its weights mapped from the files.

    Raises Malformed for a configuration or weights that do not fit, UnsafeInput for weights that only pickle can read.
    """
    architecture = _architecture(folder)
    weights = sorted(folder.glob("*.safetensors"))
    if not weights:
        pickled = [p.name for p in folder.iterdir() if p.suffix in (".bin", ".pt", ".pth", ".ckpt")]
        if pickled:
            raise UnsafeInput(
                f"{folder} has its weights in {pickled[0]}: reading it would run code; save safetensors instead"
            )
        raise Malformed(f"{folder} has no safetensors file")
    _check_index(folder)
    found = _class(architecture, folder)
    try:
        with _silent_loading():
            model, report = found.from_pretrained(
                folder,
                local_files_only=True,
                trust_remote_code=False,
                use_safetensors=True,
                ignore_mismatched_sizes=True,  # they are refused below, by name
                dtype="auto",
                output_loading_info=True,
            )
    except Exception as error:  # from a library that takes for granted what a folder may lack
        said = str(error).strip().splitlines() or [""]
        reason = f"{type(error).__name__}: {said[0][:300]}"
        raise Malformed(f"{folder} cannot be loaded as {architecture}: {reason}") from error
    _check(folder, architecture, report)
    return model.eval()


def _check_index(folder: Path) -> None:
    """Raise UnsafeInput where an index of weights names a file that does not lie beside it."""
    for index in folder.glob("*.safetensors.index.json"):
        try:
            listed = set(json.loads(index.read_text(encoding="utf-8"))["weight_map"].values())
            outside = [name for name in listed if Path(name).name != name or not name.endswith(".safetensors")]
        except (OSError, ValueError, KeyError, AttributeError, TypeError) as error:
            raise Malformed(f"{index} is no index of weights: {error}") from None
        if outside:
            raise UnsafeInput(f"{index} names {outside[0]!r}, which is no safetensors file beside it")


def _architecture(folder: Path) -> str:
    try:
        config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise Malformed(f"{folder / 'config.json'} cannot be read: {error}") from None
    named = config.get("architectures") if isinstance(config, dict) else None
    if not isinstance(named, list) or not named or not isinstance(named[0], str):
        raise Malformed(f"{folder / 'config.json'} names no architecture")
    return named[0]


def _class(architecture: str, folder: Path) -> Any:
    try:
        import transformers
    except ImportError:
        raise UsageError(f"{folder} needs transformers: pip install transformers") from None

    found = getattr(transformers, architecture, None) if architecture.isidentifier() else None
    if not (inspect.isclass(found) and issubclass(found, transformers.PreTrainedModel)):
        raise Unsupported(
            f"{folder} is a {architecture!r}, which transformers {transformers.__version__} does not have; "
            "code beside the model is never run"
        )
    return found


class _silent_loading:  # noqa: N801  (a context manager reads as a phrase)
    """transformers' own progress bar and report switched off for a while: what matters in them is checked here."""

    def __enter__(self) -> None:
        from transformers.utils import logging

        self._shown, self._verbosity = logging.is_progress_bar_enabled(), logging.get_verbosity()
        logging.disable_progress_bar()
        logging.set_verbosity(CRITICAL)

    def __exit__(self, *_: object) -> None:
        from transformers.utils import logging

        logging.set_verbosity(self._verbosity)
        if self._shown:
            logging.enable_progress_bar()


def _check(folder: Path, architecture: str, report: dict[str, Any]) -> None:
    """Weights that the files lack would be random numbers."""
    for what, names in (
        ("no values", report.get("missing_keys")),
        ("values of another shape", report.get("mismatched_keys")),
    ):
        if names:
            listed = sorted(str(n[0]) if isinstance(n, tuple) else str(n) for n in names)
            more = f" and {len(listed) - _SHOWN} more" if len(listed) > _SHOWN else ""
            raise Malformed(f"{folder} has {what} for {', '.join(listed[:_SHOWN])}{more} of {architecture}")


# ---- examples --------------------------------------------------------------------------------------------------


def example_arguments(model: Any) -> tuple[dict[str, Any], Dynamic]:
    """Inputs made from the configuration, and what of them is dynamic. Caches are not returned. Raises UsageError."""
    config = model.config
    parameters = set(inspect.signature(model.forward).parameters)
    text = getattr(config, "text_config", config)
    inputs: dict[str, Any] = {}
    dynamic: dict[str, dict[int, str]] = {}
    if model.main_input_name == "input_ids" or {"input_ids", "pixel_values"} <= parameters:
        _add_text(inputs, dynamic, parameters, text, "sequence", "")
    if model.main_input_name == "pixel_values" or {"input_ids", "pixel_values"} <= parameters:
        inputs["pixel_values"] = _picture(getattr(config, "vision_config", config))
        dynamic["pixel_values"] = {0: "batch"}
    if model.main_input_name == "input_features":
        inputs["input_features"] = torch.zeros(2, config.num_mel_bins, 2 * config.max_source_positions)
        dynamic["input_features"] = {0: "batch"}
    if model.main_input_name == "input_values":
        inputs["input_values"] = torch.zeros(2, 16000)
        dynamic["input_values"] = {0: "batch", 1: "samples"}
    if getattr(config, "is_encoder_decoder", False) and "decoder_input_ids" in parameters:
        _add_text(inputs, dynamic, parameters, text, "target", "decoder_")
    if not inputs:
        raise UsageError(f"no example inputs are known for {type(model).__name__}: pass args or kwargs")
    if hasattr(config, "use_cache"):
        config.use_cache = False
    return {n: _in_dtype(x, model.dtype) for n, x in inputs.items()}, dynamic


def _add_text(
    inputs: dict[str, Any],
    dynamic: dict[str, dict[int, str]],
    parameters: set[str],
    config: Any,
    length: str,
    prefix: str,
) -> None:
    names = [f"{prefix}input_ids", *([] if prefix else ["attention_mask", "token_type_ids"])]
    for name in names:
        optional = name == "token_type_ids" and getattr(config, "type_vocab_size", 0) < 2
        if name in parameters and not optional:
            fill = 1 if name != "token_type_ids" else 0
            inputs[name] = torch.full((2, 8), fill, dtype=torch.int64)
            dynamic[name] = {0: "batch", 1: length}


def _picture(config: Any) -> torch.Tensor:
    size = config.image_size
    height, width = (size, size) if isinstance(size, int) else (size[0], size[1])
    return torch.zeros(2, getattr(config, "num_channels", 3), height, width)


def _in_dtype(x: torch.Tensor, dtype: torch.dtype) -> torch.Tensor:
    return x.to(dtype) if x.is_floating_point() else x
