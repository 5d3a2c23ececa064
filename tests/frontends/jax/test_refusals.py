"""What cannot be read is refused with one clear message: what, where, what to do."""

from __future__ import annotations

from typing import Any

import jax
import numpy as np
import pytest
from flax import nnx
from jax import numpy as jnp

from dragoman.frontends.jax import import_function
from dragoman.ir.errors import DimensionPinned, ImportRefused, Unsupported, UsageError
from tests.frontends.jax import models as m
from tests.frontends.jax.models import normal, tokens

KEY = jax.random.key(0)


def test_a_callback_to_the_host_is_refused_with_its_line() -> None:
    def model(x: Any) -> Any:
        return jax.pure_callback(np.sin, jax.ShapeDtypeStruct((3,), jnp.float32), x)

    with pytest.raises(ImportRefused, match=r"pure_callback[\s\S]*test_refusals.py:[\s\S]*calls Python on the host"):
        import_function(model, (normal(3),))


def test_a_branch_of_python_on_a_value_is_refused_with_its_line() -> None:
    def model(x: Any) -> Any:
        if x.sum() > 0:
            return x
        return -x

    with pytest.raises(Unsupported, match=r"use jax.lax.cond or jnp.where\n  test_refusals.py:\d+  if x.sum"):
        import_function(model, (normal(3),))


def test_variables_of_another_model_are_refused() -> None:
    variables = m.Mixer(depth=1).init(KEY, normal(2, 8, 8, 3))
    with pytest.raises(UsageError, match=r"does not run on the example arguments: Scope\w*Error"):
        import_function(m.Mixer(depth=2), (normal(2, 8, 8, 3),), params=variables)


def test_a_module_without_variables_is_refused() -> None:
    with pytest.raises(UsageError, match="give params=variables"):
        import_function(m.Mixer(), (normal(2, 8, 8, 3),))


def test_arguments_that_do_not_fit_are_refused() -> None:
    with pytest.raises(UsageError, match=r"do not fit loss\(x: [^)]*y[^)]*\)[\s\S]*missing a required argument: 'y'"):
        import_function(m.loss, (normal(4, 5),), params=m.mlp_params(5, 2))


def test_a_dimension_that_the_model_limits_is_refused_and_a_range_helps() -> None:
    net = m.Encoder(depth=1)
    variables = net.init(KEY, tokens(2, 7))
    with pytest.raises(DimensionPinned, match=r"ids\[1\] = length[\s\S]*range"):
        import_function(net, (tokens(2, 7),), params=variables, dynamic={"ids": {1: "length"}})


def test_a_name_that_is_no_input_is_refused() -> None:
    with pytest.raises(UsageError, match="names an input 'y'; the inputs are x"):
        import_function(jnp.sin, (normal(3),), dynamic={"y": {0: "n"}})


def test_all_primitives_without_translation_are_listed() -> None:
    def model(x: Any) -> Any:
        return jax.scipy.special.i0e(x) + jax.scipy.special.gammainc(x, x)

    with pytest.raises(ImportRefused) as refused:
        import_function(model, (abs(normal(3)),))
    assert {o.operator for o in refused.value.occurrences} == {"bessel_i0e", "igamma"}
    assert all("test_refusals.py" in o.line for o in refused.value.occurrences)


def test_a_random_generator_that_devices_differ_in_is_refused() -> None:
    with pytest.raises(ImportRefused, match="threefry is translated"):
        import_function(lambda k: jax.random.normal(k, (3,)), (jax.random.key(0, impl="rbg"),))


def test_parameters_of_another_form_are_refused_with_the_line_that_misses_them() -> None:
    params = [{"w": normal(5, 2)}]
    with pytest.raises(UsageError, match=r"does not run on the example arguments: KeyError: 'b'\n  models.py:\d+"):
        import_function(m.mlp, (normal(4, 5),), params=params)


def test_a_dynamic_dim_of_a_state_that_stays_is_refused() -> None:
    net = m.NnxNormed(nnx.Rngs(0))
    net.eval()
    with pytest.raises(UsageError, match=r"names 'norm.mean', which this call does not change"):
        import_function(net, (normal(3, 4),), dynamic={"norm.mean": {0: "n"}})


def test_approximate_extrema_without_their_last_step_are_refused() -> None:
    def model(x: Any) -> Any:
        return jax.lax.approx_max_k(x, 3, aggregate_to_topk=False)

    with pytest.raises(ImportRefused, match="ask for aggregate_to_topk=True"):
        import_function(model, (normal(64),))
