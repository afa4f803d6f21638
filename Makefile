# make demo    set up, start the embedded server, run 64 episodes in parallel
# make test    set up, run every test (style and types are among them)
# make serve   a server on http://127.0.0.1:8000       make serve ARGS="--port 9000"
# make check   format, lint, types, tests
# make bench   every target of speed, beside OpenEnv's reference server (an hour)   make bench ARGS="A C --quick"
# make chaos   load while workers, Redis and balancer fail, and a proof that no step was lost (two minutes)
# make up      the whole pool by docker compose, built if need be; make roll: new workers, one by one; make down
# make image   the image meta_game-env:latest; needs docker
# make space   the folder build/space, for openenv push; another: make space ARGS=FOLDER
# make lock    the image's pins again; newer ones with ARGS=--upgrade
# make docs    the documentation, into build/docs; make docs ARGS=serve: at http://127.0.0.1:8001
# make release-check   whether this tree may be released
#
# Needed: Python 3.11 or newer with pip, and make; for the tests Redis, HAProxy, Chromium and Prometheus too, which
# apt installs where it may. PYTHON=/path/to/python picks the interpreter, ARGS goes to the command.

SHELL := /bin/bash
.DEFAULT_GOAL := help
MAKEFLAGS += --no-print-directory

# A version manager's shims may exist for versions it does not have: take the first that runs.
PYTHON ?= $(shell for p in python3.13 python3.12 python3.11 python3 python3.14; do \
	"$$p" -c 'import sys, pip; sys.exit(sys.version_info < (3, 11))' 2>/dev/null && { command -v "$$p"; break; }; done)
PIP_INSTALL := -m pip install -qq --disable-pip-version-check
BIN := .venv/bin
OPENENV := .venvs/openenv-0.10
OPENENV_011 := .venvs/openenv-0.1.1
OPENENV_BETWEEN := .venvs/openenv-0.2.1 .venvs/openenv-0.2.3 .venvs/openenv-0.3.0
VALIDATORS := .venvs/validators
MCP := .venvs/mcp-2
TEST_ENV = METAGAME_TEST_OPENENV_PYTHON="$(CURDIR)/$(OPENENV)/bin/python" \
	METAGAME_TEST_OPENENV_011_PYTHON="$(CURDIR)/$(OPENENV_011)/bin/python" \
	METAGAME_TEST_VALIDATORS="$(CURDIR)/$(VALIDATORS)" METAGAME_TEST_UV="$(CURDIR)/.venvs/lock/bin/uv" \
	METAGAME_TEST_MCP_PYTHON="$(CURDIR)/$(MCP)/bin/python"
ARGS ?=

.PHONY: docker docs release-check help demo serve test check format bench chaos up down roll image space lock test-setup bench-setup chaos-setup redis chromium haproxy prometheus clean

help:
	@sed -n '1,12s/^# //p' Makefile

demo: .venv/.server
	@$(BIN)/metagame demo $(ARGS)

serve: .venv/.server
	@$(BIN)/metagame serve $(ARGS) || [ $$? = 130 ] # Ctrl-C is how it ends

# Two cores install side by side; each target says what it does.
test:
	@$(MAKE) -j 4 test-setup
	@$(TEST_ENV) $(BIN)/python -m pytest -n 2 --dist loadfile $(ARGS)

check: .venv/.test
	@$(BIN)/ruff format --check .
	@$(BIN)/ruff check .
	@$(BIN)/mypy
	@$(MAKE) test

format: .venv/.test
	@$(BIN)/ruff format .
	@$(BIN)/ruff check --fix .

bench:
	@$(MAKE) -j 3 bench-setup
	@$(TEST_ENV) $(BIN)/python -m bench $(ARGS)

chaos:
	@$(MAKE) -j 2 chaos-setup
	@$(BIN)/python -m chaos $(ARGS)

# IMAGE, in the environment or in `.env`, names another image, which is then not built.
define own_image
@image=$$(printf 'services: {asked: {image: "$${IMAGE:-none}"}}' | docker compose --file - config --images) && \
{ [ "$$image" != none ] || $(MAKE) image ARGS=--quiet >/dev/null; }
endef

