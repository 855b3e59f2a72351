# make demo | test | test-sae | test-slurm | check | wheel | clean.   PYTHON=/path/to/python3.12 make …  chooses Python.

.DEFAULT_GOAL := help
SHELL := /bin/bash
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/installed.stamp
SAE_STAMP := $(VENV)/sae.stamp
CLUSTER := tests/slurm/cluster.py

# The first interpreter that will do, asked rather than believed: a shim of that name may run nothing.
SUITS := import sys; sys.exit(not (3, 11) <= sys.version_info[:2] < (3, 14))
CANDIDATES := $(or $(PYTHON),python3 python3.13 python3.12 python3.11 python)
FIND_PYTHON = for p in $(CANDIDATES); do "$$p" -c '$(SUITS)' 2>/dev/null && echo "$$p" && break; done

.PHONY: help install demo test test-sae test-slurm slurm-up slurm-down check format wheel clean

help:
	@echo "make demo        install into $(VENV), run the main study, say where its page is"
	@echo "make test        install, run the tests"
	@echo "make test-sae    install, with the extra 'sae', run the tests that need sae-lens"
	@echo "make test-slurm  install, run those that need Slurm, on one of their own (Debian's packages, any user)"
	@echo "make slurm-up    start a private Slurm of one machine, and say what to source to use it"
	@echo "make slurm-down  cancel its jobs, stop it, remove its folder"
	@echo "make check       install, then lint, format, types, layers"
	@echo "make format      install, then mend what lint and format can"
	@echo "make wheel       build dist/*.whl"
	@echo "make clean       remove $(VENV), build output and caches; runs/ stays"

install: $(STAMP)

$(STAMP): pyproject.toml constraints.txt
	@python=$$($(FIND_PYTHON)); \
	if [ -z "$$python" ]; then \
		echo "error: no Python >=3.11,<3.14 among: $(CANDIDATES); install one, or name it: make PYTHON=/path/to/python3.12 …" >&2; exit 2; \
	fi; \
	echo "$(VENV): installing with $$("$$python" --version) (some minutes the first time)"; \
	$(BIN)/python -m pip --version >/dev/null 2>&1 || "$$python" -m venv --clear $(VENV) || \
		{ echo "error: $$python cannot make environments; on Debian: apt-get install python3-venv" >&2; exit 2; }
	@$(BIN)/python -m pip install -qq --disable-pip-version-check -c constraints.txt -e '.[dev]'
	@touch $@
	@echo "$(VENV): ready"

demo: $(STAMP)
	@$(BIN)/menard demo

test: $(STAMP)
	@$(BIN)/python -m pytest --numprocesses auto --maxprocesses 4 --dist loadfile

# Versions are held where they are: an extra must not move what the other tests ran with.
$(SAE_STAMP): $(STAMP)
	@echo "$(VENV): installing the extra 'sae'"
	@$(BIN)/python -m pip freeze --exclude-editable >$@.before
	@$(BIN)/python -m pip install -qq --disable-pip-version-check -c constraints.txt -c $@.before -e '.[sae]'
	@$(BIN)/python -m pip check
	@rm $@.before && touch $@

test-sae: $(SAE_STAMP)
	@$(BIN)/python -m pytest tests/sae

# Scenarios wait more than they compute, so three clusters run some at once.
test-slurm: $(STAMP)
	@$(BIN)/python $(CLUSTER) check
	@$(BIN)/python -m pytest tests/slurm --numprocesses 3 --dist loadfile

# These need no more than an interpreter.
slurm-up slurm-down:
	@python=$$($(FIND_PYTHON)); "$${python:-python3}" $(CLUSTER) $(@:slurm-%=%)

check: $(STAMP)
	@set -e; for step in "ruff check" "ruff format --check" pyright lint-imports; do echo "— $$step"; $(BIN)/$$step; done

format: $(STAMP)
	@$(BIN)/ruff check --fix && $(BIN)/ruff format

wheel: $(STAMP)
	@$(BIN)/python -m build --wheel --outdir dist

clean:
	rm -rf $(VENV) dist build .pytest_cache .ruff_cache .import_linter_cache
	find . -name __pycache__ -type d -not -path './$(VENV)/*' -exec rm -rf {} +
