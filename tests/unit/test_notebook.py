"""In a notebook: one output that changes, the curve of a run, nothing large. IPython is played by a module of three names."""

import re
import sys
import types

import pytest

import clipwise
from clipwise.io import notebook
from clipwise.io.progress import ProgressBar


@pytest.fixture
def outputs(monkeypatch):
    """Every text that each output showed, in order."""
    shown: list[list[str]] = []

    class Handle:
        def __init__(self, texts):
            self.texts = texts

        def update(self, page):
            self.texts.append(page)

    def display(page, display_id):
        shown.append([page])
        return Handle(shown[-1])

    shell = types.SimpleNamespace(kernel=object())
    ipython = types.ModuleType("IPython")
    ipython.get_ipython = lambda: shell
    ipython.display = types.ModuleType("IPython.display")
    ipython.display.HTML, ipython.display.display = str, display
    for name, module in (
        ("IPython", ipython),
        ("IPython.display", ipython.display),
        ("ipykernel", types.ModuleType("ipykernel")),
    ):
        monkeypatch.setitem(sys.modules, name, module)
    monkeypatch.setattr(notebook, "INTERVAL_S", 0.0)
    return shown


def test_where_it_is_one(outputs, monkeypatch):
    assert notebook.in_notebook()
    monkeypatch.delitem(sys.modules, "ipykernel")
    assert not notebook.in_notebook()


def test_progress_is_one_output(outputs, capsys):
    with ProgressBar("reading") as progress:
        for n in range(5):
            progress(n + 1, 5, "<a>")
    assert len(outputs) == 1
    assert len(outputs[0]) == 5
    assert 'value="0.2000"' in outputs[0][0]
    assert 'value="1.0000"' in outputs[0][-1]
    assert "reading: 5/5 &lt;a&gt;" in outputs[0][-1].replace("  ", " ")
    assert capsys.readouterr().err == ""


def test_curves_by_hand():
    """Two points in a chart of 100 x 100: the corners of its inner rectangle."""
    drawn = notebook.curves({"loss": [(0, 2.0), (10, 1.0)], "none": []}, 100, 100)
    assert drawn.count("<svg") == 1
    assert re.search(r'points="([^"]*)"', drawn)[1] == "8.0,28.0 92.0,92.0"
    assert "loss 1 (1 – 2)" in drawn
    long = notebook.curves({"loss": [(n, float(n % 7)) for n in range(100_000)]})
    assert len(long) < 5_000


def test_training_draws_its_curve_and_prints_no_lines_of_figures(outputs, clips, tmp_path, capsys):
    words = ["epochs=2", "warmup_epochs=0", "batch_size=8", "num_workers=0", "amp=no", "log.every=1"]
    clipwise.train(clipwise.load_recipe("tsm_tiny", words), data=str(clips), work_dir=tmp_path, device="cpu")
    assert len(outputs) == 1
    last = outputs[0][-1]
    assert last.count("<svg") == 2
    assert "top1_acc" in last
    assert "RunResult(" in last
    assert len(last) < 20_000
    assert len((tmp_path / "log.jsonl").read_text().splitlines()) == 2 * 3 + 2
    assert "train: " not in capsys.readouterr().err
    outputs.clear()
    clipwise.train(
        clipwise.load_recipe("tsm_tiny", words), data=str(clips), work_dir=tmp_path / "q", device="cpu", quiet=True
    )
    assert outputs == []
