# Every target works on a fresh clone: it makes .venv and installs what it needs. Python >= 3.11, make, a C++ compiler.
PYTHON ?= python3
VENV   := .venv
BIN    := $(VENV)/bin
STAMP  := $(VENV)/installed
# A file's tests stay together, on one of as many processes as there are cores: they share what was made for the first.
TOGETHER := --numprocesses auto --maxprocesses 4 --dist loadfile

.PHONY: install quickstart test test-all test-cluster check format bench bench-train bench-data bench-eval bench-align schema clean

install: $(STAMP)

# torch first and alone: an unpinned one would bring several gigabytes of CUDA. DeepSpeed builds from its source
# archive against the installed torch; its shared-memory op is compiled now, or the first start of ranks would wait for it.
$(STAMP): pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(BIN)/pip install --quiet --upgrade pip setuptools wheel ninja
	$(BIN)/pip install --quiet --constraint constraints.txt torch
	DS_BUILD_OPS=0 $(BIN)/pip install --quiet --constraint constraints.txt --no-build-isolation deepspeed
	$(BIN)/pip install --quiet --constraint constraints.txt --editable ".[dev]"
	DS_ACCELERATOR=cpu PATH="$(CURDIR)/$(BIN):$$PATH" $(BIN)/python -c "from deepspeed.accelerator import get_accelerator as a; a().create_op_builder('ShareMemCommBuilder').load()" >/dev/null
	touch $(STAMP)

quickstart: $(STAMP)
	$(BIN)/residency run recipes/quickstart.yaml

test: $(STAMP)
	$(BIN)/python -m pytest -q $(TOGETHER)

test-all: $(STAMP)
	$(BIN)/python -m pytest -q $(TOGETHER) -m "not cluster" --durations=25

test-cluster: $(STAMP)
	bash tests/cluster/install.sh
	$(BIN)/python -m pytest -q -m cluster

check: $(STAMP)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/python -m pytest -q tests/test_layout.py tests/test_docs.py tests/recipes/test_shipped.py

format: $(STAMP)
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

bench: bench-train bench-data bench-eval bench-align

bench-train: $(STAMP)
	$(BIN)/python tests/bench/train.py
	$(BIN)/python tests/bench/table.py

# RESIDENCY_MIRROR names the directory with the data sets.
bench-data: $(STAMP)
	for subject in tokens packing mixture quality duplicates decontamination rank phi scale; do \
		$(BIN)/python -m tests.bench.data_$$subject || exit 1; \
	done
	$(BIN)/python tests/bench/table.py

bench-eval: $(STAMP)
	for subject in speed simulation compare; do \
		$(BIN)/python -m tests.bench.eval_$$subject || exit 1; \
	done
	$(BIN)/python tests/bench/table.py

bench-align: $(STAMP)
	for script in tests/bench/align_*.py; do \
		$(BIN)/python -m tests.bench.$$(basename $$script .py) || exit 1; \
	done
	$(BIN)/python tests/bench/table.py

schema: $(STAMP)
	$(BIN)/residency schema > docs/recipe.schema.json
	$(BIN)/python -m residency.recipes.corpora > docs/corpora.schema.json

clean:
	rm -rf $(VENV) build dist src/*.egg-info .mypy_cache .ruff_cache .pytest_cache
