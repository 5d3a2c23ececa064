"""Models in a Hugging Face directory: `config.json` and safetensors files, built with the class that the configuration names.

The class comes from the installed transformers, never from code beside the model. Weights are memory-mapped and assigned; nothing is read
until it is used, and no second copy exists. Refuses pickled weights.
"""

from __future__ import annotations

from functools import cache


@cache
def register_caches() -> None:
    """Tell torch how to flatten transformers' caches, so that they may be inputs and outputs."""
    try:
        from transformers.integrations.executorch import register_dynamic_cache_export_support
    except ImportError:  # a transformers without this helper flattens them itself, or not at all
        return
    register_dynamic_cache_export_support()
