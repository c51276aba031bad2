# Two commands for a newcomer: make report, make test. `make help` lists the rest.

PYTHON ?= python3
BIN := .venv/bin
BUILD := _build
JOBS ?= 2
QUICK := Quick run: a few small networks on 5,000 images. No verdicts; the published book has them.

.DEFAULT_GOAL := help
.PHONY: help report test book pdf records lint clean unit nbval browser cluster gpu trust audit wheel

help:  ## list the targets
	@grep -hE '^[a-z]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 10

.venv: requirements.lock pyproject.toml
	$(PYTHON) -c 'import sys; sys.exit("Python 3.11 to 3.14 is needed") if not (3, 11) <= sys.version_info[:2] <= (3, 14) else None'
	rm -rf .venv
	$(PYTHON) -m venv .venv
	$(BIN)/pip install --quiet --disable-pip-version-check --require-hashes -r requirements.lock
	$(BIN)/pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation -e .
	$(BIN)/python -m ipykernel install --sys-prefix --name python3 > /dev/null 2>&1
	@touch .venv

report: .venv  ## execute every notebook live at the quick profile, and build the book from that
	rm -rf $(BUILD)/quick
	mkdir -p $(BUILD)/quick/source/notebooks
	OMP_NUM_THREADS=1 $(BIN)/reluprime run $(BUILD)/quick/source/notebooks --profile quick --store $(BUILD)/quick/records --workers $(JOBS)
	cp -r index.md book _toc.yml CITATION.cff $(BUILD)/quick/source/
	sed 's|^html:|&\n  announcement: "$(QUICK)"|' _config.yml > $(BUILD)/quick/source/_config.yml
	$(BIN)/jupyter-book build $(BUILD)/quick/source --path-output $(BUILD)/quick --all -W -n --keep-going -q
	@echo "The report is at $(BUILD)/quick/_build/html/index.html"

book: .venv  ## build the published book from the committed notebooks, without executing them
	$(BIN)/jupyter-book build . --all -W -n --keep-going -q
	@echo "The book is at $(BUILD)/html/index.html"

pdf: book  ## print the book and its article with Chromium, into _build
	rm -rf $(BUILD)/print
	$(BIN)/jupyter-book build . --builder custom --custom-builder singlehtml --path-output $(BUILD)/print --all -W -n --keep-going -q
	$(BIN)/python book/pdf.py $(BUILD)/print/_build/singlehtml $(BUILD)/html $(BUILD)
	@echo "They are at $(BUILD)/reluprime-book.pdf and $(BUILD)/reluprime-article.pdf"

records: .venv  ## execute the notebooks at the report profile, computing the cells that the store lacks
	$(BIN)/reluprime run notebooks --store records

test: unit nbval browser  ## unit tests, the committed notebooks against their stored outputs, the book

unit: .venv
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest tests --ignore tests/browser -n $(JOBS)

nbval: .venv
	$(BIN)/python -m pytest --nbval --nbval-current-env notebooks -n $(JOBS) --dist loadfile -W default

browser: book  ## the built and the printed book in Chromium, where that is installed
	! command -v chromium > /dev/null || $(MAKE) pdf
	$(BIN)/python -m pytest tests/browser -n $(JOBS) -W default

cluster: .venv  ## the tests with Ray, in a network namespace that has nothing else (Linux, root)
	OMP_NUM_THREADS=1 unshare -n sh -c 'ip link set lo up && exec $(BIN)/python -m pytest tests/test_cluster.py'

gpu: .venv  ## on a GPU: the tests that others skip, zeros, speeds, statistics against a CPU's
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest tests -m cuda
	$(BIN)/reluprime bench zeros --store $(BUILD)/gpu
	$(BIN)/reluprime bench speed --store $(BUILD)/gpu
	$(BIN)/reluprime bench sweep --store $(BUILD)/gpu

trust: .venv  ## mistreat the package on purpose, half an hour, into records/, and show it on its page
	OMP_NUM_THREADS=1 $(BIN)/reluprime bench trust --store records
	$(BIN)/reluprime run notebooks --page 16

wheel: .venv  ## build the wheel, install it into an empty environment, and check a model there
	rm -rf $(BUILD)/wheel build
	$(BIN)/pip wheel --quiet --no-deps --no-build-isolation --wheel-dir $(BUILD)/wheel .
	rm -rf build
	sed -n 's/^\([a-z0-9].*==.*[^ \]\) *\\$$/\1/p' requirements.lock > $(BUILD)/wheel/constraints.txt
	$(PYTHON) -m venv $(BUILD)/wheel/env
	$(BUILD)/wheel/env/bin/pip install --quiet --disable-pip-version-check -c $(BUILD)/wheel/constraints.txt "$$(ls $(BUILD)/wheel/*.whl)[vision]"
	cd $(BUILD)/wheel && env/bin/reluprime check torchvision:resnet18 --batches 2 --batch-size 2

audit: .venv  ## known holes in the locked packages, and risky lines of ours (needs a network)
	$(PYTHON) -m venv $(BUILD)/audit
	$(BUILD)/audit/bin/pip install --quiet --disable-pip-version-check pip-audit bandit
	$(BUILD)/audit/bin/pip-audit --strict --disable-pip --require-hashes --requirement requirements.lock
	$(BUILD)/audit/bin/bandit --quiet --severity-level medium --recursive reluprime

lint: .venv  ## ruff: style and mistakes
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

clean:  ## remove what make built; the records and notebooks stay
	rm -rf $(BUILD) .venv .pytest_cache .ruff_cache .hypothesis *.egg-info
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
