# Every target makes the environment it needs: only Python 3.11 and the package index are assumed.

PYTHON ?= python3.11
PY := .venv/bin/python
PIP := $(PY) -m pip --disable-pip-version-check --quiet

.DEFAULT_GOAL := help
.PHONY: help env demo test brokers check bench drills conformance conformance-10 docs lock clean

help: ## show the targets
	@sed -n 's/^\([a-z0-9-]*\):.*## \(.*\)/  make \1\t\2/p' $(MAKEFILE_LIST) | expand -t 24

env: .venv/.dev ## make .venv from the lock file

demo: .venv/.core ## run the example on real events; needs no server, only the core
	@$(PY) -m examples.earthquakes

test: .venv/.dev ## run the whole suite with branch coverage; the last line is the runner's
	@$(PY) -m tools.brokers run -- $(PY) -m pytest --numprocesses auto --dist loadgroup --cov --cov-report term

brokers: .venv/.dev ## start the brokers of the tests and say where they are; `python -m tools.brokers down` stops them
	@$(PY) -m tools.brokers up

check: .venv/.dev ## form, types, import contracts, shape
	$(PY) -m ruff format --check
	$(PY) -m ruff check
	$(PY) -m mypy
	$(PY) -m pyright
	.venv/bin/lint-imports --no-cache
	$(PY) -m pytest --quiet tests/test_shape.py tests/test_imports.py tests/test_public_api.py

bench: .venv/.bench ## measure ours beside the peers, in one run
	@$(PY) -m benchmarks

drills: .venv/.dev ## kill processes at random and count what was lost (takes minutes)
	@$(PY) -m tools.brokers run ministack elasticmq -- $(PY) -m pytest tests/chaos tests/sqs \
	  tests/conformance/test_rabbitmq.py tests/conformance/test_sqs.py tests/conformance/test_sns.py -m drill --timeout 3600
	@UNIMSG_SCALE=1 $(PY) -m pytest --numprocesses auto --timeout 600 tests/conformance/test_memory.py \
	  tests/conformance/test_sqlite.py tests/conformance/test_shapes.py

conformance-10: .venv/.dev ## run the catalogue ten times at once on what needs no server
	@UNIMSG_REPEAT=10 $(PY) -m pytest --numprocesses 10 --dist load tests/conformance/test_memory.py \
	  tests/conformance/test_sqlite.py tests/conformance/test_shapes.py

conformance: .venv/.dev ## hold every backend to the catalogue and write docs/reference/conformance.md
	@$(PY) -m unimsg conformance report
	@$(PY) -m tools.brokers run -- $(PY) -m unimsg conformance report $(addprefix --tests tests/conformance/test_, \
	  $(addsuffix .py, kafka rabbitmq activemq sqs sns)) --numprocesses auto --dist loadgroup

docs: .venv/.dev ## write docs/reference anew from the code
	@$(PY) -m docs.generate

lock: ## resolve the lock files anew
	@tool=$$(mktemp -d) && trap 'rm -rf "$$tool"' EXIT && $(PYTHON) -m venv "$$tool" \
	&& "$$tool/bin/python" -m pip --disable-pip-version-check --quiet install uv \
	&& compile="$$tool/bin/uv pip compile pyproject.toml --quiet --upgrade --generate-hashes --universal \
	   --python-version 3.11 --no-emit-index-url --no-header" \
	&& $$compile --extra dev --extra cli --output-file requirements-dev.lock \
	&& $$compile --extra bench --constraint requirements-dev.lock --output-file requirements-bench.lock

clean: ## remove the environment and every cache
	@rm -rf .venv .mypy_cache .pytest_cache .ruff_cache .hypothesis .import_linter_cache htmlcov dist build
	@rm -f .coverage .coverage.*
	@find . -name __pycache__ -type d -prune -exec rm -rf {} +

# What stands below is how an environment comes into being. A stamp is as new as what it was made from.
# A lock names all there is, so pip resolves nothing (--no-deps): with a resolver it looked at a version younger
# than the locked one for `coverage[toml]`, and refused it for want of a hash. `pip check` finds what a lock lacks.

$(PY):
	@$(PYTHON) -m venv .venv

.venv/.core: pyproject.toml | $(PY)
	@$(PIP) install --editable .
	@touch $@

.venv/.dev: pyproject.toml requirements-dev.lock | $(PY)
	@$(PIP) install --no-deps --require-hashes --requirement requirements-dev.lock
	@$(PIP) install --no-deps --editable .
	@$(PIP) check
	@touch .venv/.core $@

.venv/.bench: requirements-bench.lock .venv/.dev
	@$(PIP) install --no-deps --require-hashes --requirement requirements-bench.lock
	@$(PIP) check
	@touch $@
