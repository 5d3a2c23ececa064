"""Data outside the model file: only from a regular file with one link, beneath the model's folder, links not followed.

Every part of the path is opened relative to the one before it, so that nothing can be swapped for a link between a
check and its use: what was checked is what is read, through one open descriptor.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from dragoman.ir.errors import Malformed, UnsafeInput

_KEYS = {"location", "offset", "length", "checksum", "basepath"}


@dataclass(frozen=True)
class Range:
    """Bytes of a file that was found safe to read; its identity is compared again when the bytes are."""

    path: Path
    offset: int
    length: int | None  # None: as many as the tensor has
    size: int


class ExternalData:
    """The folder of a model and the data files in it that were checked."""

    def __init__(self, folder: Path | None) -> None:
        self._folder = folder
        self._sizes: dict[str, int] = {}

    def range_of(self, tensor: str, entries: Mapping[str, str]) -> Range:
        """The range that a tensor's external data names. Raises UnsafeInput or Malformed, naming the tensor."""
        unknown = sorted(entries.keys() - _KEYS)
        if unknown:
            raise Malformed(f"the external data of {tensor!r} has the key {unknown[0]!r}, which ONNX does not know")
        location = entries.get("location", "")
        if self._folder is None:
            raise UnsafeInput(
                f"the tensor {tensor!r} lies in the file {location!r}, but the model came without a folder"
            )
        size = self._sizes.get(location)
        if size is None:
            size = self._sizes[location] = _checked_size(self._folder, location, tensor)
        offset, length = (_number(entries, key, tensor) for key in ("offset", "length"))
        start = offset or 0
        if start + (length or 0) > size:
            raise Malformed(
                f"the tensor {tensor!r} takes bytes {start} to {start + (length or 0)} of {location!r}, of {size} bytes"
            )
        return Range(self._folder / location, start, length, size)


def _number(entries: Mapping[str, str], key: str, tensor: str) -> int | None:
    text = entries.get(key)
    if text is None or text == "":
        return None
    if not text.isascii() or not text.isdigit() or len(text) > 19:
        raise Malformed(f"the external data of {tensor!r} has {key} = {text[:40]!r}, which is no number of bytes")
    return int(text)


def _checked_size(folder: Path, location: str, tensor: str) -> int:
    """The size of a data file that may be read."""
    parts = _parts(location, tensor)
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        for index, part in enumerate(parts):
            last = index == len(parts) - 1
            flags = os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NONBLOCK | (0 if last else os.O_DIRECTORY)
            try:
                following = os.open(part, flags, dir_fd=descriptor)
            except FileNotFoundError:
                raise Malformed(
                    f"the tensor {tensor!r} lies in {location!r}, which is not beside the model: put it there"
                ) from None
            except OSError as error:
                raise UnsafeInput(
                    f"the tensor {tensor!r} lies in {location!r}, which is a link or no plain file: {error.strerror}"
                ) from None
            os.close(descriptor)
            descriptor = following
        state = os.fstat(descriptor)
    finally:
        os.close(descriptor)
    if not stat.S_ISREG(state.st_mode):
        raise UnsafeInput(f"the tensor {tensor!r} lies in {location!r}, which is no regular file")
    if state.st_nlink != 1:
        raise UnsafeInput(
            f"the tensor {tensor!r} lies in {location!r}, which has {state.st_nlink} names on disk: copy it"
        )
    return state.st_size


def _parts(location: str, tensor: str) -> list[str]:
    """The parts of a relative path below the model. Raises UnsafeInput for any other."""
    bad = not location or "\0" in location or "\\" in location or ":" in location[:3] or location.startswith("/")
    parts = location.split("/")
    if bad or any(p in ("", "..") for p in parts) or "_ORT_MEM_ADDR_" in location:
        raise UnsafeInput(
            f"the tensor {tensor!r} lies in {location[:200]!r}, which is no path beneath the model's folder"
        )
    kept = [p for p in parts if p != "."]
    if not kept:
        raise UnsafeInput(f"the tensor {tensor!r} lies in {location!r}, which is a folder")
    return kept
