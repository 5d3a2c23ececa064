"""JAX's own test harnesses as small models, and the judgement of one of them.

A harness is a function with arguments made by a generator of random numbers; its array arguments are the inputs. The
standard is JAX compiled for the processor, in double precision where it has one.
"""

from __future__ import annotations

import warnings
from typing import Any

import jax
import numpy as np
from judging import (  # beside this file
    Outcome,
    blamed,
    copies,
    first_lines,
    is_noise,
    misjudged,
    off_in_double,
    where_raised,
    without_kernel,
)

from dragoman.backends.onnx import Session, emit
from dragoman.backends.onnx import legal as legal_at
from dragoman.frontends.jax import import_function
from dragoman.ir.errors import DragomanError, EmitRefused, ImportRefused, Unsupported, UsageError
from dragoman.ir.region import clone
from dragoman.ir.runner import GraphRunner
from dragoman.passes.legalize import legalize
from dragoman.passes.manager import run_passes
from dragoman.passes.pipelines import IMPORTED, OPTIMISE

_PROMISED = "an index is out of bounds that is promised to be within"


def run_harness(harness: Any) -> Outcome:
    """Import, compare in double, emit, run, judge."""
    with warnings.catch_warnings(), np.errstate(all="ignore"):
        warnings.simplefilter("ignore")
        try:
            return _compared(harness)
        except ImportRefused as refusal:
            listed = (f"{o.operator} {o.reason}".strip() for o in refusal.occurrences)
            return Outcome("refused", "import: " + "; ".join(listed))
        except EmitRefused as refusal:
            listed = (f"{o.operator}: {o.reason}" for o in refusal.occurrences)
            return Outcome("runtime" if without_kernel(str(refusal)) else "unemitted", "ONNX: " + "; ".join(listed))
        except Unsupported as refusal:
            return Outcome("refused", first_lines(refusal))
        except UsageError as refusal:
            return Outcome("runtime" if without_kernel(str(refusal)) else "error", first_lines(refusal))
        except DragomanError as error:
            return Outcome("error", f"{type(error).__name__}: {first_lines(error)}")
        except Exception as error:
            return Outcome("error", f"{type(error).__name__}: {first_lines(error)} {where_raised(error)}")


def _breaks_a_promise(function: Any, arrays: list[Any]) -> bool:
    """Whether a function that only gathers or scatters, indices promised to be within bounds, is given others."""
    program = jax.make_jaxpr(function)(*arrays)
    equations = program.jaxpr.eqns
    if len(equations) != 1 or getattr(equations[0].params.get("mode"), "name", "") != "PROMISE_IN_BOUNDS":
        return False
    (equation,) = equations
    numbers, shape = equation.params["dimension_numbers"], equation.invars[0].aval.shape
    if "slice_sizes" in equation.params:
        axes, sizes = numbers.start_index_map, equation.params["slice_sizes"]
    else:
        axes, dropped = numbers.scatter_dims_to_operand_dims, numbers.inserted_window_dims
        kept = iter([equation.invars[2].aval.shape[a] for a in numbers.update_window_dims])
        gone = {*dropped, *numbers.operand_batching_dims}
        sizes = [1 if a in gone else next(kept) for a in range(len(shape))]
    known = {
        **dict(zip(program.jaxpr.constvars, program.consts, strict=True)),
        **dict(zip(program.jaxpr.invars, jax.tree_util.tree_leaves(arrays), strict=True)),
    }
    indices = equation.invars[1]
    starts = np.asarray(indices.val if hasattr(indices, "val") else known[indices]).astype(np.int64)
    last = np.array([shape[a] - sizes[a] for a in axes])
    return bool(((starts < 0) | (starts > last)).any())


def _one_answer(harness: Any, arrays: list[Any]) -> Any:
    """The function of a harness, made to have one right answer: `approx_top_k` does not promise which of equal elements
    it names, so where there are some, each index is judged by the element that it names.
    """
    if harness.group_name != "approx_top_k" or len(np.unique(arrays[0])) == arrays[0].size:
        return harness.dyn_fun

    def named(x: Any) -> Any:
        values, places = harness.dyn_fun(x)
        return values, jax.numpy.take_along_axis(x, places, axis=-1)

    return named


def _compared(harness: Any) -> Outcome:
    arguments = harness.dyn_args_maker(np.random.RandomState(0))
    arrays = [np.asarray(a) if isinstance(a, (bool, int, float, complex)) else a for a in arguments]
    function = _one_answer(harness, arrays)
    try:
        jax.tree_util.tree_map(np.asarray, jax.tree_util.tree_leaves(jax.jit(function)(*arrays)))
    except Exception as error:
        return Outcome("excluded", f"JAX itself does not run it: {type(error).__name__}")
    if _breaks_a_promise(function, arrays):
        return Outcome("excluded", _PROMISED)
    found = import_function(function, arrays)
    graph, runner = found.imported.graph, found.runner
    if not graph.outputs:
        return Outcome("excluded", "it gives no array")
    run_passes(graph, IMPORTED)
    inputs = [np.asarray(x) for x in runner.examples()]
    source = runner.run(copies(inputs))
    try:
        oracle = runner.run(copies(inputs), double=True)
        note = ""
    except Exception as error:  # JAX has no double form of some primitives: itself then, at its own precision
        oracle, note = source, f"no double: {first_lines(error)}"
    imported = clone(graph)
    ours = GraphRunner(imported, "interpreter").run(copies(inputs), double=not note)
    reason = off_in_double(ours, oracle, source, bool(note))
    if reason:
        return Outcome("wrong", f"interpreter: {reason}")
    run_passes(graph, OPTIMISE)
    legalize(graph, legal_at())
    got = Session(emit(graph, contrib=True), optimise=False, threads=1).run(copies(inputs))
    wrong = misjudged(imported, list, oracle, source, got)
    if not wrong:
        return Outcome("right", note)
    if wrong.special or not is_noise(imported, inputs, oracle, got):
        return blamed(graph, imported, inputs, list, oracle, source, wrong)
    return Outcome("right", f"ill-conditioned: {wrong.reason}")
