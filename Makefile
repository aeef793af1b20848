# Two commands: `make demo` and `make test`. Everything goes into .venv beside this file.
PYTHON ?= python3
ifeq ($(OS),Windows_NT)
BIN := .venv/Scripts
else
BIN := .venv/bin
endif
PIP := $(BIN)/python -m pip install --disable-pip-version-check -q -c constraints.txt

.PHONY: demo test lint clean

demo: .venv/.demo
	$(BIN)/python Testing/Demo/demo.py --output demo-output

test: .venv/.test lint
	$(BIN)/python -m pytest

lint: .venv/.test
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

.venv/.made:
	$(PYTHON) -c "import sys; sys.exit(sys.version_info < (3, 11) and 'Python 3.11 or newer is needed: make PYTHON=python3.11')"
	$(PYTHON) -m venv .venv
	$(BIN)/python -c "open('.venv/.made', 'w').close()"

.venv/.demo: .venv/.made pyproject.toml constraints.txt
	$(PIP) -e .
	$(BIN)/python -c "open('.venv/.demo', 'w').close()"

.venv/.test: .venv/.made pyproject.toml constraints.txt
	$(PIP) -e ".[test]"
	$(BIN)/python -c "open('.venv/.demo', 'w').close(); open('.venv/.test', 'w').close()"

clean:
	rm -rf .venv build dist demo-output
