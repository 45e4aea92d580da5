# Two commands to start with: `make demo` and `make test`. Each makes .venv if it is not there.

PYTHON ?= $(shell command -v python3.11 || command -v python3)
VENV   := .venv
BIN    := $(VENV)/bin
PIP    := $(BIN)/pip install --quiet --disable-pip-version-check --constraint constraints.txt
EXTRAS := test,arrow,tune,index,serve,sql,urls,export,test-serve

.PHONY: help demo test test-all test-browser test-lenskit check format resolve bench figures docs screenshots transcript peers fuzz drill sbom \
        hashes torchrec clean

help:
	@echo "make demo      train on ratings of restaurants: scores, lists, a reason; then the page (DEMO=ml-100k: on films)"
	@echo "make test      the quick tests, under 5 minutes on two cores"
	@echo "make test-all  every test, the slow ones too"
	@echo "make test-browser  the page in a real Chromium (apt-get install chromium)"
	@echo "make test-lenskit  the scorers for LensKit, in .venv-lenskit: LensKit needs pandas 2"
	@echo "make resolve   whether all dependencies can be installed on Python 3.12 and 3.13; installs nothing"
	@echo "make check     ruff, pyright, layers and import circles, sizes of modules and classes, spelling and words"
	@echo "make format    let ruff format and fix"
	@echo "make bench     the benchmarks, against the peers: half an hour (BENCH=--quick: some minutes)"
	@echo "make fuzz MINUTES=60  tables, model folders and requests that nobody thought of; a report in build/fuzz.json"
	@echo "make drill     train, serve, post, kill, recover, update and forget on MovieLens 100K"
	@echo "make sbom      what the package is made of and under which licences: build/sbom.json (CycloneDX)"
	@echo "make torchrec  sharded tables compared with those of TorchRec, in .venv-torchrec (TORCHREC=--help: settings)"
	@echo "make hashes    versions with SHA-256 of what the service needs: constraints-hashed.txt"
	@echo "make screenshots  pictures of the page for the documents (apt-get install chromium)"
	@echo "make transcript  run what docs/own-files.md shows (DATA=a folder with filmtrust and restaurant, as downloaded)"
	@echo "make figures   write the results in docs/results/figures into README and the documents"
	@echo "make docs      build the documents into docs/_build/html; a warning is an error"
	@echo "make clean     remove .venv, caches and demo output"

$(BIN)/python:
	$(PYTHON) -m venv $(VENV)

# the package alone
$(VENV)/.installed: pyproject.toml constraints.txt | $(BIN)/python
	$(PIP) --editable .
	@touch $@

$(VENV)/.installed-test: $(VENV)/.installed
	$(PIP) --editable '.[$(EXTRAS)]'
	@touch $@

$(VENV)/.installed-check: $(VENV)/.installed-test
	$(PIP) --editable '.[check]'
	@touch $@

$(VENV)/.installed-docs: $(VENV)/.installed
	$(PIP) --editable '.[docs]'
	@touch $@

$(VENV)/.installed-peers: $(VENV)/.installed-test
	$(PIP) --editable '.[peers]' || echo "the peers did not install; the benchmarks run without them"
	@touch $@

# the page, which the demo leads to
$(VENV)/.installed-serve: $(VENV)/.installed
	$(PIP) --editable '.[serve]'
	@touch $@

demo: $(VENV)/.installed-serve
	$(BIN)/aanmf demo $(DEMO)

test: $(VENV)/.installed-test
	OMP_NUM_THREADS=1 $(BIN)/pytest -q -n 2 -m "not slow and not browser" $(TESTS)

test-all: $(VENV)/.installed-test
	OMP_NUM_THREADS=1 $(BIN)/pytest -q -n 2 -m "not browser" $(TESTS)

# Debian's chromium: apt-get install chromium
test-browser: $(VENV)/.installed-test
	OMP_NUM_THREADS=1 $(BIN)/pytest -q -m browser tests/serving/test_browser.py

