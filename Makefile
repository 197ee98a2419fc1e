# make demo | test | lint | lowest | docs | notebooks: each creates the environment if it is missing; nothing but python3 and make is needed.
# An existing environment is used as it is with PYTHON=/path/to/bin/python.
ifndef PYTHON
PYTHON := .venv/bin/python
READY := .venv/.ready
endif
PYTHON3 ?= python3

.PHONY: demo test lint lowest docs notebooks format env clean
demo: $(READY)
	$(PYTHON) train.py configs/experiment/demo.yaml
	$(PYTHON) eval.py configs/eval/demo.yaml

test: $(READY)
	$(PYTHON) -m pytest -n 2 --dist loadfile

lint: $(READY)
	$(PYTHON) -m ruff check .
	$(PYTHON) -m ruff format --check .
	$(PYTHON) -m mypy

# the site, in outputs/site/html; a dead link fails
docs: .venv-docs/.ready
	.venv-docs/bin/python docs/stage.py outputs/site/pages
	.venv-docs/bin/zensical build --strict

.venv-docs/.ready: pyproject.toml
	$(PYTHON3) -m venv .venv-docs
	.venv-docs/bin/python -m pip install --quiet -e ".[docs]"
	touch $@

# the notebooks of examples in a Jupyter kernel, with their outputs in outputs/notebooks
notebooks: $(READY)
	$(PYTHON) -m pip install --quiet -c constraints.txt -e ".[notebooks]"
	mkdir -p outputs/notebooks
	cp examples/*.ipynb outputs/notebooks
	$(dir $(PYTHON))jupyter-execute --inplace outputs/notebooks/*.ipynb

# the suite again, with the lowest versions that pyproject.toml declares
lowest: .venv-lowest/.ready
	.venv-lowest/bin/python -m pytest -n 2 --dist loadfile

format: $(READY)
	$(PYTHON) -m ruff check --fix .
	$(PYTHON) -m ruff format .

env: $(READY)

.venv/.ready: pyproject.toml constraints.txt
	$(PYTHON3) -m venv .venv
	.venv/bin/python -m pip install --quiet -c constraints.txt -e ".[dev,track,export,inpaint,demo]"
	touch $@

.venv-lowest/.ready: pyproject.toml
	$(PYTHON3) -m venv .venv-lowest
	.venv-lowest/bin/python -m pip install --quiet uv
	.venv-lowest/bin/python -m uv pip install --quiet --python .venv-lowest/bin/python --resolution lowest-direct \
	    -e ".[dev,track,export,inpaint,demo]"
	touch $@

clean:
	rm -rf outputs .hypothesis .pytest_cache .mypy_cache .ruff_cache
