"""The static plan of memory: which values share which bytes of one arena. Copied into each generated folder."""

from __future__ import annotations

from collections.abc import Sequence

_ALIGNMENT = 256  # bytes: what torch's allocator gives, and wide loads want


def lay_out(wanted: Sequence[tuple[int, int, int | None]]) -> tuple[list[int | None], int]:
    """Places in one arena for (bytes, first step, last step), and its size. The largest first, each at the lowest
    place that is free while it lives; None, for what outlives the run, gets no place.
    """
    offsets: list[int | None] = [None] * len(wanted)
    alive: dict[int, list[tuple[int, int]]] = {}  # by step: the places that are taken then
    peak = 0
    for number in sorted(range(len(wanted)), key=lambda k: (-wanted[k][0], k)):
        size, born, dies = wanted[number]
        if dies is None:
            continue
        size = -(-size // _ALIGNMENT) * _ALIGNMENT
        at = 0
        for start, end in sorted({place for step in range(born, dies + 1) for place in alive.get(step, ())}):
            if at + size <= start:
                break
            at = max(at, end)
        offsets[number] = at
        for step in range(born, dies + 1):
            alive.setdefault(step, []).append((at, at + size))
        peak = max(peak, at + size)
    return offsets, peak
