"""Finding out what SOURCE is: an object of a framework, a file or folder by its content, or `package.module:factory`.

Nothing of a file is executed here. A factory is the user's own code and is called; a `.pt2` is loaded by torch, which
executes code from it, and therefore only with `trust`. Refuses pickles, TorchScript and compiled code always.
"""

from __future__ import annotations

import mmap
import re
import sys
import zipfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from dragoman.factory import is_factory, made_by
from dragoman.inputs import positional
from dragoman.ir.errors import DragomanError, Malformed, UnsafeInput, Unsupported, UsageError

_HEAD = 4096  # bytes read to recognise a format
_LEAST_ARTEFACT = 64  # bytes
_WRAPPERS = {"OptimizedModule": "_orig_mod", "DataParallel": "module", "DistributedDataParallel": "module"}
_SOURCES = (
    "give a torch.nn.Module, an ExportedProgram, a function of JAX, a model of flax, equinox, haiku or Keras, a path,"
    " or 'package.module:factory'"
)


@dataclass(frozen=True)
class Located:
    """A source found: `kind` names the frontend entry that reads it, `what` is the object or path.

    `args` and `kwargs` are the example arguments that came with it; `spec` is how a person would name it again.
    """

    kind: str  # "module", "exported", "directory", "jax", "artefact", "onnx", "keras"
    what: Any
    spec: str
    args: tuple[Any, ...] = ()
    kwargs: Mapping[str, Any] = field(default_factory=dict[str, Any])
    params: Any = None  # weights that came beside a model of JAX


def locate(source: Any, *, trust: bool = False) -> Located:
    """What `source` is. Raises UsageError when there is nothing, Unsupported for a format without a reader yet,
    UnsafeInput for what executes code when it is read, Malformed for a damaged file.
    """
    if isinstance(source, (str, Path)):
        return _located_text(str(source), trust)
    if isinstance(source, tuple):
        return _with_arguments(source, "a tuple")
    return _located_object(source, type(source).__qualname__)


# ---- objects ------------------------------------------------------------------------------------------


def _located_object(source: Any, spec: str) -> Located:
    torch = sys.modules.get("torch")
    if torch is not None:
        if isinstance(source, torch.nn.Module):
            return Located("module", _unwrapped(source, torch, spec), spec)
        exported = sys.modules.get("torch.export")
        if exported is not None and isinstance(source, exported.ExportedProgram):
            return Located("exported", source, spec)
    if _is_jax(source) and not _is_keras(source):
        return Located("jax", source, spec)
    family = type(source).__module__.partition(".")[0]
    if family in ("onnx", "onnx_ir"):
        from dragoman.onnx_source import proto_of

        return Located("onnx", proto_of(source), spec)
    if _is_keras(source):
        return Located("keras", source, spec)
    if family == "tensorflow":
        raise Unsupported(f"{spec}: of TensorFlow, Keras models are read: give the model that it belongs to")
    raise UsageError(f"{spec} is no model but {_kind(source)}: {_SOURCES}")


def _is_jax(source: Any) -> bool:
    """Whether a source is a model of a library on JAX, or a function where JAX is in use."""
    if "jax" not in sys.modules or isinstance(source, type):
        return False
    family = type(source).__module__.partition(".")[0]
    return callable(source) or family in ("flax", "haiku")


def _is_keras(source: Any) -> bool:
    """Whether a source is a model of Keras 3."""
    keras = sys.modules.get("keras")
    return keras is not None and hasattr(keras, "Model") and isinstance(source, keras.Model)


def _kind(source: Any) -> str:
    if isinstance(source, type):
        return f"the class {source.__qualname__}, of which an instance is needed"
    if isinstance(source, Mapping) and source and all(hasattr(v, "dtype") for v in source.values()):
        return "a dictionary of weights, which lacks the code that uses them"
    return f"of type {type(source).__name__}"


def _unwrapped(module: Any, torch: Any, spec: str) -> Any:
    """The module that was compiled or spread over devices. Raises Unsupported for TorchScript."""
    while (inner := _WRAPPERS.get(type(module).__name__)) and type(module).__module__.startswith("torch."):
        module = getattr(module, inner)
    if isinstance(module, torch.jit.ScriptModule):
        raise Unsupported(f"{spec}: TorchScript has no reader; give the nn.Module that it was made from")
    return module


