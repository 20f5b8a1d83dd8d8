# Two commands do everything on a fresh machine: `make demo` and `make test`.

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/installed

.PHONY: demo test check bench parts clean

demo: $(STAMP)
	$(BIN)/sightline demo

test: $(STAMP) check
	OMP_NUM_THREADS=1 MKL_NUM_THREADS=1 HF_HUB_OFFLINE=1 $(BIN)/python -m pytest -n 2 --dist worksteal

check: $(STAMP)
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/mypy

# Speed and memory beside the field's trainers: tables, and JSON under runs/bench. Hours on two cores; leave them alone.
bench: $(STAMP)
	$(BIN)/pip install --quiet -c constraints.txt -e '.[bench]'
	$(BIN)/python -m benchmarks all

# The embedded parts anew, from nothing: about two hours, on one core each. The package brings both.
parts: $(STAMP)
	OMP_NUM_THREADS=1 $(BIN)/sightline parts language --output src/sightline/demo/parts/language & \
	OMP_NUM_THREADS=1 $(BIN)/sightline parts vision --output src/sightline/demo/parts/vision; wait

clean:
	rm -rf $(VENV) .mypy_cache .ruff_cache .pytest_cache

# torch first and by itself: where a CPU wheel is at hand pip takes it, and nothing later may replace it.
$(STAMP): pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(BIN)/pip install --quiet -c constraints.txt torch==2.13.0
	$(BIN)/pip install --quiet -c constraints.txt -e '.[dev]'
	touch $(STAMP)
