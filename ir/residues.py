"""Arithmetic modulo primes below 2^31 on NumPy's int64: the tools that `dragoman.ir.field` is made of."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from functools import lru_cache
from typing import Any

import numpy as np

from dragoman.ir.arithmetic import Inexact

# Each is twice the next plus one, and 7 modulo 8; modulo each of them every number up to 17 is a square.
PRIMES = (1568286719, 784143359, 392071679)
GENERATORS = (4, 4)  # of order PRIMES[1] in Z/PRIMES[0] and of order PRIMES[2] in Z/PRIMES[1]


def residues(integers: Any, prime: int) -> Any:
    """Integers modulo a prime."""
    if integers.dtype == np.uint64:
        return (integers % np.uint64(prime)).astype(np.int64)
    return integers.astype(np.int64) % prime


def power_of_two(exponent: Any, prime: int) -> Any:
    """2^exponent modulo prime for an array of exponents of either sign."""
    smallest, largest = int(exponent.min(initial=0)), int(exponent.max(initial=0))
    table = np.array([pow(2, e, prime) for e in range(smallest, largest + 1)], np.int64)
    return table[exponent - smallest]


def raised(base: Any, exponent: Any, prime: int) -> Any:
    """base^exponent modulo prime, elementwise, for non-negative exponents below 2^32."""
    base, exponent = np.broadcast_arrays(np.asarray(base, np.int64), np.asarray(exponent, np.int64))
    base, exponent = base.copy(), exponent.copy()
    result = np.ones_like(base)
    while exponent.any():
        result = np.where(exponent & 1, result * base % prime, result)
        base = base * base % prime
        exponent >>= 1
    return result


def inverse(x: Any, prime: int) -> Any:
    """1/x modulo prime. Raises Inexact where x is zero."""
    if np.any(x == 0):
        raise Inexact("division by zero")
    return raised(x, prime - 2, prime)


@lru_cache(maxsize=512)
def _seed(name: str, prime: int) -> tuple[int, int]:
    digest = hashlib.sha256(f"{name} {prime}".encode()).digest()
    return int.from_bytes(digest[:8], "little") % (prime - 1) + 1, int.from_bytes(digest[8:16], "little") % prime


def scramble(name: str, x: Any, prime: int) -> Any:
    """A fixed random function of residues, named."""
    k, c = _seed(name, prime)
    for _ in range(4):
        x = (x * k + c) % prime
        x = x * x % prime * x % prime
    return x


def exact_contraction(contract: Callable[[Any, Any], Any], a: Any, b: Any, prime: int) -> Any:
    """A bilinear contraction modulo a prime by four float64 ones over 16-bit halves; exact below 2^21 terms."""
    a_high, a_low = (a >> 16).astype(np.float64), (a & 0xFFFF).astype(np.float64)
    b_high, b_low = (b >> 16).astype(np.float64), (b & 0xFFFF).astype(np.float64)

    def part(x: Any, y: Any) -> Any:
        return contract(x, y).astype(np.int64) % prime

    high, low = part(a_high, b_high), part(a_low, b_low)
    middle = (part(a_high, b_low) + part(a_low, b_high)) % prime
    return (high * (2**32 % prime) % prime + middle * 2**16 % prime + low) % prime
