# Everything needs only Python 3.11 or later, git and make: the set-up is done by itself, once.
PYTHON ?= python3
BIN := .venv/bin

.PHONY: run test setup lint browser loop-peers clean

run: setup
	@$(BIN)/prefactory run recipes/laptop.yaml

# One process for each core; the real models in one of them, one after the other (tests/conftest.py).
test: setup browser lint
	@$(BIN)/python -m pytest -n logical --maxprocesses 4 --dist loadscope --no-loadscope-reorder

lint: setup
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check .
	@$(BIN)/mypy
	@$(BIN)/lint-imports

setup:
	@$(PYTHON) scripts/bootstrap.py

# A browser without a screen, in which the tests look at the pages that are made; nothing else needs it.
browser: setup
	@$(PYTHON) scripts/bootstrap.py --add browser

# What `python -m benchmarks.loops` compares the detector with; nothing else needs it.
loop-peers: setup
	@$(BIN)/uv pip install --quiet --python $(BIN)/python --group peers -c constraints/cpu.txt

clean:
	rm -rf .venv runs .mypy_cache .ruff_cache .pytest_cache
