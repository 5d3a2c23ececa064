"""Finding out what SOURCE is: an object of a framework, a file or folder by its content, or `package.module:factory`.

Nothing of a file is executed here. A factory is the user's own code and is called; a `.pt2` is loaded by torch, which
executes code from it, and therefore only with `trust`.
"""

from __future__ import annotations

import importlib
import sys
import zipfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from dragoman.ir.errors import DragomanError, UnsafeInput, Unsupported, UsageError

_HEAD = 4096  # bytes read to recognise a format


@dataclass(frozen=True)
class Located:
    """A source found: `kind` names the frontend entry that reads it, `what` is the object or path.

    `args` and `kwargs` are the example arguments that came with it; `spec` is how a person would name it again.
    """

    kind: str  # "module", "exported", "directory"
    what: Any
    spec: str
    args: tuple[Any, ...] = ()
    kwargs: Mapping[str, Any] = field(default_factory=dict[str, Any])


def locate(source: Any, *, trust: bool = False) -> Located:
    """What `source` is. Raises UsageError when there is nothing, Unsupported for a format without a reader yet."""
    if isinstance(source, (str, Path)):
        return _located_text(str(source), trust)
    if isinstance(source, tuple):
        return _with_arguments(source, "a tuple")
    return _located_object(source, type(source).__qualname__)


def _located_object(source: Any, spec: str) -> Located:
    torch = sys.modules.get("torch")
    if torch is not None:
        if isinstance(source, torch.nn.Module):
            return Located("module", source, spec)
        exported = sys.modules.get("torch.export")
        if exported is not None and isinstance(source, exported.ExportedProgram):
            return Located("exported", source, spec)
    family = type(source).__module__.partition(".")[0]
    if family in ("jax", "flax", "keras", "tensorflow", "onnx", "onnx_ir"):
        raise Unsupported(f"{spec}: models of {family} have no reader yet; PyTorch modules have one")
    raise UsageError(
        f"{spec} is no model: give a torch.nn.Module, an ExportedProgram, a path, or 'package.module:factory'"
    )


def _with_arguments(made: tuple[Any, ...], spec: str) -> Located:
    if len(made) not in (2, 3) or not isinstance(made[1], (tuple, list, Mapping)):
        raise UsageError(f"{spec} should be a model, (model, args) or (model, args, kwargs); it has {len(made)} parts")
    found = _located_object(made[0], spec)
    args, kwargs = made[1], made[2] if len(made) == 3 else {}
    if isinstance(args, Mapping):
        args, kwargs = (), args
    return Located(found.kind, found.what, spec, tuple(args), dict(kwargs))


def _located_text(text: str, trust: bool) -> Located:
    path = Path(text)
    if path.is_dir():
        return _located_folder(path)
    if path.is_file():
        return _located_file(path, trust)
    module, colon, attribute = text.partition(":")
    if colon and module and all(part.isidentifier() for part in module.split(".")):
        return _from_factory(module, attribute, text)
    raise UsageError(f"{text}: no such file or folder, and not of the form package.module:factory.{_near(path)}")


def _near(path: Path) -> str:
    from difflib import get_close_matches

    there = [p.name for p in path.parent.iterdir()] if path.parent.is_dir() else []
    close = get_close_matches(path.name, there, n=1)
    return f" Did you mean {path.parent / close[0]}?" if close else ""


def _located_folder(path: Path) -> Located:
    if (path / "config.json").is_file():
        return Located("directory", path, str(path))
    if (path / "saved_model.pb").is_file():
        raise Unsupported(f"{path}: a TensorFlow SavedModel has no reader yet")
    raise UsageError(f"{path} is a folder without config.json: a Hugging Face model folder has one")


def _located_file(path: Path, trust: bool) -> Located:
    with path.open("rb") as file:
        head = file.read(_HEAD)
    if head[:4] == b"PK\x03\x04":
        return _located_archive(path, trust)
    if head[:8] == b"\x89HDF\r\n\x1a\n":
        raise Unsupported(f"{path}: a Keras .h5 file has no reader yet")
    if path.suffix == ".onnx" or b"onnx" in head[:256]:
        raise Unsupported(f"{path}: ONNX files have no reader yet; ONNX is an output format so far")
    raise UsageError(f"{path}: its content is of no format that has a reader (a .pt2 archive, a model folder)")


