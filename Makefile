# Needs python3 (3.11 or newer), git and make. Everything else is made below .venv/ and .cache/ of this checkout.
# A target that needs more of the system says so in one line, with the way to get it, and ends with 2.

PYTHON ?= python3
SEED ?=
DURATION ?=
STEPS ?= 200000
CLUSTER ?= cluster.yaml
FULL ?=
SECTION ?=

VENV := .venv
BIN := $(VENV)/bin
# The environment is as new as what it was made from: its stamp is named after the content of these.
STAMP := $(VENV)/made-from-$(shell cat requirements.lock node-image/pyproject.toml operator/pyproject.toml | cksum | tr ' ' '-')
PYTEST := $(BIN)/python -m pytest -q
AGAIN := $(BIN)/python -m tests.kit.again  # whole clusters on a busy machine: what fails is run again, and named

SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help
.PHONY: help env run test test-unit test-newest test-sim test-packaging test-compat test-e2e test-faults image e2e e2e-full e2e-patroni e2e-patroni-full example-patroni sim chaos mixed replay bench lint audit fmt generate lock clean

help: ## this list
	@sed -nE 's/^([a-z0-9-]+):.*## (.*)/  make \1\t\2/p' Makefile | expand -t 22

env: $(STAMP) ## .venv/ with the programs kvorum and kvorum-operator, and every tool
	@:

$(STAMP):
	@$(PYTHON) -c 'import sys; sys.exit(not (3, 11) <= sys.version_info < (3, 15))' 2>/dev/null \
		|| { echo "make: needs Python 3.11 to 3.14, and $(PYTHON) is $$($(PYTHON) --version 2>/dev/null || echo missing): make env PYTHON=/path/to/python3.12"; exit 2; }
	@$(PYTHON) -c 'import ensurepip, venv' 2>/dev/null \
		|| { echo "make: needs Python's venv module: apt-get install python3-venv"; exit 2; }
	@echo "making $(VENV)/, once"
	@$(BIN)/python -c '' 2>/dev/null || { rm -rf $(VENV); $(PYTHON) -m venv $(VENV); }
	@sed -n '/^uv==/,/[^\\]$$/p' requirements.lock > $(VENV)/uv.txt
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --only-binary :all: --require-hashes -r $(VENV)/uv.txt
	@$(BIN)/uv pip install --quiet --python $(BIN)/python --only-binary :all: --require-hashes -r requirements.lock
	@$(BIN)/uv pip install --quiet --python $(BIN)/python --no-deps --no-build-isolation -e node-image -e operator
	@rm -f $(VENV)/made-from-*; touch $@

run: env ## a cluster of three from cluster.yaml; edit the file and it follows; Ctrl-C stops it and keeps its data
	@exec $(BIN)/kvorum-operator local -f $(CLUSTER)

test: env ## everything: unit, property, simulation, against a real etcd, end to end
	@failed=; for part in test-unit test-sim test-compat test-e2e test-faults; do \
		echo "== make $$part"; $(MAKE) --no-print-directory $$part || failed="$$failed $$part"; \
	done; \
	if [ -n "$$failed" ]; then echo "FAILED:$$failed"; exit 1; fi

test-unit: env ## unit and property tests
	@$(PYTEST) -n 2 tests/unit tests/tidy tests/bench

# The newest Python at hand that is not the environment's own: of PATH, else of pyenv.
test-newest: env ## unit tests on the newest Python at hand
	@own=$$($(BIN)/python -c 'import sys; print("%d.%d" % sys.version_info[:2])'); \
	for version in 3.14 3.13 3.12; do \
		[ "$$version" = "$$own" ] && { echo "NOT RUN: unit tests on a newer Python: none newer than $$own is at hand"; exit 0; }; \
		for found in "$$(command -v python$$version || true)" "$${PYENV_ROOT:-$$HOME/.pyenv}"/versions/$$version.*/bin/python3; do \
			"$$found" -c 'import ensurepip' 2>/dev/null || continue; \
			$(MAKE) --no-print-directory env VENV=.venv-$$version PYTHON="$$found"; \
			.venv-$$version/bin/python --version; \
			.venv-$$version/bin/python -m pytest -q -n 2 -p no:cacheprovider tests/unit; exit; \
		done; \
	done; echo "NOT RUN: unit tests on a newer Python: none newer than $$own is at hand"

test-sim: env ## simulation: the seeds that are always run, and planted bugs that must be found
	@$(PYTEST) -n 2 tests/sim

test-packaging: env ## charts, manifests, runbooks, by the helm, kubectl and promtool on PATH; part of make e2e
	@$(PYTEST) -n 2 tests/packaging

