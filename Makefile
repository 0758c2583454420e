# make demo    see it work: a small simulated fleet on this machine, and the exporter watching it
# make test    every test; installs the real servers that they talk to, and a compiler, from Debian's packages
# make lint    ruff and mypy
# make bench   speed and size, side by side with sslscan and sslyze
# make soak    the long runs
.DEFAULT_GOAL := help
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin

export PIP_DISABLE_PIP_VERSION_CHECK := 1

help: ## what there is
	@sed -n 's/^# make /make /p' Makefile
.PHONY: help

# Every package by its hash; then ourselves, with the build's own requirements already there.
define install
$(PYTHON) scripts/requirements.py $(1) > $(VENV)/requirements.txt
$(BIN)/pip install --quiet --require-hashes --requirement $(VENV)/requirements.txt
$(BIN)/pip install --quiet --no-deps --no-build-isolation --editable .
touch $@
endef

$(VENV)/installed: pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(call install)

$(VENV)/installed-%: $(VENV)/installed
	$(call install,$*)
.PRECIOUS: $(VENV)/installed-%

# Some of the tests' packages are built from source, for Kerberos: by Debian's compiler, and not for speed.
$(VENV)/installed-test: export CFLAGS := -O0
$(VENV)/installed-test: | test-servers

demo: $(VENV)/installed
	$(BIN)/tls-readiness demo
.PHONY: demo

test-servers:
	scripts/install-test-servers.sh
.PHONY: test-servers

test: $(VENV)/installed-test test-servers
	$(BIN)/python -m pytest --cov --cov-report=term $(PYTEST_ARGS)
.PHONY: test

lint: $(VENV)/installed-test $(VENV)/installed-lint $(VENV)/installed-bench
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
.PHONY: lint

bench: $(VENV)/installed-bench $(VENV)/installed-test test-servers
	$(BIN)/python -m benchmarks
.PHONY: bench

soak: $(VENV)/installed-test test-servers
	$(BIN)/python -m pytest -m soak $(PYTEST_ARGS)
.PHONY: soak
