"""Every case of every kernel, against torch in double precision."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from dragoman.kernels.case import Case
from tests.kernels.judging import difference, disagreement, modules, operands

MODULES = modules()
CASES = [(module, case) for module in MODULES for case in module.CASES]
NAMES = [f"{module.__name__.rpartition('.')[2]}-{case.why}" for module, case in CASES]


@pytest.mark.parametrize(("module", "case"), CASES, ids=NAMES)
def test_a_kernel_computes_what_torch_does_and_writes_nothing_else(module: Any, case: Case) -> None:
    assert module.supports(*operands(case), **case.attributes) is None
    assert disagreement(module, case) == ""


@pytest.mark.parametrize("module", MODULES, ids=[m.__name__ for m in MODULES])
def test_a_kernel_file_says_what_the_contract_asks(module: Any) -> None:
    assert len(module.__doc__) > 100
    assert all(hasattr(module, name) for name in ("launch", "reference", "supports", "CASES", "BUILDS"))
    assert len({case.why for case in module.CASES}) == len(module.CASES)
    assert any(0 in o.shape for case in module.CASES for o in case.operands if o is not None), "no empty case"


def test_the_judge_tells_a_wrong_element_a_lost_nan_and_a_wrong_sign() -> None:
    exact = torch.tensor([1.0, torch.nan, torch.inf], dtype=torch.float64)
    right = exact.float()
    assert difference(exact, right, right, 1) == ""
    assert "off by" in difference(exact, right, torch.tensor([1.0001, torch.nan, torch.inf]), 1)
    assert "special" in difference(exact, right, torch.tensor([1.0, 0.0, torch.inf]), 1)
    assert "sign" in difference(exact, right, torch.tensor([1.0, torch.nan, -torch.inf]), 1)
