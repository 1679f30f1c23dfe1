# FedChain: `make` or `make help` lists what there is. Needs Python >= 3.11, git and make, nothing else.

PYTHON ?= python3
# more options for pip, e.g. --extra-index-url with an index that offers torch without CUDA
PIP_ARGS ?=

# make testnet
PEERS ?= 8
COMMITTEE ?= 4
ROUND_LENGTH ?= 5
ROUNDS ?= 10
TASK ?= digits
PARTITION ?= iid
SEED ?= 0
TESTNET_HOME ?= testnet
TESTNET_ARGS ?=

# make test: worker processes for the unit tests; more options for pytest
TEST_WORKERS ?= 2
PYTEST_ARGS ?=

VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed
LOG := $(VENV)/install.log
PACKAGES := ledger consensus fl node cli
SOURCES := $(wildcard $(PACKAGES) tests benchmarks)

.DEFAULT_GOAL := help
# `make -j test check` must not run two suites at once
.NOTPARALLEL:
.PHONY: help install testnet test test-unit test-integration test-slow check format bench compose-testnet clean clean-testnet

help: ## show this list
	@printf 'FedChain. Targets:\n'
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  %-18s %s\n", $$1, $$2 }' $(firstword $(MAKEFILE_LIST))
	@printf '\nVariables (make testnet ROUNDS=3 SEED=7): PYTHON PIP_ARGS PEERS COMMITTEE ROUND_LENGTH ROUNDS TASK PARTITION\n'
	@printf 'SEED TESTNET_HOME TESTNET_ARGS TEST_WORKERS PYTEST_ARGS\n'

install: $(STAMP) ## create .venv and install the project with its pinned dependencies

testnet: $(STAMP) ## run 8 peers on this machine that learn digits for 10 rounds
	@$(BIN)/fedchain-node testnet --peers $(PEERS) --committee $(COMMITTEE) --round-length $(ROUND_LENGTH) \
		--rounds $(ROUNDS) --task $(TASK) --partition $(PARTITION) --seed $(SEED) --home "$(TESTNET_HOME)" \
		--replace --json "$(TESTNET_HOME)/summary.json" $(TESTNET_ARGS)

test: test-unit test-integration ## run the whole test suite

test-unit: $(STAMP) ## run the tests without real processes, in parallel
	$(BIN)/python -m pytest -q -n $(TEST_WORKERS) -m "not integration and not slow" $(PYTEST_ARGS)

test-integration: $(STAMP) ## run the tests with real processes and sockets, one at a time
	$(BIN)/python -m pytest -q -m "integration and not slow" $(PYTEST_ARGS)

test-slow: $(STAMP) ## run the long repetitions: more seeds of whole runs, kills and poison (minutes)
	$(BIN)/python -m pytest -q -m slow $(PYTEST_ARGS)

check: $(STAMP) ## lint, format, types, import rules and the guards on sizes
	$(BIN)/ruff check $(SOURCES)
	$(BIN)/ruff format --check $(SOURCES)
	$(BIN)/mypy $(SOURCES)
	$(BIN)/lint-imports --no-logo
	$(BIN)/python -m pytest -q tests/guards

format: $(STAMP) ## rewrite the sources in the project's format and sort their imports
	$(BIN)/ruff check --fix $(SOURCES)
	$(BIN)/ruff format $(SOURCES)

bench: $(STAMP) ## measure the figures of the README's table (minutes)
	$(BIN)/python -m benchmarks --json bench.json

compose-testnet: $(STAMP) ## run the 8 containers of docker-compose.yml until 3 rounds are final
	./scripts/compose_testnet.sh

clean: ## remove caches and build outputs; keeps .venv and the homes of a testnet
	rm -rf build dist *.egg-info .hypothesis .import_linter_cache .mypy_cache .pytest_cache .ruff_cache bench.json
	find $(SOURCES) -name __pycache__ -type d -prune -exec rm -rf {} +

clean-testnet: ## remove the homes of the local testnet, with their keys and chains
	rm -rf "$(TESTNET_HOME)"

# The stamp is younger than what it was installed from; a change of either file installs again.
$(STAMP): pyproject.toml constraints.txt | $(BIN)/python
	@echo "installing (about 2 minutes the first time; details in $(LOG))..."
	@$(BIN)/python -m pip install --disable-pip-version-check --no-input --progress-bar off $(PIP_ARGS) \
		-c constraints.txt -e '.[dev]' >$(LOG) 2>&1 || { \
		tail -n 20 $(LOG) >&2; \
		echo "error: pip could not install FedChain; the whole output is in $(LOG). Mend it and run make again." >&2; \
		exit 1; }
	@touch $(STAMP)
	@echo "installed."

$(BIN)/python:
	@command -v "$(PYTHON)" >/dev/null || { \
		echo "error: FedChain needs Python >= 3.11, and there is no '$(PYTHON)' here." >&2; \
		echo "       Install one, or name it: make PYTHON=python3.12 $(MAKECMDGOALS)" >&2; exit 1; }
	@"$(PYTHON)" -c 'import sys; sys.exit(sys.version_info < (3, 11))' >/dev/null 2>&1 || { \
		echo "error: FedChain needs Python >= 3.11, but '$(PYTHON)' is $$("$(PYTHON)" --version 2>&1)." >&2; \
		echo "       Install a newer one, or name it: make PYTHON=python3.12 $(MAKECMDGOALS)" >&2; exit 1; }
	@"$(PYTHON)" -c 'import ensurepip, venv' 2>/dev/null || { \
		echo "error: $$("$(PYTHON)" --version) has no ensurepip, so it cannot make a virtual environment with pip." >&2; \
		echo "       Install it (Debian, Ubuntu: apt-get install python3-venv), then run make again." >&2; exit 1; }
	@echo "creating $(VENV) with $$("$(PYTHON)" --version)"
	@"$(PYTHON)" -m venv --clear $(VENV) || { rm -rf $(VENV); exit 1; }
