"""JAX's own test harnesses by name, and which have no right answer on this machine. Needs JAX and nothing else."""

from __future__ import annotations

from functools import cache
from typing import Any

# What has no one right answer, by group.
EXCLUDED: dict[str, str] = {
    "rng_bit_generator": "gives what the device makes of it",
}
_UNSTABLE = "an unstable sort does not promise which of equal elements comes first"
_SIGN_OF_NAN = "the sign of a NaN decides, which neither ONNX nor NumPy looks at"


@cache
def harnesses() -> dict[str, Any]:
    """Every harness of the suite by its full name, the second of one name with a number."""
    from jax._src.internal_test_util.test_harnesses import all_harnesses

    found: dict[str, Any] = {}
    for harness in all_harnesses:
        count = sum(f"{harness.fullname}{mark}" in found for mark in ("", "#2", "#3", "#4"))
        found[f"{harness.fullname}#{count + 1}" if count else harness.fullname] = harness
    return found


def excluded(harness: Any) -> str:
    """Why a harness has no right answer on this machine; empty if it has."""
    if harness.group_name in EXCLUDED:
        return EXCLUDED[harness.group_name]
    if harness.group_name == "sort" and "multiple_arrays" in harness.fullname and "isstable_False" in harness.fullname:
        return _UNSTABLE
    if harness.fullname.startswith("top_k_sort_inf_nan"):
        return _SIGN_OF_NAN
    for limitation in harness.jax_unimplemented:
        if limitation.filter(device="cpu", dtype=harness.dtype):
            return f"JAX itself on a processor: {limitation.description}"
    return ""
