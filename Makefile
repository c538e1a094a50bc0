# make demo: synthesize speech, train, evaluate, write demo/report.html.  make test: run all checks.
PYTHON ?= python3
BIN := .venv/bin
READY := .venv/ready

.PHONY: demo test lint bench soak docs

demo: $(READY)
	$(BIN)/separative demo --out demo

test: lint
	OMP_NUM_THREADS=1 $(BIN)/pytest -q -n auto --dist loadfile --cov --cov-report=term:skip-covered

lint: $(READY)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

# PEER_PYTHON: Python of an environment with the peers (systems/README.md). Without it, they are skipped.
bench: $(READY)
	$(BIN)/python benchmarks/run.py $(if $(PEER_PYTHON),--peer-python $(PEER_PYTHON))

docs: $(READY)
	$(BIN)/pip install --quiet -c constraints.txt -e ".[docs]"
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --quiet

soak: $(READY)
	$(BIN)/pip install --quiet -c constraints.txt -e ".[fuzz]"
	$(BIN)/python benchmarks/soak.py

# Install torch first, on its own: then pip can take a CPU build if it finds one.
$(READY): pyproject.toml constraints.txt
	$(PYTHON) -m venv .venv
	$(BIN)/pip install --quiet -c constraints.txt torch
	$(BIN)/pip install --quiet -c constraints.txt -e ".[voices,rooms,quality,export,bulk,media,hub,tensorboard,serve,dev]"
	touch $@
