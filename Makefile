# The two commands of the README are `make demo` and `make test`.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
PIP_INSTALL := $(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt

.PHONY: demo env check test test-slow test-adversary attacked parity replicas docs notebooks lmms vllm sbom \
	audit format clean

demo: $(VENV)/.runtime  ## ask the embedded model about an image, a pair and a video
	$(BIN)/onevision demo

env: $(VENV)/.tests  ## make .venv with everything tests need

check: $(VENV)/.tests  ## format, lint, types, import layers, spelling
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/pyrefly check --summarize-errors
	$(BIN)/lint-imports
	$(BIN)/codespell onevision tests docs README.md ARCHITECTURE.md CONTRIBUTING.md CHANGELOG.md

test: $(VENV)/.tests  ## the default tests
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -q --durations=20 --durations-min=5 --numprocesses=auto --maxprocesses=8 \
	    --dist=loadfile --no-loadscope-reorder

test-slow: $(VENV)/.tests  ## the rest: true 0.5B shape, soak and kill tests
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -q -m slow --timeout=1800 --numprocesses=2 \
	    --dist=loadfile --durations=20

test-adversary: $(VENV)/.tests  ## attacks on the server, and a table of what they cost
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -q -s -m adversary --timeout=600 tests/adversary

attacked: $(VENV)/.tests  ## the same and what memory gains over minutes, in build/attacked.json
	PYTHONPATH=. $(BIN)/python -m benchmarks.attacked --output build/attacked.json

parity: $(VENV)/.tests  ## the table: training, asking, evaluating and serving give the same
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -q -s -m slow tests/parity/test_gate.py

replicas: $(VENV)/.tests  ## two servers behind nginx (with libnginx-mod-http-js) under load
	PYTHONPATH=. $(BIN)/python -m benchmarks.replicas --output build/replicas.json

docs: $(VENV)/.tests  ## the site, in build/site; a broken link or a missing page fails
	NO_MKDOCS_2_WARNING=1 PYTHONPATH=. $(BIN)/mkdocs build --strict --quiet

notebooks: $(VENV)/.tests  ## run examples/*.ipynb
	$(BIN)/python -m pytest -q -m slow tests/test_examples.py

lmms: .venv-lmms/.made  ## make .venv-lmms, where lmms-eval can ask our models

vllm: $(VENV)/.tests .venv-vllm/.made  ## vLLM, in .venv-vllm, answers as our checkpoints do
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -q -m vllm --timeout=1800 tests/parity/test_vllm.py

sbom: $(VENV)/.runtime .venv-sbom/.made  ## dist/sbom.cdx.json: what .venv holds (CycloneDX)
	@mkdir -p dist
	.venv-sbom/bin/cyclonedx-py environment --pyproject pyproject.toml --validate \
	    --output-file dist/sbom.cdx.json $(BIN)/python

audit: $(VENV)/.runtime .venv-sbom/.made  ## known vulnerabilities of what .venv holds; needs internet
	.venv-sbom/bin/pip-audit --progress-spinner off --skip-editable \
	    --path $$($(BIN)/python -c 'import sysconfig; print(sysconfig.get_path("purelib"))')

format: $(VENV)/.tests
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

clean:
	rm -rf $(VENV) .venv-lmms .venv-vllm .venv-sbom build dist *.egg-info

$(VENV)/bin/python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' \
	    || { echo "onevision needs Python 3.11 or newer; set PYTHON=python3.x"; exit 1; }
	$(PYTHON) -m venv $(VENV) \
	    || { rm -rf $(VENV); echo "python3 -m venv failed; install your system's python3-venv"; exit 1; }

$(VENV)/.runtime: pyproject.toml constraints.txt | $(VENV)/bin/python
	$(PIP_INSTALL) -e .
	@touch $@

$(VENV)/.tests: $(VENV)/.runtime
	$(PIP_INSTALL) -e '.[test]'
	$(PIP_INSTALL) --no-deps -r tests/parts.txt  # what the recipes in runs/ install
	@touch $@

.venv-lmms/.made: integrations/lmms_eval/requirements.txt pyproject.toml constraints.txt
	$(PYTHON) -m venv .venv-lmms
	.venv-lmms/bin/python -m pip install --quiet -c constraints.txt -e .
	.venv-lmms/bin/python -m pip install --quiet --no-deps lmms-eval==0.7.3
	.venv-lmms/bin/python -m pip install --quiet -r integrations/lmms_eval/requirements.txt
	@touch $@

.venv-vllm/.made: integrations/vllm/requirements.txt integrations/vllm/mend.py
	$(PYTHON) -m venv .venv-vllm
	.venv-vllm/bin/python -m pip install --quiet -r integrations/vllm/requirements.txt
	.venv-vllm/bin/python integrations/vllm/mend.py
	@touch $@

.venv-sbom/.made: deploy/sbom-requirements.txt | $(VENV)/bin/python
	$(BIN)/python -m venv .venv-sbom
	.venv-sbom/bin/python -m pip install --quiet --disable-pip-version-check -r $<
	@touch $@
