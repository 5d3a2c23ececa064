"""Writing a model so that a reader meets the old one or the new one, whole, whatever happens in between.

Everything is written to a folder beside the target, read back and checked, synced, and renamed into place: the weights
first, under a name made from their content, then the model. What was there stays until that last rename, and stays for
good if anything fails. Refuses a target that is a folder, exists (without `overwrite`), or lies where nothing can be
written.
"""

from __future__ import annotations

import errno
import hashlib
import os
import re
import shutil
import tempfile
from collections.abc import Generator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from types import TracebackType

import onnx

from dragoman.backends.onnx import types, wire
from dragoman.backends.onnx.emitter import Emission, emit
from dragoman.backends.onnx.names import storable
from dragoman.backends.onnx.residency import FileMappings
from dragoman.ir.errors import Malformed, OutputError, UsageError
from dragoman.ir.graph import Graph

THRESHOLD = 1_900_000_000  # bytes above which weights go to a file of their own: protobuf ends at 2 GiB
_SMALLEST_OUTSIDE = 4096  # smaller weights stay in the model, where tools that fold constants find them
_LARGE = 1 << 20
_ALIGNMENT, _LARGE_ALIGNMENT = 4096, 65536  # what mapping into memory needs on Linux, and on Windows for large ones


@dataclass(frozen=True)
class Saved:
    """What was written: the model file, the file of its weights if there is one, and sizes."""

    path: Path
    data: Path | None
    opset: int
    nodes: int
    weight_bytes: int
    file_bytes: int
    widened: Mapping[str, int] = field(default_factory=dict[str, int])


def save(
    graph: Graph,
    path: str | Path,
    *,
    opset: int | None = None,
    external: bool | None = None,
    overwrite: bool = False,
    threshold: int = THRESHOLD,
    value_info: bool | None = None,
    provenance: bool = True,
    contrib: bool = False,
) -> Saved:
    """Write a graph as an ONNX file.

    `external` puts the weights into a file of their own: None where they and the model exceed `threshold` bytes.
    `contrib` allows operators of ONNX Runtime's own. Raises EmitRefused, OutputError, and UsageError for an opset that
    cannot be written or weights too large to be inside.
    """
    check_destination(path, overwrite=overwrite)
    emission = emit(graph, opset=opset, value_info=value_info, provenance=provenance, contrib=contrib)
    with Staging(path, overwrite=overwrite) as staging:
        staged = staging.write_emission(emission, external=external, threshold=threshold)
        files = staging.publish()
    return replace(staged, path=files[0], data=files[1] if len(files) > 1 else None)


def check_destination(path: str | Path, *, overwrite: bool = False) -> None:
    """Raise OutputError, saying what to do, unless a file can be written there."""
    try:
        _check_destination(Path(path), overwrite=overwrite)
    except OSError as error:  # the system refuses the name itself
        raise OutputError(f"{path} cannot be written: {_explanation(error, Path(path))}") from error


def _check_destination(path: Path, *, overwrite: bool) -> None:
    parent = path.parent
    if path.is_dir():
        raise OutputError(f"{path} is a folder: name a file in it, such as {path / 'model.onnx'}")
    if not parent.is_dir():
        raise OutputError(f"{parent} is not a folder: create it first, or write elsewhere")
    if path.exists() and not path.is_file():
        raise OutputError(f"{path} is neither a file nor a folder: write elsewhere")
    if (path.exists() or path.is_symlink()) and not overwrite:
        raise OutputError(f"{path} exists: choose another name, or have it replaced (--overwrite, or overwrite=True)")
    if not os.access(parent, os.W_OK | os.X_OK):
        raise OutputError(f"{parent} cannot be written to: change its permissions, or write elsewhere")


