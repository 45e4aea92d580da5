# Two commands to start with: `make demo` and `make test`. Each makes .venv if it is not there.

PYTHON ?= $(shell command -v python3.11 || command -v python3)
VENV   := .venv
BIN    := $(VENV)/bin
PIP    := $(BIN)/pip install --quiet --disable-pip-version-check --constraint constraints.txt
TEST_EXTRAS := test,arrow,tune,report

.PHONY: help demo test test-all check format bench peers clean

help:
	@echo "make demo      train on MovieLens 100K (or the synthetic set), show figures, heat map, recommendations"
	@echo "make test      the quick tests, under 5 minutes on two cores"
	@echo "make test-all  every test, the slow ones too"
	@echo "make check     ruff, pyright, import-linter"
	@echo "make format    let ruff format and fix"
	@echo "make bench     the benchmarks, against the peers"
	@echo "make clean     remove .venv, caches and demo output"

$(BIN)/python:
	$(PYTHON) -m venv $(VENV)

# the package alone
$(VENV)/.installed: pyproject.toml constraints.txt | $(BIN)/python
	$(PIP) --editable .
	@touch $@

$(VENV)/.installed-test: $(VENV)/.installed
	$(PIP) --editable '.[$(TEST_EXTRAS)]'
	@touch $@

$(VENV)/.installed-check: $(VENV)/.installed-test
	$(PIP) --editable '.[check]'
	@touch $@

$(VENV)/.installed-peers: $(VENV)/.installed-test
	$(PIP) --editable '.[peers]' || echo "the peers did not install; the benchmarks run without them"
	@touch $@

demo: $(VENV)/.installed
	$(BIN)/aanmf demo $(DEMO)

test: $(VENV)/.installed-test
	OMP_NUM_THREADS=1 $(BIN)/pytest -q -n 2 -m "not slow" $(TESTS)

test-all: $(VENV)/.installed-test
	OMP_NUM_THREADS=1 $(BIN)/pytest -q -n 2 $(TESTS)

check: $(VENV)/.installed-check
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/pyright
	$(BIN)/lint-imports

format: $(VENV)/.installed-check
	$(BIN)/ruff check --fix-only .
	$(BIN)/ruff format .

peers: $(VENV)/.installed-peers

bench: $(VENV)/.installed-peers
	$(BIN)/python benchmarks/epoch.py

clean:
	rm -rf $(VENV) build dist .pytest_cache .ruff_cache .import_linter_cache aanmf-demo src/*.egg-info
