"""Running a kernel's cases: fresh random operands, a poisoned result with guards around it, judged in float64."""

from __future__ import annotations

import importlib
import pkgutil
import zlib
from types import ModuleType
from typing import Any

import numpy as np
import torch

import dragoman.kernels
from dragoman.kernels.case import Case, Operand

DTYPES = {"f16": torch.float16, "bf16": torch.bfloat16, "f32": torch.float32, "f64": torch.float64, "i64": torch.int64}
DTYPES |= {"bool": torch.bool, "i32": torch.int32}
GUARD = 64
POISON = -12345.0


def modules() -> list[ModuleType]:
    """The kernel files: those with cases."""
    names = [m.name for m in pkgutil.iter_modules(dragoman.kernels.__path__)]
    found = [importlib.import_module(f"dragoman.kernels.{name}") for name in names]
    return [m for m in found if hasattr(m, "CASES")]


def tensor(given: Operand, random: torch.Generator) -> torch.Tensor:
    dtype = DTYPES[given.dtype]
    if dtype == torch.bool:
        return torch.rand(given.shape, generator=random) < 0.7
    if not dtype.is_floating_point:
        return torch.randint(0, 8, given.shape, generator=random, dtype=dtype)
    x = torch.randn(given.shape, generator=random, dtype=torch.float64)
    if given.special:
        places = torch.rand(given.shape, generator=random)
        for value, low in ((torch.nan, 0.03), (torch.inf, 0.06), (-torch.inf, 0.12)):
            x = torch.where((places < low) & (places >= low - 0.03), value, x)
    x = x.to(dtype)
    if given.layout == "strided":
        wide = torch.full((*given.shape[:-1], given.shape[-1] * 2), POISON, dtype=dtype)
        wide[..., ::2] = x
        return wide[..., ::2]
    if given.layout == "shifted":
        store = torch.full((x.numel() + 1,), POISON, dtype=dtype)
        store[1:] = x.reshape(-1)
        return store[1:].view(given.shape)
    return x


def operands(case: Case, seed: int | None = None) -> list[torch.Tensor | None]:
    random = torch.Generator().manual_seed(zlib.crc32(repr(case).encode()) if seed is None else seed)
    return [tensor(o, random) if o is not None else None for o in case.operands]


def disagreement(module: Any, case: Case, seed: int | None = None) -> str:
    """What is wrong with a kernel's result; empty if nothing is."""
    given = operands(case, seed)
    kept = [x.clone() if x is not None else None for x in given]
    wide = [x.double() if x is not None and x.is_floating_point() else x for x in given]
    exact = module.reference(*wide, **case.attributes)
    eager = module.reference(*given, **case.attributes)
    store = torch.full((eager.numel() + 2 * GUARD,), POISON, dtype=eager.dtype)
    out = store[GUARD : GUARD + eager.numel()].view(eager.shape)
    with np.errstate(all="ignore"):  # the interpreter computes with NumPy, which warns of what is meant
        y = module.launch(*given, **case.attributes, out=out)
    if y.data_ptr() != out.data_ptr() and y.numel():
        return "the result is not where it should be"
    if not (store[:GUARD] == POISON).all() or not (store[GUARD + eager.numel() :] == POISON).all():
        return "something was written outside of the result"
    for before, after in zip(kept, given, strict=True):
        if before is not None and after is not None and not torch.equal(before.nan_to_num(7.0), after.nan_to_num(7.0)):
            return "an operand was written to"
    return difference(exact, eager, y, sum_size(wide))


def sum_size(wide: list[Any]) -> int:
    return max((x.shape[-1] for x in wide if x is not None and x.dim()), default=1)


def difference(exact: torch.Tensor, eager: torch.Tensor, y: torch.Tensor, length: int) -> str:
    """|y − exact| ≤ max(K·|eager − exact| over the tensor, 4·√n·u·scale), special values exact."""
    finite, y64 = exact.isfinite(), y.double()
    if not torch.equal(exact.isnan(), y64.isnan()) or not torch.equal(exact.isinf(), y64.isinf()):
        return f"special values differ: {y} instead of {exact}"
    if not torch.equal(exact[exact.isinf()], y64[exact.isinf()]):
        return "an infinity has the wrong sign"
    if not finite.any():
        return ""
    unit = torch.finfo(y.dtype).eps / 2
    factor = 2 if y.dtype in (torch.float32, torch.float64) else 3
    own = (eager.double() - exact)[finite].abs().max()
    bound = max(factor * own, 4 * max(length, 1) ** 0.5 * unit * exact[finite].abs().max())
    error = (y64 - exact)[finite].abs().max()
    return "" if error <= bound else f"off by {error:.3g} where {bound:.3g} is allowed"
