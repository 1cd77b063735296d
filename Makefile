# make demo: the main job on synthesised speech.  make test: the test suite.
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed-$(shell cksum < pyproject.toml | cut -d' ' -f1)
LATEST := .venv-latest
# A file's tests stay together: they share what is dear to make.
PARALLEL := -n auto --maxprocesses=4 --dist=loadfile

.PHONY: demo test test-slow test-latest lint setup system clean

demo: setup
	$(BIN)/python launch/demo.py

test: setup
	$(BIN)/python -m pytest $(PARALLEL)

test-slow: setup
	$(BIN)/python -m pytest -m slow

lint: setup
	$(BIN)/ruff check . && $(BIN)/ruff format --check .

setup: system $(STAMP) lmplz

include lmplz.mk

SYSTEM_PACKAGES := $(LMPLZ_PACKAGES) python3-dev python3-venv

# Installed where this user may install packages; else the line to give to somebody who may is printed.
system:
	@if command -v c++ cmake make > /dev/null && test -e /usr/include/boost/program_options.hpp; then exit 0; fi; \
	as=; test "$$(id -u)" = 0 || as='sudo -n'; \
	if command -v apt-get > /dev/null && $$as true 2> /dev/null; then \
	  $$as apt-get update -qq && DEBIAN_FRONTEND=noninteractive $$as apt-get install -y -qq $(SYSTEM_PACKAGES) > /dev/null; \
	else \
	  echo 'please install first: sudo apt-get install $(SYSTEM_PACKAGES)' >&2; exit 1; \
	fi

$(STAMP):
	$(PYTHON) -c 'import sys; sys.exit(0 if sys.version_info >= (3, 11) else "Python 3.11 or newer is needed: make PYTHON=python3.11 …")'
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --upgrade pip
	$(BIN)/python -m pip install -qq -e '.[demo,dev]'
	rm -f $(VENV)/.installed-*
	touch $@

# The same tests on the newest JAX, Flax and NumPy 2: pyctcdecode pins numpy<2 but runs on it.
test-latest: system lmplz
	$(PYTHON) -m venv $(LATEST)
	$(LATEST)/bin/python -m pip install --quiet --upgrade pip setuptools
	$(LATEST)/bin/python -c "import tomllib; p = tomllib.load(open('pyproject.toml', 'rb'))['project']; e = p['optional-dependencies']; \
	  print(*(d for d in p['dependencies'] + e['demo'] + e['dev'] if not d.startswith('pyctcdecode')), sep='\n')" > $(LATEST)/requirements.txt
	$(LATEST)/bin/python -m pip install --quiet --upgrade pygtrie 'numpy>=2' -r $(LATEST)/requirements.txt
	$(LATEST)/bin/python -m pip install -qq --no-deps pyctcdecode -e .
	$(LATEST)/bin/python -c "import jax, numpy; print('jax', jax.__version__, 'numpy', numpy.__version__)"
	$(LATEST)/bin/python -m pytest $(PARALLEL)

clean:
	rm -rf $(VENV) $(LATEST) tools
