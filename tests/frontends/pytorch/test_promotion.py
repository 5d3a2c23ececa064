"""torch's promotion, made explicit: the dtype of every mixture of operands, and the values where precision matters."""

from __future__ import annotations

import itertools
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from dragoman.frontends.pytorch.context import plain, result_dtype
from dragoman.frontends.pytorch.dtypes import from_torch, to_torch
from dragoman.ir.arithmetic import NATIVE
from dragoman.ir.graph import Value
from dragoman.ir.interpreter import run
from dragoman.ir.types import BOOL, F32, I8, I64, U8, TensorType
from tests.frontends.pytorch.compared import Calls, arrays_of, check_function, imported

DTYPES = (
    torch.bool,
    torch.uint8,
    torch.int8,
    torch.int32,
    torch.int64,
    torch.float16,
    torch.bfloat16,
    torch.float32,
    torch.float64,
    torch.complex64,
    torch.complex128,
)
OPERANDS: list[Any] = [True, 2, 0.5, 1j]
OPERANDS += [(d, shape) for d in DTYPES for shape in ((), (2,))]


def of_torch(operand: Any) -> Any:
    return torch.ones(operand[1], dtype=operand[0]) if isinstance(operand, tuple) else operand


def of_ours(operand: Any) -> Any:
    return Value(TensorType(from_torch(operand[0]), operand[1])) if isinstance(operand, tuple) else operand


def test_two_operands_promote_as_torch_promotes_them() -> None:
    pairs = [p for p in itertools.product(OPERANDS, OPERANDS) if any(isinstance(x, tuple) for x in p)]
    wrong = [
        (x, y)
        for x, y in pairs
        if result_dtype([of_ours(x), of_ours(y)], F32) != _promoted(torch.result_type(of_torch(x), of_torch(y)))
    ]
    assert len(pairs) > 600
    assert wrong == []


def _promoted(dtype: torch.dtype) -> Any:
    return from_torch(torch.complex64 if dtype == torch.complex32 else dtype)  # the IR has no complex of halves


def test_every_dtype_crosses_both_ways() -> None:
    for dtype in DTYPES:
        assert to_torch(from_torch(dtype)) == dtype


@pytest.mark.parametrize(
    ("number", "dtype", "expected"),
    [(3.9, I64, 3), (-1, U8, 255), (200, I8, -56), (2, F32, 2.0), (0.0, BOOL, False), (True, F32, 1.0)],
)
def test_a_number_becomes_one_of_its_dtype(number: float, dtype: Any, expected: float) -> None:
    assert plain(number, dtype) == expected
    assert type(plain(number, dtype)) is type(expected)


def integers(x: Tensor, n: Tensor, flag: Tensor) -> tuple[Tensor, ...]:
    return (
        n / 2,
        n / n.abs().clamp(min=1),
        n // 3,
        n % 3,
        -n // 2,
        n + 0.5,
        n * x,
        n.sum(),
        flag.sum(),
        flag.cumsum(0),
        n.float().mean(),
        n.sqrt(),
        n**2,
        n**0.5,
        2 ** n.abs(),
        n.clamp(-1, 2),
        n.clamp(max=1.5),
        n.sigmoid(),
        torch.where(flag, n, 0.5),
        torch.where(flag, 1, 2.0),
        n > 0.5,
        n == x,
        n & 1,
        n << 2,
    )


def booleans(x: Tensor, n: Tensor, flag: Tensor) -> tuple[Tensor, ...]:
    other = n > 0
    return (
        flag + other,
        flag * other,
        flag & other,
        flag ^ other,
        ~flag,
        flag | True,
        flag + 1,
        flag * 0.5,
        n - flag.long(),
        flag.float() @ x,
        x * flag,
        torch.maximum(flag, other),
        flag.any(),
        flag.all(0, keepdim=True),
        flag.max(),
        x.masked_fill(flag, -1),
        flag < other,
        flag.logical_xor(n),
    )


def modes(x: Tensor, n: Tensor, flag: Tensor) -> tuple[Tensor, ...]:
    return (
        torch.add(x, n, alpha=2),
        torch.sub(x, x * x, alpha=0.5),
        torch.rsub(n, 3),
        1 - x,
        2 / x,
        torch.div(n, 2, rounding_mode="trunc"),
        torch.div(n, -2, rounding_mode="floor"),
        torch.div(x, 0.25, rounding_mode="trunc"),
        torch.div(x, 0.25, rounding_mode="floor"),
        torch.fmod(n, -2),
        torch.remainder(n, -2),
        torch.fmod(x, 0.75),
        torch.remainder(x, 0.75),
        torch.floor_divide(x, 0.5),
        torch.addcmul(x, x, x, value=0.5),
        torch.addcdiv(x, x, x + 10, value=2),
        torch.lerp(x, x * 2, 0.25),
        torch.lerp(x, x * 2, 0.75),
        torch.cat([x, n]),
        torch.stack([n, flag.long()]),
        x.to(torch.int32) + n,
        n.type_as(x),
    )


@pytest.mark.parametrize("function", [integers, booleans, modes], ids=lambda f: f.__name__)
def test_mixed_arithmetic_is_what_torch_computes(function: Any) -> None:
    x = torch.tensor([-1.5, 0.25, 3.0, 2.0])
    n = torch.tensor([-7, 0, 3, 8])
    check_function(function, x, n, n % 2 == 0)


HALVES: list[Any] = [
    lambda x: x + 0.1,
    lambda x: x - 0.1,
    lambda x: x * 0.1,
    lambda x: x / 0.3,
    lambda x: 0.1 - x,
    lambda x: x.pow(3.3),
    lambda x: x.clamp(max=1.1),
    lambda x: x * torch.tensor(0.1),
    lambda x: x + torch.tensor(0.1),
    lambda x: torch.where(x > 0.7, x, 0.3),
    lambda x: torch.addcmul(x, x, x, value=0.1),
    lambda x: x.softmax(0),
    lambda x: torch.nn.functional.gelu(x) * x.sigmoid(),
    lambda x: x.mean() + x.sum(),
]


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
@pytest.mark.parametrize("index", range(len(HALVES)))
def test_half_precision_rounds_where_torch_rounds(index: int, dtype: torch.dtype) -> None:
    torch.manual_seed(index)
    x = (torch.rand(512) + 0.3).to(dtype)
    source = imported(Calls(HALVES[index]), (x,))
    (value,) = source.imported.graph.outputs
    (theirs,) = source.runner.run(arrays_of([x]))
    (ours,) = run(source.imported.graph, *arrays_of([x]), arithmetic=NATIVE)
    assert value.type.dtype == from_torch(dtype)
    ulps = np.abs(np.asarray(ours).view(np.int16).astype(int) - np.asarray(theirs).view(np.int16).astype(int))
    assert ulps.max() <= 1
    assert (ulps > 0).mean() < 0.02  # exp and its kind are not the same to the last bit everywhere
