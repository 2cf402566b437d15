# The commands of the project. `make demo` and `make test` need nothing but Python 3.11 and make.

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
INSTALLED := $(VENV)/.installed

.DEFAULT_GOAL := help
.PHONY: help setup demo check test bench docs protos format clean

help: ## List the commands
	@grep -E '^[a-z]+:.*##' $(MAKEFILE_LIST) | awk -F ':.*## ' '{printf "  make %-8s %s\n", $$1, $$2}'

setup: $(INSTALLED) ## Make the virtual environment and install everything into it

$(INSTALLED): pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
		{ echo "Python 3.11 or newer is needed: make PYTHON=python3.12 …"; exit 1; }
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable '.[embedded,grpc,dev]'
	@touch $@

demo: $(INSTALLED) ## Run three orders through the five steps of the example shop
	$(BIN)/python examples/shop/demo.py

check: $(INSTALLED) ## Format, lint, types, import rules
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/mypy --strict tests/typing
	$(BIN)/lint-imports
	$(BIN)/sqlfluff lint --processes 2 src/tasker_core

test: $(INSTALLED) ## Run all tests on an embedded PostgreSQL
	$(BIN)/python -m pytest --numprocesses auto --dist loadfile

bench: $(INSTALLED) ## Measure; the answers are in benchmarks/README.md
	$(BIN)/python benchmarks/linear.py

docs: $(INSTALLED) ## Run what the documentation shows
	$(BIN)/python -m pytest tests/docs

protos: $(INSTALLED) ## Compile the protocol of gRPC, once its .proto files have changed
	cd src/tasker_core/server/rpc/proto && $(CURDIR)/$(BIN)/python -m grpc_tools.protoc -I. \
		--descriptor_set_out=../tasker_v1.binpb tasker/v1/*.proto

format: $(INSTALLED) ## Format the code
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

clean: ## Remove what the commands above made
	rm -rf $(VENV) .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache
