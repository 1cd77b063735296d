# make demo: the main job on synthesised speech.  make test: the test suite.
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed-$(shell cksum < pyproject.toml | cut -d' ' -f1)
OLDEST := .venv-oldest
NEWEST := .venv-newest
NEWEST_PYTHON ?= python3.12
# A file's tests stay together: they share what is expensive to make.
PARALLEL := -n auto --maxprocesses=4 --dist=loadfile

# Another beam search, for the tests to compare ours with; it asks for numpy<2 and runs on 2 all the same.
ORACLE := pyctcdecode==0.5.0 pygtrie

# What must stay float32 where a program enables float64.
FLOAT64 := $(addprefix tests/, losses test_model.py test_freezing.py test_transfer.py \
  test_incremental.py test_features_jax.py training/test_step.py training/test_augment.py)

.PHONY: demo test test-slow test-oldest test-newest chaos lint setup system clean

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
	$(BIN)/python -m pip install -qq --no-deps $(ORACLE)
	rm -f $(VENV)/.installed-*
	touch $@

# The same tests on the oldest versions that are supported.
test-oldest: system lmplz
	$(PYTHON) -m venv $(OLDEST)
	$(OLDEST)/bin/python -m pip install --quiet --upgrade pip
	$(OLDEST)/bin/python -m pip install -qq -e '.[demo,dev]' jax==0.7.1 jaxlib==0.7.1 flax==0.12.0 'numpy<2'
	$(OLDEST)/bin/python -m pip install -qq --no-deps $(ORACLE)
	$(OLDEST)/bin/python -c "import jax, numpy; print('jax', jax.__version__, 'numpy', numpy.__version__)"
	$(OLDEST)/bin/python -m pytest $(PARALLEL)

# The same tests on the newest Python that is supported and the newest version of everything; losses, model and training
# step with float64 as JAX's default as well.
test-newest: system lmplz
	$(NEWEST_PYTHON) -m venv $(NEWEST)
	$(NEWEST)/bin/python -m pip install --quiet --upgrade pip
	$(NEWEST)/bin/python -m pip install -qq --upgrade --upgrade-strategy=eager -e '.[demo,dev]'
	$(NEWEST)/bin/python -m pip install -qq --no-deps $(ORACLE)
	$(NEWEST)/bin/python -c "import jax, librosa, numpy; print(*(f'{m.__name__} {m.__version__}' for m in (jax, librosa, numpy)))"
	$(NEWEST)/bin/python -m pytest $(PARALLEL)
	JAX_ENABLE_X64=1 $(NEWEST)/bin/python -m pytest $(PARALLEL) $(FLOAT64)

# Faults on purpose: kills, full disks, damaged files, hostile input.
chaos: setup
	$(BIN)/python -m tests.chaos --seed=0

clean:
	rm -rf $(VENV) $(OLDEST) $(NEWEST) tools