# WORKERS, PORT and the others: docker-compose.yml.
up: docker
	$(own_image)
	@deploy/up $(ARGS)

down: docker
	@docker compose down $(ARGS)
	@echo "Stopped. Sessions stay in the volume; delete them with: docker compose down --volumes"

roll: docker
	$(own_image)
	@deploy/roll

docker:
	@command -v docker >/dev/null || { echo "This needs Docker with Compose. Without it: make serve" >&2; exit 2; }

image: docker
	@docker build --tag meta_game-env:latest --tag meta-game-env:latest --file deploy/Dockerfile $(ARGS) \
		--build-arg VERSION="$$(sed -n 's/__version__ = "\(.*\)"/\1/p' metagame/_version.py)" \
		--build-arg REVISION="$$(git rev-parse HEAD 2>/dev/null || echo unknown)" .

space: .venvs/lock/.installed
	@$(PYTHON) -m space --uv "$(CURDIR)/.venvs/lock/bin/uv" $(ARGS)

# For the Python and the system of the image, whatever runs here; the pins name versions and hashes, no host.
PINS = .venvs/lock/bin/uv pip compile --quiet --no-config --python-version 3.13 --python-platform linux \
	--generate-hashes --no-emit-index-url --no-emit-find-links --custom-compile-command "make lock" $(ARGS)
BUILD_REQUIRES = import tomllib; print(*tomllib.load(open("pyproject.toml", "rb"))["build-system"]["requires"], sep="\n")

lock: .venvs/lock/.installed
	@$(PINS) --extra server --extra otel --output-file deploy/requirements.txt pyproject.toml
	@.venvs/lock/bin/python -c '$(BUILD_REQUIRES)' | $(PINS) --output-file deploy/requirements-build.txt -

# Built without network and read without it. What it generates it asks the code of, hence the server's packages.
docs: .venv/.docs
	@$(BIN)/python -m docsite $(ARGS)

release-check: .venv/.docs .venvs/lock/.installed
	@$(BIN)/python -m release --uv "$(CURDIR)/.venvs/lock/bin/uv" $(ARGS)

.venvs/lock/.installed:
	$(call environment,.venvs/lock)
	@.venvs/lock/bin/python $(PIP_INSTALL) uv
	@touch $@

test-setup: .venv/.test $(OPENENV)/.installed $(OPENENV_011)/.installed $(OPENENV_BETWEEN:%=%/.installed) \
	$(VALIDATORS)/.installed $(MCP)/.installed .venvs/lock/.installed redis chromium haproxy prometheus
bench-setup: .venv/.bench $(OPENENV)/.installed redis
chaos-setup: .venv/.server redis haproxy

# $(call environment,<folder>) makes an empty virtual environment with a current pip. Debian's
# Python may come without ensurepip, whence the second way.
define environment
@test -n "$(PYTHON)" || { echo "No Python 3.11 or newer with pip runs here; name one: make PYTHON=/path/to/python" >&2; exit 2; }
@echo "· $(1): a virtual environment of $$($(PYTHON) -V)"
@rm -rf $(1)
@$(PYTHON) -c 'import ensurepip, venv' 2>/dev/null && $(PYTHON) -m venv $(1) \
	|| { $(PYTHON) -m venv --without-pip $(1) && $(PYTHON) -m pip --python $(1)/bin/python install -qq pip; }
@$(1)/bin/python $(PIP_INSTALL) --upgrade 'pip>=25.1'
endef

.venv/.server: pyproject.toml
	$(call environment,.venv)
	@echo "· .venv: this project and what it needs"
	@$(BIN)/python $(PIP_INSTALL) --editable '.[server]'
	@touch $@

.venv/.test: .venv/.server
	@echo "· .venv: what the tests need"
	@$(BIN)/python $(PIP_INSTALL) --group test
	@touch $@

.venv/.docs: .venv/.server
	@echo "· .venv: what builds the documentation"
	@$(BIN)/python $(PIP_INSTALL) --group docs
	@touch $@

.venv/.bench: .venv/.server
	@echo "· .venv: what draws the plots of make bench"
	@$(BIN)/python $(PIP_INSTALL) --group bench
	@touch $@

