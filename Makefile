# Two commands do everything on a fresh machine: `make demo` and `make test`.
PYTHON ?= python3.11
VENV ?= .venv
READY := $(VENV)/.ready
RUN := $(VENV)/bin/python

.PHONY: demo test check install clean

demo: $(READY)
	$(RUN) cli.py demo

test: $(READY)
	scripts/check $(VENV)/bin

install: $(READY)

# Only the dependencies stay: the code that runs is the checkout's, whichever one that is.
$(READY): pyproject.toml
	command -v $(PYTHON) >/dev/null || { echo "radfuse needs Python 3.11 or newer: make PYTHON=/path/to/python"; exit 1; }
	$(PYTHON) -m venv $(VENV)
	$(VENV)/bin/pip install --quiet --upgrade pip
	$(VENV)/bin/pip install --quiet '.[dev]'
	$(VENV)/bin/pip uninstall --quiet --yes radfuse
	touch $(READY)

clean:
	rm -rf $(VENV) runs .mypy_cache .ruff_cache .pytest_cache build *.egg-info