def _with_arguments(made: tuple[Any, ...], spec: str) -> Located:
    if len(made) not in (2, 3, 4):
        raise UsageError(
            f"{spec} should be a model, (model, args), (model, args, kwargs) or, of JAX, (model, args, kwargs, params);"
            f" it has {len(made)} parts"
        )
    found = _located_object(made[0], spec)
    args, kwargs = made[1], made[2] if len(made) > 2 else {}
    if isinstance(args, Mapping) and len(made) == 2:
        args, kwargs = (), args
    if not isinstance(kwargs, Mapping):
        raise UsageError(f"{spec}: the keyword arguments should be a dict, not of type {type(kwargs).__name__}")
    params = made[3] if len(made) > 3 else None
    return replace(found, args=positional(args), kwargs=dict(kwargs), params=params)


# ---- text ---------------------------------------------------------------------------------------------


def _located_text(text: str, trust: bool) -> Located:
    path = Path(text)
    try:
        if text and path.is_dir():
            return _located_folder(path)
        if path.is_file():
            return _located_file(path, trust)
        exists = bool(text) and path.exists()
    except OSError as error:
        raise UsageError(f"{_brief(text)}: {error.strerror or error}") from error
    if exists:
        raise UsageError(f"{text} is neither a file nor a folder")
    if is_factory(text):
        made = made_by(text)
        return _with_arguments(made, text) if isinstance(made, tuple) else _located_object(made, text)
    raise UsageError(
        f"{_brief(text)}: no such file or folder, and not of the form package.module:factory.{_near(path)}"
    )


def _brief(text: str) -> str:
    return text if len(text) <= 200 else f"{text[:150]}… ({len(text)} characters)"


def _near(path: Path) -> str:
    from difflib import get_close_matches

    there = [p.name for p in path.parent.iterdir()] if path.parent.is_dir() else []
    close = get_close_matches(path.name, there, n=1)
    if close:
        return f" Did you mean {path.parent / close[0]}?"
    if "://" in str(path) or ":/" in str(path) or re.fullmatch(r"[\w.-]+/[\w.-]+", str(path)):
        return " Models are read from disk and never downloaded: fetch it first"
    return ""


def _located_folder(path: Path) -> Located:
    if (path / "config.json").is_file():
        return Located("directory", path, str(path))
    if (path / "saved_model.pb").is_file():
        raise Unsupported(f"{path}: a TensorFlow SavedModel has no reader yet")
    raise UsageError(f"{path} is a folder without config.json: a Hugging Face model folder has one")


# ---- files --------------------------------------------------------------------------------------------


def _located_file(path: Path, trust: bool) -> Located:
    with path.open("rb") as file:
        head = file.read(_HEAD)
    if head[:4] == b"PK\x03\x04":
        return _located_archive(path, trust)
    for matches, refusal in _REFUSED:
        if matches(path, head):
            raise refusal(path)
    if _is_onnx(path, head):
        return Located("onnx", path, str(path))
    if _is_stablehlo(path):
        return Located("artefact", path, str(path))
    raise UsageError(
        f"{path}: its content is of no format that has a reader (ONNX, a .pt2 archive, a jax.export artefact, a model"
        " folder)"
    )


def _is_stablehlo(path: Path) -> bool:
    """Whether a file holds a program of StableHLO as bytecode, which jax.export wraps without a mark of its own."""
    if path.stat().st_size < _LEAST_ARTEFACT:
        return False
    with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as content:
        start = content.find(b"ML\xefR")
        return start >= 0 and b"StableHLO_v" in content[start : start + 64]


def _starts(*heads: bytes) -> Callable[[Path, bytes], bool]:
    return lambda path, head: head.startswith(heads)


def _is_onnx(path: Path, head: bytes) -> bool:
    return path.suffix == ".onnx" or b"onnx" in head[:256]


def _is_safetensors(path: Path, head: bytes) -> bool:
    return len(head) > 8 and head[8:9] == b"{" and int.from_bytes(head[:8], "little") <= 100_000_000


