# `make demo` and `make test` need Python 3.11 or newer and nothing installed.
# Without a GPU, PyTorch's CPU wheels are much smaller: make demo TORCH_INDEX=<PyTorch's CPU wheel index>

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
TORCH_INDEX ?=
PIP := $(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt
TORCH = $(if $(TORCH_INDEX),$(PIP) --index-url $(TORCH_INDEX) torch,true)

.PHONY: demo test test-slow bench screenshots reference docs lint fmt clean

demo: $(VENV)/.installed
	$(BIN)/memprobe demo

test: $(VENV)/.dev
	$(BIN)/python -m pytest -n auto --dist loadfile

test-slow: $(VENV)/.dev
	$(BIN)/python -m pytest -m slow

bench: $(VENV)/.dev
	$(BIN)/python -m pytest -m benchmark -s

screenshots: $(VENV)/.dev
	$(BIN)/python tests/screenshots.py

# Rewrites the parts of the pages that are generated from the code.
reference: $(VENV)/.dev
	$(BIN)/python tests/reference_pages.py

# The site is build/docs/index.html; every warning, such as a broken link, is an error.
docs: reference $(VENV)/.docs
	$(BIN)/python -m sphinx -E -q -n -W --keep-going docs build/docs

lint: $(VENV)/.dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

fmt: $(VENV)/.dev
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

clean:
	rm -rf $(VENV) build dist .mypy_cache .ruff_cache .pytest_cache

$(VENV)/bin/python:
	$(PYTHON) -c 'import sys; sys.exit("memprobe needs Python 3.11 or newer" if sys.version_info < (3, 11) else 0)'
	$(PYTHON) -m venv $(VENV)

$(VENV)/.installed: $(VENV)/bin/python pyproject.toml constraints.txt
	$(TORCH)
	$(PIP) -e .
	touch $@

$(VENV)/.dev: $(VENV)/.installed
	$(PIP) -e '.[dev]'
	touch $@

$(VENV)/.docs: $(VENV)/.dev
	$(PIP) -e '.[docs]'
	touch $@
