# The two commands a new user needs: `make demo` and `make test`. Both create .venv on first use.
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
TEST_WORKERS ?= auto
# Waiting OpenMP threads sleep instead of spinning, as the robot-rl command has it.
export OMP_WAIT_POLICY ?= PASSIVE

.PHONY: demo test lint format hooks env clean

demo: env
	$(BIN)/robot-rl demo

test: env
	$(BIN)/python -m pytest -n $(TEST_WORKERS) --dist worksteal

lint: env
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

format: env
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

hooks: env
	$(BIN)/pre-commit install

env: $(VENV)/.complete

# torch first and by itself, so that its own choice of CUDA packages is kept; then the lock, exactly and nothing else.
$(VENV)/.complete: requirements.lock requirements.txt requirements-dev.txt setup.py
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
		{ echo "robot-rl needs Python 3.11 or newer; $(PYTHON) is $$($(PYTHON) --version). Try: make $(MAKECMDGOALS) PYTHON=python3.11"; exit 1; }
	@$(PYTHON) -m venv $(VENV) || { echo "Cannot create $(VENV). On Debian and Ubuntu: apt install python3-venv"; exit 1; }
	$(BIN)/python -m pip install --quiet --disable-pip-version-check "setuptools<80" wheel
	$(BIN)/python -m pip install --quiet --disable-pip-version-check $$(grep -o '^torch==[0-9.]*' requirements.txt)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --requirement requirements.lock
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation --editable .
	@touch $@

clean:
	rm -rf $(VENV) build *.egg-info .mypy_cache .ruff_cache .pytest_cache .hypothesis
