# Every target does its own set-up, once. Needs only Python 3.11 or newer (PYTHON=/path/to/python to choose one).
SHELL := bash
VENV := .venv
RUN := $(VENV)/.ready-to-run
LINT := $(VENV)/.ready-to-lint
PYTEST_ARGS ?=
BENCH_ARGS ?=
CONFORMANCE_ARGS ?=
PROVE_ARGS ?=
FIRINGS_ARGS ?=
ABLATION_ARGS ?=
WORKERS ?= auto
FOLDERS := dragoman ir frontends passes backends kernels tests

export PYTHON
export ORT_DISABLE_TELEMETRY := 1

.PHONY: help demo test lint types wheel-check prove zoo bench conformance kernels firings ablation format clean

help: ## what can be made
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 16

demo: $(RUN) ## convert a real ResNet-50 and a real BERT, and show the proof
	@$(VENV)/bin/dragoman demo

test: $(RUN) ## the whole test suite (PYTEST_ARGS="-k name", WORKERS=0 for one process)
	@$(VENV)/bin/pytest --numprocesses $(WORKERS) --maxprocesses 4 --dist loadgroup $(PYTEST_ARGS)

lint: $(LINT) ## style and formatting
	@$(VENV)/bin/ruff check
	@$(VENV)/bin/ruff format --check

types: $(LINT) ## strict types
	@scripts/link-types
	@$(VENV)/bin/pyright --project .types --pythonpath $(VENV)/bin/python

wheel-check: $(RUN) ## build wheel and sdist, install the wheel, import every module of it
	@$(VENV)/bin/python scripts/check_wheel.py

prove: $(RUN) ## prove the rewrite rules with z3 and print what was shown of each (PROVE_ARGS="...")
	@$(VENV)/bin/python scripts/prove_rules.py $(PROVE_ARGS)

zoo: $(RUN) ## carry every model of the zoo to ONNX and verify it there (half an hour on two cores)
	@$(VENV)/bin/pytest tests/zoo -m "slow or not slow" --numprocesses $(WORKERS) --maxprocesses 2 $(PYTEST_ARGS)

bench: $(RUN) ## conversion time and memory beside torch.onnx (BENCH_ARGS="...")
	@$(VENV)/bin/python benchmarks/convert.py $(BENCH_ARGS)

conformance: $(RUN) ## PyTorch's operator suite, ONNX's own, JAX's harnesses and keras.applications, whole, through import, ONNX and ONNX Runtime
	@$(VENV)/bin/python tests/conformance/op_db.py --report docs/conformance.md $(CONFORMANCE_ARGS)
	@$(VENV)/bin/python tests/conformance/onnx_backend.py --report docs/conformance.md $(CONFORMANCE_ARGS)
	@$(VENV)/bin/python tests/conformance/jax_harnesses.py --report docs/conformance.md $(CONFORMANCE_ARGS)
	@$(VENV)/bin/python tests/conformance/keras_applications.py --report docs/conformance.md $(CONFORMANCE_ARGS)
	@test -z "$(PEER_PYTHON)" || $(PEER_PYTHON) tests/conformance/jax_harnesses_peer.py --report docs/conformance.md

kernels: $(RUN) ## compile every GPU kernel for sm_80, sm_90, sm_100 and gfx942: registers, shared memory, spills; no device needed
	@$(VENV)/bin/python scripts/compile_kernels.py

firings: $(RUN) ## every firing of every rule on the zoo and op_db, proved; writes docs/conformance.md (FIRINGS_ARGS="...")
	@$(VENV)/bin/python tests/conformance/firings.py --report docs/conformance.md $(FIRINGS_ARGS)

ablation: $(RUN) ## the zoo without each pass in turn: the same verdicts; writes docs/benchmarks/passes.md
	@$(VENV)/bin/python scripts/ablate_passes.py docs/benchmarks/passes.md $(ABLATION_ARGS)

format: $(LINT) ## put the code in the house format
	@$(VENV)/bin/ruff check --fix
	@$(VENV)/bin/ruff format

clean: ## remove the environment and everything built
	rm -rf $(VENV) .types .pytest_cache .ruff_cache .hypothesis build dist *.egg-info
	find $(FOLDERS) -name __pycache__ -type d -prune -exec rm -rf {} +

$(RUN): pyproject.toml constraints.txt scripts/set-up
	@scripts/set-up zoo,test $@

$(LINT): $(RUN)
	@scripts/set-up lint $@
