# make demo, make test: everything else follows from them. Needs Python 3.11 to 3.13 and nothing else.
VENV := .venv
BIN := $(VENV)/bin
ARGS ?=
PARTS ?=

# The first Python that TensorFlow has wheels for and that can make a virtual environment.
SUITABLE := import sys, venv, ensurepip; sys.exit(not (3, 11) <= sys.version_info[:2] <= (3, 13))
PYTHON ?= $(shell for python in python3 python3.13 python3.12 python3.11 python; do \
	if $$python -c '$(SUITABLE)' >/dev/null 2>&1; then echo $$python; break; fi; done)

# Test processes at a time; each has servers of its own, and waits for them now and then.
JOBS ?= 3
# Full-size networks want the cores for themselves.
LONG_JOBS ?= 2
AUDITED := catalog shop_similarity training workers manage.py .ci
# Threads of OpenBLAS spin while they wait, which takes several times as long as the small matrices of most tests.
BLAS_THREADS ?= 1
PYTEST = $(BIN)/python -m pytest --dist loadfile --no-loadscope-reorder

.PHONY: help setup demo test test-long test-all chaos bench lint audit docs reference dist clean

help:
	@echo 'make demo       start the reference shop (ARGS="--folder FOLDER --port 8000": see python manage.py demo --help)'
	@echo 'make test       run the tests (ARGS="tests/workers", ARGS="-k widget", JOBS=1)'
	@echo 'make test-long  run the tests that take long: loads, kills again and again, full-size networks, real weights'
	@echo 'make test-all   run both'
	@echo 'make chaos      kill workers and servers in the middle of random histories (ARGS="--actions 200 --seed 7")'
	@echo 'make bench      measure, and write docs/benchmarks.md (PARTS="search save", ARGS="--folder FOLDER"; hours, 15 GB of disk)'
	@echo 'make lint       check the style, the types, and that the rooms of the house are kept apart'
	@echo 'make audit      look for dangerous code and for known vulnerabilities in what is installed'
	@echo 'make docs       build the documentation as a site, in build/docs'
	@echo 'make reference  write the pages below docs/reference anew from the code'
	@echo 'make dist       build the wheel and the source archive, in dist, and look at them'
	@echo 'make setup      make $(VENV) and install what the shop needs'
	@echo 'make clean      stop the servers and delete $(VENV) and .data, the data of the shop included'

setup: $(VENV)/installed

demo: $(VENV)/installed
	@$(BIN)/python manage.py demo $(ARGS)

test: $(VENV)/installed-dev
	OPENBLAS_NUM_THREADS=$(BLAS_THREADS) $(PYTEST) -n $(JOBS) -m "not long" $(ARGS)

test-long: $(VENV)/installed-dev
	$(PYTEST) -n $(LONG_JOBS) -m long $(ARGS)

# In one run: each file is collected and its servers are started once, and the short tests fill what the long ones leave.
test-all: $(VENV)/installed-dev
	OPENBLAS_NUM_THREADS=$(BLAS_THREADS) $(PYTEST) -n $(JOBS) $(ARGS)

chaos: $(VENV)/installed-dev
	@$(BIN)/python -m tests.chaos $(ARGS)

bench: $(VENV)/installed-bench
	@$(BIN)/python -m bench $(PARTS) $(ARGS)

lint: $(VENV)/installed-dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/lint-imports
	$(BIN)/mypy --cache-dir .mypy_cache

audit: $(VENV)/installed-dev
	$(BIN)/bandit --quiet --configfile pyproject.toml --recursive $(AUDITED)
	@$(BIN)/python .ci/audit.py

docs: $(VENV)/installed-dev
	$(BIN)/python -m sphinx -W --keep-going -n -q -d build/docs-trees docs build/docs
	@echo 'build/docs/index.html'

reference: $(VENV)/installed-dev
	$(BIN)/python -m docs.reference_pages

dist: $(VENV)/installed-dev
	rm -rf build/lib dist *.egg-info
	$(BIN)/python -m build
	$(BIN)/python -m twine check --strict dist/*
	$(BIN)/check-wheel-contents dist/*.whl

clean:
	@if [ -x $(BIN)/python ] && [ -d .data ]; then $(BIN)/python manage.py services delete; fi
	rm -rf $(VENV) .data .pytest_cache .ruff_cache .import_linter_cache .mypy_cache test-results
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

$(VENV)/installed: requirements.txt | $(BIN)/python
	$(BIN)/python -m pip install --disable-pip-version-check -r requirements.txt
	@touch $@

$(VENV)/installed-dev: requirements-dev.txt requirements-docs.txt requirements-encoders.txt $(VENV)/installed
	$(BIN)/python -m pip install --disable-pip-version-check -r requirements-dev.txt
	$(BIN)/python -m pip install --disable-pip-version-check --no-deps -r requirements-encoders.txt
	@touch $@

$(VENV)/installed-bench: requirements-bench.txt $(VENV)/installed-dev
	$(BIN)/python -m pip install --disable-pip-version-check -r requirements-bench.txt
	@touch $@

$(BIN)/python:
	@if [ -z "$(PYTHON)" ]; then \
		echo "shop-similarity needs Python 3.11, 3.12 or 3.13 with venv, and found none:" >&2; \
		for python in python3 python3.13 python3.12 python3.11 python; do \
			if command -v $$python >/dev/null 2>&1; then \
				echo "  $$python is `$$python --version 2>&1 | head -n 1`" >&2; \
			fi; \
		done; \
		echo "Install one (Debian, Ubuntu: apt install python3 python3-venv; macOS: brew install python@3.13)" >&2; \
		echo "or name one: make PYTHON=/path/to/python3.13 ..." >&2; \
		exit 1; \
	fi
	$(PYTHON) -m venv --clear $(VENV)
