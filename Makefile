# Everything starts from Python 3.11+, git and make: tools/bootstrap.py brings uv, uv brings the rest into .venv.
SHELL := /bin/sh
PYTHON ?= python3
PYTEST_WORKERS ?= 2
# uv takes the interpreter that is there and fetches one only if none fits.
UV = $(shell $(PYTHON) tools/bootstrap.py)
BIN := .venv/bin

.PHONY: help demo test e2e image fuzz check format proto bench train-demo clean

help:            ## what can be made
	@sed -n 's/^\([a-z0-9-]*\): .*## \(.*\)/make \1\t\2/p' Makefile

demo: .venv/.run ## serve the bundled model of handwritten digits
	@$(BIN)/zeroserve serve

test: .venv/.dev ## all tests, on real servers
	PATH="$$(dirname "$(UV)"):$$PATH" $(BIN)/pytest -n $(PYTEST_WORKERS)

E2E := KUBECONFIG KNATIVE_INGRESS KNATIVE_DOMAIN ZEROSERVE_E2E_IMAGE ZEROSERVE_E2E_DEPLOY_IMAGE
e2e: .venv/.dev  ## tests on a real cluster with Knative: tests/e2e/place.py says which
	@for name in $(E2E); do eval "value=\$${$$name:-}"; test -n "$$value" || { \
	  echo "make e2e needs a cluster with Knative, kn and kubectl, and these variables: $(E2E) ($$name is not set)"; exit 1; }; done
	$(BIN)/pytest tests/e2e

IMAGE ?= zeroserve
TAG ?= dev
BUILDER ?= docker
TENSORFLOW ?= cpu
image:           ## the two images: IMAGE, TAG, BUILDER=docker|podman|buildah, TENSORFLOW=cpu|gpu
	$(BUILDER) build --target predict --build-arg TENSORFLOW=$(TENSORFLOW) --tag $(IMAGE):$(TAG) .
	$(BUILDER) build --target deploy --tag $(IMAGE)-deploy:$(TAG) .

fuzz: .venv/.dev ## look for inputs that break a decoder: SECONDS for each of TARGETS (all)
	$(UV) run --locked --with atheris python -m tests.fuzz.guided $(or $(SECONDS),30) $(TARGETS)

check: .venv/.dev ## formatting, lint, types, import fences, dependencies, dead code, lock file
	$(BIN)/ruff format --check
	$(BIN)/ruff check
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(BIN)/deptry .
	$(BIN)/vulture
	$(UV) lock --check
	$(UV) run $(PROTOC) --check

format: .venv/.dev ## put all files into the project's form
	$(BIN)/ruff format
	$(BIN)/ruff check --fix

# Generated code may be older than the protobuf that runs it, never newer: this grpcio-tools matches pyproject's lower bound.
PROTOC := --quiet --isolated --no-project --with grpcio-tools==1.76.0 functions/proto/generate.py

proto:           ## generate the Python files of functions/proto again
	$(UV) run $(PROTOC)

bench: .venv/.dev ## cold start and throughput beside a naive functions-framework handler
	$(BIN)/python -m perf.cold_start
	$(BIN)/python -m perf.rest

train-demo: .venv/.dev ## train the bundled model again
	$(BIN)/python -m functions.demo.train

clean:           ## remove what was installed and built
	rm -rf .venv .tools perf/out build

# What serving needs. --inexact keeps the development tools where they are installed already.
.venv/.run: pyproject.toml uv.lock
	@uv="$$($(PYTHON) tools/bootstrap.py)" && "$$uv" sync --locked --no-dev --inexact
	@touch $@

# With the development tools.
.venv/.dev: pyproject.toml uv.lock
	@uv="$$($(PYTHON) tools/bootstrap.py)" && "$$uv" sync --locked
	@touch $@ .venv/.run