test-compat: env ## against a real etcd 3.5 and its clients
	@$(AGAIN) -n 3 tests/compat

test-e2e: env ## whole clusters as processes, on both engines
	@$(AGAIN) -n 3 --ignore tests/e2e/test_readme.py --ignore tests/e2e/test_local_migration.py \
		--ignore tests/e2e/test_local_roll.py tests/e2e
	@$(AGAIN) -rP tests/e2e/test_local_migration.py tests/e2e/test_local_roll.py  # by themselves: they print gaps
	@$(PYTEST) tests/e2e/test_readme.py  # by itself: it uses the README's ports, etcd's own

image: env ## the images kvorum:dev and kvorum-operator:dev, and their sizes
	@$(BIN)/python -m tests.kubernetes.images

e2e: env ## core cases on a real Kubernetes: that of KUBECONFIG, if set, else ../shared/kubernetes, else kind
	@$(BIN)/python -m tests.kubernetes.run core

e2e-full: env ## every case on a real Kubernetes, and the images built twice
	@$(BIN)/python -m tests.kubernetes.run full

example-patroni: env ## PostgreSQL with Patroni on a cluster of three: watch a failover; SECTION=etcd for etcd's old API
	@$(BIN)/python -m tests.patroni.failover $(if $(SECTION),--section $(SECTION))

e2e-patroni: env ## what the store's troubles do to PostgreSQL, and one of Patroni's own features; FULL=1 for all
	@$(BIN)/python -m tests.patroni.run $(if $(FULL),full,core)

e2e-patroni-full: env ## lives of both sections and on a real etcd, and Patroni's three features by both
	@$(BIN)/python -m tests.patroni.run full

sim: env ## simulated groups of whole members, on a new seed: make sim SEED=8812 STEPS=200000
	@$(BIN)/python -m tests.sim.run $(if $(SEED),--seed $(SEED)) --steps $(STEPS)

test-faults: env ## short runs of make chaos and make mixed, and their judges
	@$(PYTEST) -n 2 tests/chaos tests/mixed

chaos: env ## kill -9, partitions, slow and lossy disks under load: make chaos DURATION=600 SEED=8812
	@$(BIN)/python -m tests.chaos.run $(if $(SEED),--seed $(SEED)) $(if $(DURATION),--duration $(DURATION))

mixed: env ## the same with real etcds and our nodes in one cluster: make mixed DURATION=1200 SEED=8812
	@$(BIN)/python -m tests.mixed.run $(if $(SEED),--seed $(SEED)) $(if $(DURATION),--duration $(DURATION))

replay: env ## etcd's own raft test files, or those below DIR: make replay DIR=...
	@folder="$(DIR)"; [ -n "$$folder" ] || folder="$$($(BIN)/python -m tests.kit.go_raft)" || exit 2; \
	$(BIN)/python -m kvorum.raft.replay "$$folder"

bench: env ## three of ours against three real etcds, in turns; writes docs/performance.md; then what TLS and users cost
	@command -v h2load >/dev/null || { echo "make: needs h2load: apt-get install nghttp2-client"; exit 2; }
	@$(BIN)/python -m tests.bench --write docs/performance.md
	@$(BIN)/python -m tests.bench.tls
	@$(BIN)/python -m tests.bench.authentication

lint: env ## formatting, types, layers, purity, drift, what is known to go wrong
	@failed=; for check in "ruff check" "ruff format --check" mypy lint-imports "bandit -q -c pyproject.toml -r node-image/kvorum operator/kvorum_operator" "python -m pytest -q tests/tidy"; do \
		echo "== $$check"; $(BIN)/$$check || failed="$$failed, $$check"; \
	done; \
	if [ -n "$$failed" ]; then echo "FAILED: $${failed#, }"; exit 1; fi

audit: env ## known holes in the locked distributions, where PyPI's service answers
	@$(BIN)/python -m tests.tidy.audit

fmt: env ## rewrite the code in its one format
	@$(BIN)/ruff check --fix --quiet || true
	@$(BIN)/ruff format

generate: env ## protobuf modules, crds/, docs/flags.md
	@$(BIN)/python -m tests.tidy.generated

# No uv.lock: it would write the addresses of registries into the repository.
lock: env ## requirements.lock, from the three pyproject.toml
	@$(BIN)/uv pip compile --quiet --universal --generate-hashes --no-header --no-emit-index-url --python-version 3.11 \
		--group dev node-image/pyproject.toml operator/pyproject.toml --all-extras \
		--no-emit-package kvorum -o requirements.lock

clean: ## what make made, but not .cache/ and no cluster's data
	@rm -rf .venv .venv-3.* .pytest_cache .mypy_cache .ruff_cache .import_linter_cache .hypothesis
