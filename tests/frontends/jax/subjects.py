"""The models that conversions are judged and timed on: each a source with its arguments, as a user would convert it.

Owns their sizes: large enough that a latency means something, small enough that all of them convert in minutes.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import equinox as eqx
import jax
import numpy as np
from flax import nnx
from jax import numpy as jnp

from . import models as m

Array = Any


@dataclass(frozen=True)
class Subject:
    """What `dragoman.convert` is given, and the same as one function of arrays alone.

    `dynamic` names dims by input and axis, `longest` bounds those that a model bounds. `closed` takes the arrays of `args`
    in order, and the states before them where the model has some. Nothing here needs Dragoman, so that a peer can
    be given the same.
    """

    source: Any
    args: tuple[Any, ...]
    dynamic: Mapping[str, Mapping[int, str]]
    params: Any = None
    kwargs: Mapping[str, Any] = field(default_factory=dict[str, Any])
    closed: Callable[..., Any] | None = None
    states: tuple[tuple[str, Any], ...] = ()  # of `closed`: names and values
    longest: Mapping[str, int] = field(default_factory=dict[str, int])

    def dims(self) -> dict[str, dict[int, Any]]:
        """`dynamic` as `dragoman.convert` takes it."""
        from dragoman.ir.dims import Symbol

        def dim(name: str) -> Any:
            return Symbol(name, 1, self.longest[name]) if name in self.longest else name

        return {each: {axis: dim(name) for axis, name in axes.items()} for each, axes in self.dynamic.items()}


def _linen(module: Any, *args: Any, dynamic: Mapping[str, Mapping[int, str]], **more: Any) -> Subject:
    variables = module.init(jax.random.key(0), *more.pop("example", args))
    return Subject(module, args, dynamic, variables, closed=lambda *xs: module.apply(variables, *xs), **more)


def _batch(*names: str) -> dict[str, dict[int, str]]:
    return {name: {0: "batch"} for name in names or ("x",)}


def _sequences(name: str) -> dict[str, dict[int, str]]:
    return {name: {0: "batch", 1: "length"}}


def _resnet50() -> Subject:
    small = (m.normal(1, 32, 32, 3),)  # no parameter depends on the size of the picture
    return _linen(m.ResNet(), m.normal(1, 224, 224, 3), dynamic=_batch(), example=small)


def _linen_transformer() -> Subject:
    net = m.Encoder(1000, 256, 4, 128)
    ids = m.tokens(2, 32, vocabulary=1000)
    return _linen(net, ids, dynamic=_sequences("ids"), longest={"length": net.longest})


def _nnx(net: Any, *args: Any, dynamic: Mapping[str, Mapping[int, str]]) -> Subject:
    definition, held = nnx.split(net)

    def closed(*arrays: Array) -> Any:
        # Variables of its own, since a trace must not change those of another.
        return nnx.merge(definition, jax.tree_util.tree_map(lambda x: x, held))(*arrays)

    return Subject(net, args, dynamic, closed=closed)


def _nnx_transformer() -> Subject:
    net = m.NnxTransformer(nnx.Rngs(0), 256, 1000)
    net.eval()
    return _nnx(net, m.tokens(2, 32, vocabulary=1000), dynamic=_sequences("ids"))


def _nnx_recurrent(cell: Any) -> Subject:
    net = m.NnxRecurrent(cell, nnx.Rngs(0), 64, 128)
    return _nnx(net, m.normal(2, 24, 64), dynamic=_sequences("x"))


def _mixer() -> Subject:
    return _linen(m.Mixer(8, 128, 4), m.normal(2, 64, 64, 3), dynamic=_batch())


def _vit() -> Subject:
    return _linen(m.Vit(16, 192, 6), m.normal(1, 160, 160, 3), dynamic=_batch())


def _gpt() -> Subject:
    """One step of decoding; the cache holds 64 positions."""
    net = m.Gpt(1000, 256, 4)
    variables = net.init(jax.random.key(0), m.tokens(2, 64))
    cache, params = variables["cache"], variables["params"]
    flat, form = jax.tree_util.tree_flatten_with_path({"cache": cache})
    names = [jax.tree_util.keystr(path, simple=True, separator=".") for path, _ in flat]

    def closed(*arrays: Array) -> Any:
        held = jax.tree_util.tree_unflatten(form, arrays[:-1])
        result, after = net.apply({"params": params, **held}, arrays[-1], mutable=["cache"])
        return result, *jax.tree_util.tree_leaves(after)

    states = tuple((name, leaf) for name, (_, leaf) in zip(names, flat, strict=True))
    grows = [name for name, leaf in states if leaf.ndim]
    mutable = {"mutable": ["cache"]}
    given = (m.tokens(2, 1, vocabulary=1000),)
    return Subject(net, given, _batch("ids", *grows), variables, mutable, closed, states)


def _unet() -> Subject:
    given = m.normal(1, 32, 32, 3), np.array([0.4], np.float32)
    return _linen(m.UNet(64), *given, dynamic=_batch("x", "time"))


def _equinox_mlp() -> Subject:
    """Over a batch by `vmap`, as equinox's users do."""
    net = eqx.nn.MLP(64, 16, 256, 3, activation=jax.nn.gelu, key=jax.random.key(0))

    def mlp(x: Array) -> Array:
        return jax.vmap(net)(x)

    return Subject(mlp, (m.normal(8, 64),), _batch(), closed=mlp)


