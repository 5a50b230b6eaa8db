"""The notebooks of docs/notebooks: what is committed is what make.py says, and (slow) it runs."""

import json
from pathlib import Path

import pytest

from helpers import load_script

ROOT = Path(__file__).resolve().parents[2]
make = load_script(ROOT / "docs/notebooks/make.py")


@pytest.mark.parametrize("name", list(make.NOTEBOOKS))
def test_committed_notebook_is_the_one_described(name):
    committed = json.loads((ROOT / f"docs/notebooks/{name}.ipynb").read_text(encoding="utf-8"))
    assert ["".join(cell["source"]) for cell in committed["cells"]] == make.NOTEBOOKS[name]
    code = [cell for cell in committed["cells"] if cell["cell_type"] == "code"]
    assert all(cell["execution_count"] for cell in code)
    assert not [out for cell in code for out in cell["outputs"] if out["output_type"] == "error"]


@pytest.mark.slow
@pytest.mark.parametrize("name", list(make.NOTEBOOKS))
def test_notebook_runs(name, tmp_path):
    pytest.importorskip("nbclient")
    made = make.execute(name, tmp_path)  # an error in a cell is raised
    assert sum(len(cell.get("outputs", ())) for cell in made.cells) > 3
