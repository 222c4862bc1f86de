# make demo   sets everything up and runs the main job on the shipped demo sample
# make test   sets everything up and passes the tests, with lint, types and documentation
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
OUTPUT ?= output/demo
READY := $(VENV)/.ready
READY_TEST := $(VENV)/.ready-test

.PHONY: demo test setup setup-test lint types unit docs bench clean

demo: setup
	$(BIN)/python run_analysis.py run --fileset demo --output $(OUTPUT)

test: lint types docs unit

setup: $(READY)
setup-test: $(READY_TEST)

$(READY): pyproject.toml constraints.txt
	$(PYTHON) -c 'import sys; sys.exit("Python 3.11-3.13 is needed: make PYTHON=python3.11") if not (3, 11) <= sys.version_info < (3, 14) else 0'
	$(PYTHON) -m venv $(VENV)
	$(BIN)/pip install --quiet --disable-pip-version-check -c constraints.txt -e .
	touch $@

$(READY_TEST): $(READY)
	$(BIN)/pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[test]'
	touch $@

lint: setup-test
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/codespell

types: setup-test
	$(BIN)/mypy

unit: setup-test
	$(BIN)/pytest -n 2 --dist loadgroup
	KERAS_BACKEND=jax $(BIN)/pytest -n 2 --dist loadgroup -m "not neutral" tests/models

docs: setup-test
	TF_CPP_MIN_LOG_LEVEL=3 $(BIN)/sphinx-build --fail-on-warning --keep-going --quiet -b html docs output/docs

bench: setup-test
	for script in throughput scoring training scale scheduler startup growth; do $(BIN)/python benchmarks/$$script.py || exit 1; done

clean:
	rm -rf $(VENV) output .mypy_cache .ruff_cache .pytest_cache
