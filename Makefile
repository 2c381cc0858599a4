# Each target does all of its own set-up, in .venv of this checkout, once.
.PHONY: help setup engine demo test test-long conformance coverage lint format
.DEFAULT_GOAL := help
bin := .venv/bin

help: ## What can be made
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "make %-11s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

setup: ## The main environment, from requirements/main.lock
	@scripts/setup

engine: setup ## vLLM's own environment, CPU build (2.5 GB)
	@$(bin)/gradus engine install --device cpu

demo: setup ## The main job: L0, L1, L2, their control, and a report
	$(bin)/gradus run recipes/demo/l2.yaml

test: engine ## All tests but the long ones; ARGS="-k name" narrows
	$(bin)/python -m pytest $(ARGS)

test-long: engine ## The tests that do minutes of real work
	$(bin)/python -m pytest -m long $(ARGS)

conformance: engine ## Suites of others: bare vLLM and the gateway must fail the same checks
	@scripts/setup conformance
	$(bin)/python -m pytest -m "long or not long" tests/serve/conformance $(ARGS)

coverage: setup ## Lines of pipeline/data that its tests run; fails under 95 %
	$(bin)/coverage erase
	$(bin)/coverage run -m pytest tests/data tests/stages tests/core/test_controls.py
	$(bin)/coverage combine -q
	$(bin)/coverage report

lint: setup ## ruff, mypy, import-linter, shellcheck, hadolint, deploy/
	$(bin)/ruff check .
	$(bin)/ruff format --check .
	$(bin)/mypy
	$(bin)/lint-imports --no-logo
	$(bin)/shellcheck scripts/setup .ci/run
	$(bin)/hadolint Dockerfile
	$(bin)/check-jsonschema --builtin-schema vendor.compose-spec deploy/compose*.yaml
	$(bin)/kubernetes-validate --strict --quiet $(filter-out %/kustomization.yaml,$(wildcard deploy/kubernetes/*.yaml deploy/kubernetes/*/*.yaml))

format: setup ## Put every file into form
	$(bin)/ruff check --fix .
	$(bin)/ruff format .
