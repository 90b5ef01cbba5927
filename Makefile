# One command for each chore. `make demo` and `make test` need only Python 3.11+ and make.

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
READY := $(VENV)/.ready
WORKERS ?= 2

.PHONY: demo test test-browser test-gpu docs lint types contracts unit format bench bench-detection bench-resources bench-registry calibrate clean help

help:
	@echo "make demo       train, fail, diagnose: the main job on real data"
	@echo "make test       lint, types, import contracts and every test"
	@echo "make test-browser   report and documentation in Chromium, from disk and in MLflow; installs it when needed (Debian)"
	@echo "make docs       the documentation site, under build/site; warnings are errors"
	@echo "make unit       the tests that load no framework, in seconds"
	@echo "make test-gpu   the tests that need an NVIDIA GPU"
	@echo "make format     format and fix the code"
	@echo "make bench      overhead benchmark, table under benchmarks/results/"
	@echo "make bench-detection   failing and healthy programs: what is found, and what is alarmed on for nothing"
	@echo "make bench-resources   what sampling memory, CPU, disk and GPU costs"
	@echo "make bench-registry    how long the registry takes over 10,000 runs"
	@echo "make calibrate  fit the thresholds of the curve detectors again, and show their figures"
	@echo "make clean      remove the environment and caches"

# Made again only when the dependencies change. The stamp is written last, so an aborted install is tried again.
$(READY): pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { echo "failguard needs Python 3.11 or newer; set PYTHON=/path/to/python3.11" >&2; exit 2; }
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --upgrade 'pip>=25.1'
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --group dev --editable '.[all]'
	@touch $(READY)

demo: $(READY)
	$(BIN)/failguard demo

test: lint types contracts
	$(BIN)/python -m pytest -n $(WORKERS) --dist loadfile -m "not browser"

test-browser: $(READY)
	scripts/install_browser.sh
	$(BIN)/python -m pytest -m browser tests/browser

docs: $(READY)
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build

lint: $(READY)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

types: $(READY)
	$(BIN)/mypy

contracts: $(READY)
	$(BIN)/lint-imports

unit: $(READY)
	$(BIN)/python -m pytest -m "not framework and not slow and not browser"

test-gpu: $(READY)
	FAILGUARD_TEST_GPU=1 CUDA_VISIBLE_DEVICES=$${CUDA_VISIBLE_DEVICES:-0} $(BIN)/python -m pytest tests/gpu -m gpu

format: $(READY)
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

bench: $(READY)
	$(BIN)/python benchmarks/overhead.py

bench-detection: $(READY)
	$(BIN)/python -m benchmarks.detection --workers $(WORKERS) $(ARGS)

bench-resources: $(READY)
	$(BIN)/python benchmarks/resources.py

bench-registry: $(READY)
	$(BIN)/python benchmarks/registry.py

calibrate: $(READY)
	$(BIN)/python -m benchmarks.detection.curves $(ARGS)

clean:
	rm -rf $(VENV) .mypy_cache .ruff_cache .pytest_cache .import_linter_cache .hypothesis dist build
