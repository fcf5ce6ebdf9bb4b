# The targets that a user needs are `demo` and `test`; both set up everything they use.

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed
SOURCES := src lang runtime kernels tests examples docs

.PHONY: setup demo check fix test test-all soak bench docs clean

setup: $(STAMP)

$(STAMP): pyproject.toml constraints.txt
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check \
		--constraint constraints.txt --editable '.[dev]'
	touch $(STAMP)

demo: setup  ## Extract twenty tickets from e-mails, over ZeroMQ, with the embedded model.
	$(BIN)/python -m furcate models pull smollm2
	$(BIN)/python tests/e2e/demo.py

check: setup  ## Format, lint, types.
	$(BIN)/ruff format --check $(SOURCES)
	$(BIN)/ruff check $(SOURCES)
	$(BIN)/mypy
	$(BIN)/pyright --pythonpath $(BIN)/python

fix: setup
	$(BIN)/ruff format $(SOURCES)
	$(BIN)/ruff check --fix $(SOURCES)

test: setup  ## Unit, property and end-to-end tests; a few minutes on two cores.
	$(BIN)/python -m furcate models pull smollm2
	$(BIN)/python -m pytest -m 'not gpu and not exhaustive'

test-all: setup  ## Everything that needs no GPU.
	$(BIN)/python -m furcate models pull smollm2
	$(BIN)/python -m pytest -m 'not gpu' --timeout 900

soak: setup
	$(BIN)/python tests/bench/soak.py

# PEERS=1 or PEERS=vllm,openvino: with other engines in turn, set up in PEERS_DIR if they are not
# there; LLAMACPP=1 builds llama.cpp too. BENCH='--workload plain --draws 1': as run.py takes it.
bench: setup
	$(BIN)/python -m furcate models pull smollm2
	$(BIN)/python tests/bench/run.py $(if $(PEERS),--peers $(PEERS)) \
		$(if $(LLAMACPP),--llamacpp) $(if $(PEERS_DIR),--peers-folder $(PEERS_DIR)) $(BENCH)

docs: setup
	$(BIN)/python -m pytest tests/test_documentation.py

clean:
	rm -rf $(VENV) build dist src/*.egg-info .mypy_cache .ruff_cache .pytest_cache .hypothesis