class Staging:
    """A folder beside the target where the model is written first; `publish` moves it into place. A context manager."""

    def __init__(self, path: str | Path, *, overwrite: bool = False) -> None:
        self.path = Path(path)
        self._overwrite = overwrite
        self._folder: Path | None = None
        self._staged: Saved | None = None

    def __enter__(self) -> Staging:
        check_destination(self.path, overwrite=self._overwrite)
        with self._explained():
            folder = tempfile.mkdtemp(prefix=".dragoman.", suffix=".partial", dir=self.path.parent)
        self._folder = Path(folder)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._folder is not None:
            shutil.rmtree(self._folder, ignore_errors=True)

    # ---- writing -------------------------------------------------------------------------------------------

    def write(
        self,
        graph: Graph,
        *,
        opset: int | None = None,
        external: bool | None = None,
        threshold: int = THRESHOLD,
        value_info: bool | None = None,
        provenance: bool = True,
        contrib: bool = False,
    ) -> Saved:
        """Write a graph into the folder; the file there can be run. Parameters are those of `save`."""
        emission = emit(graph, opset=opset, value_info=value_info, provenance=provenance, contrib=contrib)
        return self.write_emission(emission, external=external, threshold=threshold)

    def write_emission(self, emission: Emission, *, external: bool | None = None, threshold: int = THRESHOLD) -> Saved:
        """Write an emitted model into the folder, read it back and check it."""
        if self._folder is None:
            raise UsageError("a Staging is used in a with statement")
        size = wire.embedded_size(emission)
        outside = size > min(threshold, wire.LIMIT) if external is None else external
        if not outside and size > wire.LIMIT:
            raise UsageError(f"{size} bytes do not fit into one ONNX file: leave out external=False")
        self._check_room(size)
        with self._explained():
            placements, data = self._write_data(emission) if outside else ({}, None)
            model = self._folder / self.path.name
            mappings = FileMappings()
            with model.open("wb", buffering=1 << 20) as out:
                wire.write_model(out, emission, placements, mappings)
            try:
                _check_written(model, emission, placements)
            except Malformed as error:
                raise OutputError(f"{self.path} was not written: the file does not read back: {error}") from error
            sizes = [p.stat().st_size for p in (model, data) if p is not None]
        self._staged = Saved(
            model,
            data,
            emission.skeleton.opset_import[0].version,
            count_nodes(emission.skeleton.graph),
            sum(wire.stored(w) for w in emission.weights.values()),
            sum(sizes),
            emission.widened,
        )
        return self._staged

    def _check_room(self, size: int) -> None:
        free = shutil.disk_usage(self.path.parent).free
        if free < size:
            raise OutputError(f"the disk of {self.path.parent} has {free:,} bytes left where {size:,} are needed")

    def _write_data(self, emission: Emission) -> tuple[dict[str, wire.Placement], Path | None]:
        """Write the larger weights one after the other; the file is named after its content when that is known."""
        assert self._folder is not None
        outside = {n: w for n, w in emission.weights.items() if wire.stored(w) >= _SMALLEST_OUTSIDE}
        if not outside:
            return {}, None
        places: dict[str, tuple[int, int]] = {}
        partial = self._folder / "weights"
        digest = hashlib.sha256()
        mappings = FileMappings()
        # Hashing runs beside writing: both release the interpreter.
        with partial.open("wb", buffering=0) as out, ThreadPoolExecutor(1) as pool:

            def put(piece: memoryview) -> None:
                hashed = pool.submit(digest.update, piece)
                _write_all(out.fileno(), piece)
                hashed.result()

            at = 0
            for name, weight in outside.items():
                alignment = _LARGE_ALIGNMENT if weight.nbytes >= _LARGE else _ALIGNMENT
                gap = -at % alignment
                if gap:
                    put(memoryview(bytes(gap)))
                places[name] = (at + gap, weight.nbytes)
                at += gap + weight.nbytes
                wire.stream(weight, put, mappings)
        data = self._folder / f"{storable(self.path.stem)}-{digest.hexdigest()[:16]}.data"
        partial.rename(data)
        return {name: wire.Placement(data.name, *place) for name, place in places.items()}, data

    # ---- into place ------------------------------------------------------------------------------------------

    def publish(self) -> tuple[Path, ...]:
        """Sync, rename the weights, then the model; returns the files. Weights of the old model are removed."""
        staged = self._staged
        if staged is None:
            raise UsageError("nothing has been written yet")
        check_destination(self.path, overwrite=self._overwrite)
        parent = self.path.parent
        data = parent / staged.data.name if staged.data is not None else None
        created = data is not None and not data.exists()
        with self._explained():
            outdated = _data_files(self.path) - ({data.name} if data else set())
            try:
                for path in (staged.data, staged.path):
                    if path is not None:
                        _sync(path)
                if staged.data is not None and data is not None:
                    staged.data.replace(data)
                    _sync_folder(parent)
                staged.path.replace(self.path)
            except BaseException:
                # While the model is still in the folder, nothing refers to the weights that were moved out of it.
                if created and data is not None and staged.path.exists():
                    data.unlink(missing_ok=True)
                raise
            _sync_folder(parent)
            for name in outdated:
                with suppress(OSError):
                    (parent / name).unlink()
        self._staged = None
        return (self.path, data) if data is not None else (self.path,)

    @contextmanager
    def _explained(self) -> Generator[None]:
        """System errors as OutputError with what to do; anything else as it is."""
        try:
            yield
        except OSError as error:
            raise OutputError(f"{self.path} was not written: {_explanation(error, self.path)}") from error


