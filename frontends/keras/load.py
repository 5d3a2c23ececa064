"""A Keras model on TensorFlow as a function of tensors: inputs by their names, `None` in a shape as a symbol."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from dragoman.frontends.dynamic import Dynamic, read_spec
from dragoman.frontends.imported import Source
from dragoman.ir.dims import Dim, Symbol
from dragoman.ir.errors import Unsupported, UsageError
from dragoman.ir.types import TensorType, dtype_of


def import_keras(
    model: Any,
    args: Sequence[Any],
    kwargs: Mapping[str, Any],
    *,
    types: Mapping[str, TensorType],
    dynamic: Dynamic | None,
    progress: Any,
) -> Source:
    """Read a model whose inputs are declared, or given as examples. Raises Unsupported, UsageError, ImportRefused."""
    import keras

    backend = keras.backend.backend()
    if backend != "tensorflow":
        raise Unsupported(
            f"the Keras model is on the {backend} backend: give a function of {backend} that calls it"
            if backend == "jax"
            else f"the Keras model is on the {backend} backend, which is not read yet"
        )
    from dragoman.frontends.tensorflow.load import Interface, import_function

    form = _form(model)
    declared = _declared(form)
    examples = _examples(list(declared), args, kwargs)
    if not declared:
        declared, form = _from_examples(args, kwargs)
    inputs = {n: _type_of(n, t, types, dynamic, examples) for n, t in declared.items()}
    said: list[str] = []

    def function(*tensors: Any) -> list[Any]:
        given = keras.tree.pack_sequence_as(form, list(tensors))
        result = model(given, training=False)
        said[:] = _output_names(model, result)
        return keras.tree.flatten(result)

    names = {id(v.value.handle): v.path.replace("/", ".") for v in model.variables if hasattr(v.value, "handle")}
    return import_function(Interface(function, inputs, lambda: said, names, model.name), examples, progress)


def _form(model: Any) -> Any:
    """The declared inputs in the form that a call takes them; None for a model that declares none."""
    import keras

    if isinstance(model, keras.Sequential):
        return model.inputs[0] if model.inputs else None
    return getattr(model, "_inputs_struct", None)


def _declared(form: Any) -> dict[str, tuple[str, tuple[int | None, ...]]]:
    """Name, dtype and shape of each declared input."""
    import keras

    tensors = [] if form is None else keras.tree.flatten(form)
    return {t.name: (keras.backend.standardize_dtype(t.dtype), tuple(t.shape)) for t in tensors}


def _from_examples(args: Sequence[Any], kwargs: Mapping[str, Any]) -> tuple[dict[str, Any], Any]:
    import keras

    if kwargs or not args:
        raise UsageError("the model declares no inputs: give example arguments by position (args=(…) in Python)")
    form = args[0] if len(args) == 1 else list(args)
    leaves = keras.tree.flatten(form)
    names = [f"input{i}" if len(leaves) > 1 else "input" for i in range(len(leaves))]
    return {n: (str(np.asarray(x).dtype), tuple(np.shape(x))) for n, x in zip(names, leaves, strict=True)}, form


def _examples(names: Sequence[str], args: Sequence[Any], kwargs: Mapping[str, Any]) -> list[Any]:
    import keras

    if not args and not kwargs:
        return []
    leaves = keras.tree.flatten(args[0] if len(args) == 1 else list(args)) if args else []
    given = dict(zip(names, leaves, strict=False)) | dict(kwargs)
    if names and (set(given) != set(names) or len(leaves) > len(names)):
        raise UsageError(f"the example arguments do not fit the model's inputs: {', '.join(names)}")
    return [np.asarray(given[n]) for n in names] if names else [np.asarray(x) for x in leaves]


def _type_of(
    name: str,
    declared: tuple[str, tuple[int | None, ...]],
    types: Mapping[str, TensorType],
    dynamic: Dynamic | None,
    examples: Sequence[Any],
) -> TensorType:
    dtype = dtype_of(np.dtype(declared[0])) if declared[0] != "string" else _strings(name)
    said = types.get(name)
    if said is not None:
        if said.dtype != dtype or said.rank != len(declared[1]):
            raise UsageError(f"--input {name}:{said}: the model's input is {dtype} of rank {len(declared[1])}")
        wrong = [i for i, d in enumerate(declared[1]) if d is not None and said.shape[i] != d]
        if wrong:
            raise UsageError(f"--input {name}:{said}: axis {wrong[0]} of the model's input is {declared[1][wrong[0]]}")
        return said
    shape: list[Dim] = []
    asked = (
        dict(read_spec({name: dynamic[name]}, [(name, _Shaped(declared[1]))]).dims.get(name, {}))
        if (dynamic and name in dynamic)
        else {}
    )
    for axis, extent in enumerate(declared[1]):
        if axis in asked:
            shape.append(asked[axis])
        elif extent is not None:
            shape.append(int(extent))
        else:
            shape.append(Symbol("batch" if axis == 0 else f"{_identifier(name)}_{axis}", 1).dim)
    return TensorType(dtype, tuple(shape))


class _Shaped:
    """A shape that dynamic dims are checked against."""

    def __init__(self, shape: Sequence[int | None]) -> None:
        self.shape = tuple(1 if d is None else d for d in shape)
        self.dtype = np.float32


def _strings(name: str) -> Any:
    raise Unsupported(
        f"the input {name!r} holds strings: strings are not translated; feed the model what it makes of them"
    )


def _identifier(name: str) -> str:
    kept = "".join(c if c.isalnum() and c.isascii() else "_" for c in name)
    return kept if kept[:1].isalpha() else f"dim_{kept}"


def _output_names(model: Any, result: Any) -> list[str]:
    import keras

    if isinstance(result, dict):
        return [str(n) for n in sorted(result)]
    count = len(keras.tree.flatten(result))
    return ["output"] if count == 1 else [f"output{i}" for i in range(count)]
