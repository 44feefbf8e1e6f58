# Each target sets up what it needs in .venv and may be run again at any time.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed
# A process for each processor, with one thread; `make test PYTEST_ARGS=` runs all tests in one process.
PYTEST_ARGS ?= -n auto --maxprocesses 8

.PHONY: demo test test-all test-ptx torture lint types rehearsal docs docs-links check clean

# What $(PYTHON) lacks to make a .venv, in a sentence. (Debian keeps ensurepip, by which venv installs pip, in a package of
# its own.)
define CHECK
import sys
if sys.version_info < (3, 11):
    sys.exit("diffcore-gpu needs Python 3.11 or newer, and $(PYTHON) is %d.%d: make PYTHON=python3.11" % sys.version_info[:2])
try:
    import ensurepip, venv
except ImportError:
    sys.exit("$(PYTHON) cannot make virtual environments: install its package, as with apt install python3-venv")
endef
export CHECK

$(STAMP): pyproject.toml setup.py
	@command -v "$(PYTHON)" >/dev/null || \
		{ echo "There is no $(PYTHON): name a Python 3.11 or newer, as in make PYTHON=python3.11" >&2; exit 1; }
	@test -x $(BIN)/pip || "$(PYTHON)" -c "$$CHECK"
	@echo "Installing into $(VENV), once: about 5 GB with torch's CUDA build, some minutes …"
	@test -x $(BIN)/pip || "$(PYTHON)" -m venv $(VENV)
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --upgrade "pip>=24"
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable ".[dev]"
	@touch $@

demo: $(STAMP)
	@echo "Running the demo …"
	@$(BIN)/diffcore demo

test: $(STAMP)
	@echo "Running the tests, without those that take minutes (make test-all) …"
	@$(BIN)/python -m pytest -m "not slow and not torture" $(PYTEST_ARGS)

test-all: $(STAMP)
	@echo "Running all tests but those of make torture …"
	@$(BIN)/python -m pytest -m "not torture" $(PYTEST_ARGS)

# Stores under faults: every call that changes the disk fails or kills the process, the power is cut after every call, files
# are damaged, changed in use and fuzzed. Prints what was tried; TORTURE_RESULTS=FOLDER keeps the counts elsewhere.
TORTURE_RESULTS ?= $(VENV)/torture
torture: $(STAMP)
	@echo "Torturing stores, for some minutes …"
	rm -rf $(TORTURE_RESULTS)
	TORTURE_RESULTS=$(TORTURE_RESULTS) $(BIN)/python -m pytest -m "torture or torture_quick" $(PYTEST_ARGS) tests/torture
	$(BIN)/python docs/make_reliability.py --from $(TORTURE_RESULTS) --print

# The compiled kernels, run without a GPU, for four targets, of two of them with the warps of a block apart. All tests run
# for sm_90; for the others those of fixed settings, and of the shapes that a test names the first two.
PTX_TESTS := tests/kernels/test_mix.py tests/kernels/test_crop_mix.py tests/kernels/test_resized_crop.py \
	tests/ptx/test_traffic.py
PTX_FEWER := -m "not hypothesis" -k "not shape2 and not shape3 and not shape4"
test-ptx: $(STAMP)
	@echo "Running the kernel tests on emulated PTX …"
	PTX_TARGET=sm_90 PTX_APART=1 $(BIN)/python -m pytest -p tests.ptx.plugin $(PYTEST_ARGS) $(PTX_TESTS) \
		tests/ptx/test_coverage.py
	set -e; for run in sm_75:1 sm_80:0 sm_100:0; do \
		PTX_TARGET=$${run%:*} PTX_APART=$${run#*:} $(BIN)/python -m pytest -p tests.ptx.plugin $(PYTEST_ARGS) \
			$(PTX_TESTS) $(PTX_FEWER); \
	done
	PTX_TARGET=sm_90 $(BIN)/python -m pytest -p tests.ptx.plugin $(PYTEST_ARGS) tests/ptx/test_mutation.py

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

# The site, from nothing: every warning is an error, the tutorial is run, and no page may link to what is not there.
SITE := docs/_build
docs: $(STAMP)
	@echo "Building the site, with the tutorial run …"
	rm -rf $(SITE)
	$(BIN)/python -m sphinx -b html -W --keep-going -n -q docs $(SITE)/html
	$(BIN)/python docs/check_site.py $(SITE)/html

# Links that lead elsewhere, which needs a network.
docs-links: $(STAMP)
	$(BIN)/python -m sphinx -b linkcheck -D nb_execution_mode=off -q docs $(SITE)/links

check: lint types rehearsal docs test

clean:
	rm -rf $(VENV) build dist *.egg-info demo-output $(SITE)