# without constraints: LensKit needs older versions of some packages
test-lenskit:
	test -d .venv-lenskit || $(PYTHON) -m venv .venv-lenskit
	.venv-lenskit/bin/pip install --quiet --disable-pip-version-check --editable '.[lenskit]' \
		pytest pytest-timeout hypothesis $$(grep ^torch== constraints.txt)
	OMP_NUM_THREADS=1 .venv-lenskit/bin/pytest -q -m "not slow and not eval" tests/test_lenskit.py tests/data/test_lenskit.py

resolve: $(VENV)/.installed
	for version in 3.12 3.13; do \
		$(PIP) --dry-run --ignore-installed --python-version $$version --only-binary=:all: --target build/resolved \
			'.[$(EXTRAS)]' || exit 1; echo "Python $$version: all dependencies have wheels"; done

check: $(VENV)/.installed-check
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/pyright
	$(BIN)/lint-imports
	$(BIN)/hadolint Dockerfile
	$(BIN)/codespell
	$(BIN)/python docs/check_words.py
	$(BIN)/pytest -q tests/test_house.py

format: $(VENV)/.installed-check
	$(BIN)/ruff check --fix-only .
	$(BIN)/ruff format .

peers: $(VENV)/.installed-peers

bench: $(VENV)/.installed-peers
	$(BIN)/python benchmarks/run_all.py $(BENCH)

fuzz: $(VENV)/.installed-test
	OMP_NUM_THREADS=1 $(BIN)/python benchmarks/fuzz.py --minutes $(or $(MINUTES),60) --json build/fuzz.json

drill: $(VENV)/.installed-test
	OMP_NUM_THREADS=1 $(BIN)/python benchmarks/drill.py --json build/drill.json

# of the package and its extras, from an environment of its own
sbom: | $(BIN)/python
	test -d .venv-sbom || $(PYTHON) -m venv .venv-sbom
	.venv-sbom/bin/pip install --quiet --disable-pip-version-check cyclonedx-bom
	rm -rf build/sbom-venv && $(PYTHON) -m venv build/sbom-venv
	build/sbom-venv/bin/pip install --quiet --disable-pip-version-check --constraint constraints.txt '.[serve,sql,arrow,export]'
	.venv-sbom/bin/cyclonedx-py environment --pyproject pyproject.toml --output-reproducible --of JSON -o build/sbom.json \
		build/sbom-venv/bin/python

hashes: $(VENV)/.installed
	mkdir -p build && $(PIP) --dry-run --ignore-installed --only-binary=:all: --report build/report.json '.[serve,sql]'
	$(BIN)/python benchmarks/hashes.py build/report.json

# with --no-deps: TorchRec names a package for CUDA
torchrec:
	test -d .venv-torchrec || $(PYTHON) -m venv .venv-torchrec
	.venv-torchrec/bin/pip install --quiet --disable-pip-version-check --constraint constraints.txt --editable .
	.venv-torchrec/bin/pip install --quiet --disable-pip-version-check --no-deps --requirement constraints-torchrec.txt
	.venv-torchrec/bin/python benchmarks/sharded_tables.py $(TORCHREC)

screenshots: $(VENV)/.installed-test
	$(BIN)/python docs/screenshots.py $(SCREENSHOTS)

transcript: $(VENV)/.installed-test
	$(BIN)/python docs/transcript.py $(DATA)

figures: $(VENV)/.installed
	$(BIN)/python benchmarks/figures.py

docs: $(VENV)/.installed-docs
	$(BIN)/sphinx-build -q -W --keep-going -b html docs docs/_build/html

clean:
	rm -rf $(VENV) .venv-lenskit .venv-sbom .venv-torchrec build dist .pytest_cache .ruff_cache .import_linter_cache aanmf-demo docs/_build src/*.egg-info