def _explanation(error: OSError, path: Path) -> str:
    if error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):
        return f"the disk or quota of {path.parent} is full; make room, or write elsewhere"
    if error.errno in (errno.EACCES, errno.EPERM, errno.EROFS):
        return f"{path.parent} cannot be written to; change its permissions, or write elsewhere"
    if error.errno == errno.ENAMETOOLONG:
        return "the name is too long; choose a shorter one"
    return str(error)


def _write_all(descriptor: int, piece: memoryview) -> None:
    piece = piece.cast("B")
    while piece.nbytes:
        piece = piece[os.write(descriptor, piece) :]


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _sync_folder(path: Path) -> None:
    # Not every file system can; the renames are atomic with or without.
    with suppress(OSError):
        _sync(path)


def count_nodes(graph: onnx.GraphProto) -> int:
    """Nodes of a graph and of all graphs within it."""
    total = 0
    stack = [graph]
    while stack:
        current = stack.pop()
        total += len(current.node)
        stack.extend(a.g for node in current.node for a in node.attribute if a.type == onnx.AttributeProto.GRAPH)
    return total


def _check_written(path: Path, emission: Emission, placements: dict[str, wire.Placement]) -> None:
    """Read the file back. Raises Malformed unless it holds the nodes, and each weight with as many bytes as it has."""
    with wire.mapped(path) as data:
        graph, found = wire.scan(data)
    constants = {t.name for t in emission.skeleton.graph.initializer}
    weights = [f for f in found if f.name not in constants]
    if [n.name for n in graph.node] != [n.name for n in emission.skeleton.graph.node]:
        raise Malformed("its nodes differ")
    if [f.name for f in weights] != list(emission.weights):
        raise Malformed("its weights differ")
    for f in weights:
        weight, placement = emission.weights[f.name], placements.get(f.name)
        length = f.placement.length if f.placement else f.inside
        described = (f.data_type, f.dims, f.placement, length)
        if described != (types.code(weight.dtype), tuple(weight.shape), placement, wire.stored(weight)):
            raise Malformed(f"the weight {f.name!r} is {f}")
        if placement and path.with_name(placement.location).stat().st_size < placement.offset + placement.length:
            raise Malformed(f"{placement.location} ends within the weight {f.name!r}")


def _data_files(path: Path) -> set[str]:
    """Files of weights, named as we name them, that the model at `path` refers to; none if it is not one of ours."""
    if not path.is_file():
        return set()
    try:
        with wire.mapped(path) as data:
            _, found = wire.scan(data)
    except (Malformed, MemoryError):
        return set()
    ours = re.compile(re.escape(storable(path.stem)) + r"-[0-9a-f]{16}\.data")
    locations = {f.placement.location for f in found if f.placement}
    return {name for name in locations if ours.fullmatch(name)}
