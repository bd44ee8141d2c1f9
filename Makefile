# make optimize: write, check and time kernels until the suites pass.   make test: this project's own checks and tests.
# make paper: the same for suites/paper, the workloads of the paper.
# TARGET=cpu           where the kernels run
# ARGS="-k rms_norm"   goes to pytest as it is
# PYTHON=python3.12    the interpreter of .venv (default: the first of 3.11 or later found)

SHELL := /usr/bin/env bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help

TARGET ?= cpu
ARGS ?=
PYTHON ?=
CXX_FOUND := $(shell command -v g++ || command -v clang++)

VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/installed.txt

unexport PYTHONDONTWRITEBYTECODE # else each of the processes that tests start would compile kevolve and rewrite hypothesis anew

.PHONY: help test optimize paper lint doctor sample-report clean

help: ## List the targets.
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 16

optimize: compiler $(STAMP) ## Write the missing, failing and slow kernels of the suites.
	$(BIN)/python -m pytest suites --kevolve-optimize --kevolve-target $(TARGET) $(ARGS)

paper: compiler $(STAMP) ## The paper's workloads: write, check and time their kernels (TARGET=cuda where there is a GPU).
	$(BIN)/python -m pytest suites/paper --kevolve-optimize --kevolve-target $(TARGET) --kevolve-record reports/paper-$(TARGET).json $(ARGS)

test: compiler lint ## Lint, types, import layers and the tests.
	$(BIN)/python -m pytest tests -n2 --dist worksteal --kevolve-target $(TARGET) $(ARGS)

lint: $(STAMP) ## ruff, mypy --strict and the import layers.
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy --strict kevolve
	$(BIN)/lint-imports

doctor: $(STAMP) ## What this machine can do.
	$(BIN)/kevolve doctor $(ARGS)

sample-report: $(STAMP) ## Write reports/sample.html from the records beside it; pictures need a Chromium.
	$(BIN)/kevolve report reports/h200.json reports/cpu.json --out reports/sample.html
	$(BIN)/python -m benchmarks.page_pictures reports/sample.html

clean: ## Remove the environment, the store and every cache.
	rm -rf $(VENV) .kevolve .pytest_cache .mypy_cache .ruff_cache .import_linter_cache .hypothesis .benchmarks dist build
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

.PHONY: compiler
compiler:
	@if [ -z "$(CXX_FOUND)" ]; then \
	  echo "kevolve: no C++ compiler: expected g++ or clang++ on the path" >&2; \
	  echo "  Debian, Ubuntu: sudo apt-get install g++    Fedora: sudo dnf install gcc-c++" >&2; exit 1; fi

# Made anew when what is installed would differ; an interrupted installation leaves no stamp.
$(STAMP): pyproject.toml constraints.txt
	@found=""; for candidate in $(PYTHON) $(if $(PYTHON),,python3 python3.13 python3.12 python3.11 python); do \
	  if "$$candidate" -c 'import sys, venv, ensurepip; sys.exit(sys.version_info < (3, 11))' >/dev/null 2>&1; then found="$$candidate"; break; fi; done; \
	if [ -z "$$found" ]; then \
	  echo "kevolve: no Python 3.11 or later with venv: tried $(if $(PYTHON),$(PYTHON),python3 python3.13 python3.12 python3.11 python)" >&2; \
	  echo "  Debian, Ubuntu: sudo apt-get install python3 python3-venv    Fedora: sudo dnf install python3" >&2; exit 1; fi; \
	rm -f $(STAMP); "$$found" -m venv --clear $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt --editable '.[dev]'
	@$(BIN)/python -m pip freeze --exclude-editable > $(STAMP)