def _is_certificate(path: Path, head: bytes) -> bool:
    return head[:1] == b"{" and path.name.endswith(".dragoman.json")


# What is refused by its content, in order, with what to do instead.
_REFUSED: tuple[tuple[Callable[[Path, bytes], bool], Callable[[Path], DragomanError]], ...] = (
    (
        _starts(*(b"\x80" + bytes([version]) for version in range(2, 6))),
        lambda path: UnsafeInput(f"{path}: a pickled file runs code when it is loaded; export with torch.export"),
    ),
    (_starts(b"\x89HDF\r\n\x1a\n"), lambda path: Unsupported(f"{path}: a Keras .h5 file has no reader yet")),
    (_starts(b"GGUF"), lambda path: Unsupported(f"{path}: a GGUF file has no reader yet")),
    (
        lambda path, head: head[4:8] == b"TFL3",
        lambda path: Unsupported(f"{path}: a TensorFlow Lite file has no reader yet"),
    ),
    (
        _is_safetensors,
        lambda path: UsageError(f"{path} holds weights alone: give the folder that also has their config.json"),
    ),
    (_is_certificate, lambda path: UsageError(f"{path} is a certificate: 'dragoman verify' replays it")),
    (
        lambda path, head: path.suffix == ".py",
        lambda path: UsageError(f"{path}: name a function in it that returns the model, as in {path.stem}:function"),
    ),
)


def _located_archive(path: Path, trust: bool) -> Located:
    try:
        with zipfile.ZipFile(path) as archive:
            names = archive.namelist()
    except (zipfile.BadZipFile, ValueError, OSError, NotImplementedError) as error:
        raise Malformed(f"{path}: a damaged archive: {error}") from None
    if any(n.endswith((".so", ".dll", ".dylib", ".cubin")) for n in names):
        raise UnsafeInput(f"{path} contains compiled code, which is never run: save the program with torch.export.save")
    if any(n.endswith(("serialized_exported_program.json", "archive_format")) or "/models/" in n for n in names):
        if not trust:
            raise UnsafeInput(
                f"{path}: torch executes code from a .pt2 file while loading it."
                " If you made this file or trust who did, say so with --trust"
            )
        return _load_exported(path)
    if {"config.json", "metadata.json"} <= set(names):
        return Located("keras", load_keras(path, trust), str(path))
    if any(n.endswith("data.pkl") for n in names):
        raise UnsafeInput(
            f"{path}: a pickled checkpoint or TorchScript file runs code when loaded; export with torch.export"
        )
    raise Unsupported(f"{path}: an archive of a kind that has no reader yet")


def load_keras(path: Path, trust: bool) -> Any:
    """The model in a Keras file, whose layers are known to be Keras' own unless the user trusts it."""
    try:
        from dragoman.frontends.keras.file import read_archive
    except ImportError as error:
        raise UsageError(f"{path} needs TensorFlow ({error}): pip install 'dragoman[tensorflow]'") from None
    return read_archive(path, trust)


def _load_exported(path: Path) -> Located:
    try:
        import torch.export
    except ImportError:
        raise UsageError(f"{path} needs PyTorch: pip install 'dragoman[torch]'") from None
    try:
        program = torch.export.load(str(path))
    except Exception as error:  # torch's loader fails in many ways; each means that the file is not what it says
        said = str(error).strip().splitlines() or [""]
        reason = f"{type(error).__name__}: {said[0][:300]}"
        if "warnings above" in reason:  # torch's words where nothing in the archive was of a form that it knows
            reason = "it holds no program that this version reads"
        raise Malformed(f"{path}: torch {torch.__version__} cannot load this .pt2: {reason}") from error
    return Located("exported", program, str(path))


# ---- the other direction ------------------------------------------------------------------------------


def is_part_of(path: Path, source: str | Path) -> bool:
    """Whether writing `path` would replace something that is read from a source on disk."""
    origin = Path(source)
    try:
        if origin.is_file():
            return path.exists() and path.samefile(origin)
        inside = origin.is_dir() and path.exists() and path.parent.samefile(origin)
    except (OSError, ValueError):
        return False
    return inside and path.suffix != ".onnx"
