# Each target sets up what it needs in .venv and may be run again at any time.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed
# A process for each processor, with one thread; `make test PYTEST_ARGS=` runs all tests in one process.
PYTEST_ARGS ?= -n auto --maxprocesses 8 --dist loadgroup

.PHONY: demo test test-all lint types check clean

$(STAMP): pyproject.toml
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --upgrade "pip>=24"
	$(BIN)/python -m pip install --quiet --editable ".[dev]"
	touch $@

demo: $(STAMP)
	$(BIN)/diffcore demo

test: $(STAMP)
	$(BIN)/python -m pytest -m "not slow" $(PYTEST_ARGS)

test-all: $(STAMP)
	$(BIN)/python -m pytest $(PYTEST_ARGS)

lint: $(STAMP)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

# benchmarks/ is imported from below diffcore_gpu, and mypy looks at folders: it is shown it there.
types: $(STAMP)
	rm -rf $(VENV)/types && mkdir -p $(VENV)/types/diffcore_gpu
	ln -s $(CURDIR)/diffcore_gpu/* $(CURDIR)/benchmarks $(VENV)/types/diffcore_gpu
	cd $(VENV)/types && ../bin/mypy --config-file $(CURDIR)/pyproject.toml -p diffcore_gpu
	$(BIN)/mypy examples

check: lint types test

clean:
	rm -rf $(VENV) build dist *.egg-info demo-output