def _located_archive(path: Path, trust: bool) -> Located:
    try:
        with zipfile.ZipFile(path) as archive:
            names = archive.namelist()
    except (zipfile.BadZipFile, ValueError, OSError) as error:
        raise UsageError(f"{path}: a damaged archive: {error}") from None
    if any(n.endswith(("serialized_exported_program.json", "archive_format")) or "/models/" in n for n in names):
        if not trust:
            raise UnsafeInput(
                f"{path}: torch executes code from a .pt2 file while loading it."
                " If you made this file or trust who did, say so with --trust"
            )
        return _load_exported(path)
    if any(n.endswith("data.pkl") for n in names):
        raise UnsafeInput(
            f"{path}: a pickled checkpoint or TorchScript file runs code when loaded; export with torch.export"
        )
    raise Unsupported(f"{path}: an archive of a kind that has no reader yet")


def _load_exported(path: Path) -> Located:
    torch = _torch(str(path))
    try:
        program = torch.export.load(str(path))
    except Exception as error:
        raise UsageError(f"{path}: torch {torch.__version__} could not load this .pt2: {error}") from error
    return Located("exported", program, str(path))


def _torch(what: str) -> Any:
    try:
        import torch.export
    except ImportError:
        raise UsageError(f"{what} needs PyTorch: pip install 'dragoman[torch]'") from None
    return torch


def _from_factory(module: str, attribute: str, spec: str) -> Located:
    if not attribute or not all(part.isidentifier() for part in attribute.split(".")):
        raise UsageError(f"{spec}: after the colon comes the name of a function, as in package.module:factory")
    factory: Any = _imported(module, spec)
    for part in attribute.split("."):
        try:
            factory = getattr(factory, part)
        except AttributeError:
            known = [n for n in dir(factory) if callable(getattr(factory, n, None)) and not n.startswith("_")]
            listed = ", ".join(known[:12]) or "no functions"
            raise UsageError(f"{spec}: {module} has no {part!r}; it has {listed}") from None
    if not callable(factory):
        raise UsageError(f"{spec} is a {type(factory).__name__}: it should be a function that returns the model")
    made = factory if _is_module(factory) else _called(factory, spec)
    return _with_arguments(made, spec) if isinstance(made, tuple) else _named(_located_object(made, spec), spec)


def _is_module(candidate: Any) -> bool:
    torch = sys.modules.get("torch")
    return torch is not None and isinstance(candidate, torch.nn.Module)


def _named(found: Located, spec: str) -> Located:
    return Located(found.kind, found.what, spec, found.args, found.kwargs)


def _imported(module: str, spec: str) -> Any:
    if "" not in sys.path and str(Path.cwd()) not in sys.path:
        sys.path.append(str(Path.cwd()))  # last, so that a folder here never shadows an installed package
    try:
        return importlib.import_module(module)
    except ModuleNotFoundError as error:
        missing = error.name or module
        if module == missing or module.startswith(missing + "."):
            raise UsageError(f"{spec}: there is no module {missing!r} here or among the installed packages") from None
        raise UsageError(f"{spec}: importing {module} needs {missing!r}, which is not installed") from None
    except Exception as error:
        raise UsageError(f"{spec}: importing {module} failed: {type(error).__name__}: {error}") from error


def _called(factory: Any, spec: str) -> Any:
    try:
        return factory()
    except (DragomanError, KeyboardInterrupt):
        raise
    except Exception as error:
        raise UsageError(f"{spec} raised {type(error).__name__}: {error}") from error


def sequence_of(value: Any) -> Sequence[Any]:
    """A value as a sequence: tuples and lists as they are, anything else alone."""
    return tuple(value) if isinstance(value, (tuple, list)) else (value,)