# Old and current OpenEnv, unmodified, each by itself: their pins are theirs.
$(OPENENV)/.installed:
	$(call environment,$(OPENENV))
	@echo "· $(OPENENV): OpenEnv 0.10.0 from PyPI (large)"
	@$(OPENENV)/bin/python $(PIP_INSTALL) openenv==0.10.0 uvloop httptools
	@touch $@

$(OPENENV_011)/.installed:
	$(call environment,$(OPENENV_011))
	@echo "· $(OPENENV_011): openenv-core 0.1.1 from PyPI"
	@$(OPENENV_011)/bin/python $(PIP_INSTALL) openenv-core==0.1.1
	@touch $@

# OpenEnv's older validators, without what else comes with them: the current one's environment has all they import.
# 0.2.0 as openenv-core: in the distribution openenv of that release the validator passes no folder at all.
$(VALIDATORS)/.installed: $(OPENENV)/.installed
	@echo "· $(VALIDATORS): OpenEnv 0.2.0, 0.3.0 and 0.4.2 from PyPI"
	@rm -rf $(VALIDATORS)
	@for release in openenv-core==0.2.0 openenv==0.3.0 openenv==0.4.2; do \
		$(OPENENV)/bin/python $(PIP_INSTALL) --no-deps --target "$(VALIDATORS)/$${release#*==}" "$$release"; done
	@touch $@

$(MCP)/.installed:
	$(call environment,$(MCP))
	@echo "· $(MCP): MCP's SDK 2 and FastMCP 4 from PyPI"
	@$(MCP)/bin/python $(PIP_INSTALL) mcp==2.3.0 fastmcp==4.2.3
	@touch $@

# The releases between, each by itself but for what it depends on, which is 0.10's: pip finds that in its range,
# and it would be another 470 MB each.
PURELIB = import sysconfig; print(sysconfig.get_path("purelib"))

$(OPENENV_BETWEEN:%=%/.installed): .venvs/openenv-%/.installed: $(OPENENV)/.installed
	@echo "· .venvs/openenv-$*: openenv-core $* from PyPI"
	@rm -rf .venvs/openenv-$*
	@$(OPENENV)/bin/python -m venv --without-pip .venvs/openenv-$*
	@$(OPENENV)/bin/python -c '$(PURELIB)' \
		> "$$(.venvs/openenv-$*/bin/python -c '$(PURELIB)')/dependencies.pth"
	@$(OPENENV)/bin/python -m pip --python .venvs/openenv-$*/bin/python install -qq --disable-pip-version-check \
		openenv-core==$*
	@touch $@

# $(call from_apt,<commands, any of which will do>,<package>,<how elsewhere>); apt takes one caller at a time.
# RUNLEVEL keeps what comes with a service from starting it where there is no systemd.
define from_apt
@for command in $(1); do command -v "$$command" >/dev/null && exit 0; done; \
if command -v apt-get >/dev/null && [ "$$(id -u)" = 0 ]; then \
	echo "· apt: $(2)"; \
	{ apt-get update -qq && RUNLEVEL=1 DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends $(2); } \
		>/dev/null || { echo "apt could not install $(2)" >&2; exit 1; }; \
else \
	echo "The tests need $(2): $(3)" >&2; exit 1; \
fi
endef

redis:
	$(call from_apt,redis-server,redis-server,sudo apt-get install redis-server; on macOS: brew install redis)

chromium: haproxy
	$(call from_apt,chromium chromium-browser google-chrome,chromium,sudo apt-get install chromium; on macOS: brew install chromium)

prometheus: chromium
	$(call from_apt,prometheus,prometheus,sudo apt-get install prometheus; on macOS: brew install prometheus)

haproxy: redis
	$(call from_apt,haproxy,haproxy,sudo apt-get install haproxy; on macOS: brew install haproxy)
	$(call from_apt,openssl,openssl,sudo apt-get install openssl)
	$(call from_apt,curl,curl,sudo apt-get install curl)

clean:
	@rm -rf .venv .venvs build dist .mypy_cache .pytest_cache .ruff_cache .hypothesis