def _equinox_attention() -> Subject:
    net = m.EquinoxAttention(jax.random.key(0), 8, 128)
    return Subject(net, (m.normal(32, 128),), {"x": {0: "length"}}, closed=net)


def _scan_rnn() -> Subject:
    params = {
        "wx": jnp.asarray(m.normal(32, 64)) * 0.1,
        "wh": jnp.asarray(m.normal(64, 64, seed=1)) * 0.1,
        "b": jnp.asarray(m.normal(64, seed=2)) * 0.1,
    }
    given = (m.normal(24, 2, 32),)
    dynamic = {"xs": {0: "length", 1: "batch"}}
    return Subject(m.scan_rnn, given, dynamic, params, closed=lambda xs: m.scan_rnn(params, xs))


def _while_cond() -> Subject:
    return Subject(m.collatz_like, (m.normal(16, 32),), _batch(), closed=m.collatz_like)


def _ode_step() -> Subject:
    dt = np.float32(0.1)
    return Subject(m.runge_kutta, (m.normal(64, 2), dt), _batch(), closed=m.runge_kutta)


def _resize() -> Subject:
    return Subject(m.twice_as_large, (m.normal(1, 32, 32, 8),), _batch(), closed=m.twice_as_large)


def _gradient() -> Subject:
    params = m.mlp_params(32, 128, 64, 8)
    given = m.normal(16, 32), m.normal(16, 8)
    return Subject(m.gradient, given, _batch("x", "y"), params, closed=lambda x, y: m.gradient(params, x, y))


def _input_gradient() -> Subject:
    """How an output depends on each input: the gradient of each element of a batch, by `vmap` of `grad`."""
    params = m.mlp_params(32, 128, 64, 1)

    def sensitivity(x: Array) -> Array:
        return jax.vmap(jax.grad(lambda row: m.mlp(params, row).sum()))(x)

    return Subject(sensitivity, (m.normal(16, 32),), _batch(), closed=sensitivity)


SUBJECTS: dict[str, Callable[[], Subject]] = {
    "linen_resnet50": _resnet50,
    "linen_transformer": _linen_transformer,
    "linen_mixer": _mixer,
    "linen_vit": _vit,
    "linen_gpt_decode": _gpt,
    "linen_unet": _unet,
    "nnx_transformer": _nnx_transformer,
    "nnx_lstm": lambda: _nnx_recurrent(nnx.LSTMCell),
    "nnx_gru": lambda: _nnx_recurrent(nnx.GRUCell),
    "equinox_mlp": _equinox_mlp,
    "equinox_attention": _equinox_attention,
    "scan_rnn": _scan_rnn,
    "while_cond": _while_cond,
    "ode_step": _ode_step,
    "image_resize": _resize,
    "mlp_gradient": _gradient,
    "vmap_gradient": _input_gradient,
}
