# Each target sets up what it needs in .venv and may be run again at any time.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed

.PHONY: demo test test-all lint types rehearsal check clean

$(STAMP): pyproject.toml
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --upgrade "pip>=24"
	$(BIN)/python -m pip install --quiet --editable ".[dev]"
	touch $@

demo: $(STAMP)
	$(BIN)/diffcore demo

test: $(STAMP)
	$(BIN)/python -m pytest -m "not slow"

test-all: $(STAMP)
	$(BIN)/python -m pytest

lint: $(STAMP)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

# benchmarks/ is imported from below diffcore_gpu, and mypy looks at folders: it is shown it there.
types: $(STAMP)
	rm -rf $(VENV)/types && mkdir -p $(VENV)/types/diffcore_gpu
	ln -s $(CURDIR)/diffcore_gpu/* $(CURDIR)/benchmarks $(VENV)/types/diffcore_gpu
	cd $(VENV)/types && ../bin/mypy --config-file $(CURDIR)/pyproject.toml -p diffcore_gpu
	$(BIN)/mypy examples

# What benchmarks/on_gpu.sh does on a GPU, at toy size and, where that is allowed, without a network.
rehearsal: $(STAMP)
	rm -rf $(VENV)/rehearsal
	alone=; for try in "unshare -n" "unshare -rn"; do $$try true 2>/dev/null && { alone=$$try; break; }; done; \
	export DEVICE=cpu PYTHON=$(BIN)/python LIMIT_PERCENT=300; \
	$$alone bash benchmarks/on_gpu.sh $(VENV)/rehearsal && $$alone bash benchmarks/on_gpu.sh --more $(VENV)/rehearsal

check: lint types rehearsal test

clean:
	rm -rf $(VENV) build dist *.egg-info demo-output
