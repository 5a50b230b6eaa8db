"""Names of files and classes are strangers' text: they steer neither a terminal nor a spreadsheet."""

import ast
import csv
import io
import itertools
import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

import clipwise
from clipwise.io.text import csv_text, from_csv_cell, json_text, printable


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("跑步 – naïve\u3000ok", "跑步 – naïve\u3000ok"),
        ("a\x1b[31mb\x07", "a\\x1b[31mb\\x07"),
        ("gpj.\u202e4pm", "gpj.\\u202e4pm"),
        ("\x9b2J\r", "\\x9b2J\\x0d"),
        ("bad\udcff.mp4", "bad\\xff.mp4"),
        ("two\nlines", "two\nlines"),
        ("می\u200cخواهم", "می\u200cخواهم"),
    ],
)
def test_control_characters_are_shown(text, shown):
    assert printable(text) == shown


def test_json_is_the_same_value_without_control_characters():
    value = {"class": "a\x1b\x9b\u202e\udcff跑"}
    text = json_text(value)
    assert json.loads(text) == value
    assert "跑" in text
    assert not any(c in text for c in "\x1b\x9b\u202e\udcff")


def test_a_spreadsheet_finds_no_formula_and_every_number():
    cells = ["=1+1", "+cmd", "-2.5", -2.5, "@x", "\tx", "a=b", "'=x", "-", "1e-3"]
    (row,) = csv.reader(io.StringIO(csv_text([cells])))
    assert row == ["'=1+1", "'+cmd", "-2.5", "-2.5", "'@x", "'\tx", "a=b", "''=x", "'-", "1e-3"]
    assert [from_csv_cell(cell) for cell in row] == [str(cell) for cell in cells]


def test_a_terminal_without_the_characters_of_a_name_shows_them_escaped():
    command = [sys.executable, "-m", "clipwise", "explain", "tsm_tiny", "name=跳舞"]
    done = subprocess.run(
        command, capture_output=True, text=True, env={**os.environ, "PYTHONIOENCODING": "ascii:strict"}
    )
    assert done.returncode == 0, done.stderr
    assert "\\u8df3\\u821e" in done.stdout


def test_a_line_break_in_a_name_breaks_no_table(capsys):
    from clipwise.cli.common import print_table

    print_table([["new\nline.mp4", 1], ["a", 2]])
    assert capsys.readouterr().out == "new\\nline.mp4  1\na              2\n"


_COUNTED = [
    "videos",
    "clips",
    "classes",
    "frames",
    "segments",
    "faults",
    "entries",
    "files",
    "names",
    "labels",
    "weights",
    "samples",
    "tensors",
    "outputs",
    "groups",
    "parts",
    "positions",
    "channels",
    "steps",
    "epochs",
    "batches",
    "processes",
    "devices",
    "neighbors",
    "inputs",
    "runs",
    "rows",
    "columns",
    "windows",
    "packets",
    "levels",
    "times",
    "pairs",
    "numbers",
    "predictions",
    "subfolders",
    "sizes",
    "crops",
    "sets",
    "values",
    "keys",
    "scores",
    "proposals",
    "views",
]
_AT_LEAST_TWO = {
    "len(CLASSES)",  # of the demo
    "limits.max_files",
    "num_samples",  # of a grid: 32
    "num_clips",  # of thousands of frames
    "self.MAX_SUBSTITUTES",
    "validated['num_clips']",  # "clips or segments"
    "num_frames",  # less than 1 (data/sampling)
    "self.num_frames",  # what a table of frames says
    "first.processes",  # said if there are several
    "len(facts['classes']) - len(shown)",  # "more classes"
}


def _bare_counts(source: str) -> list[tuple[int, str, str]]:
    """(line, expression, words) of ``f"{count} videos"`` outside of ``__repr__``."""
    tree = ast.parse(source)
    of_programmers = [f for f in ast.walk(tree) if isinstance(f, ast.FunctionDef) and f.name == "__repr__"]
    skipped = {id(node) for function in of_programmers for node in ast.walk(function)}
    found = []
    for node in ast.walk(tree):
        if not isinstance(node, ast.JoinedStr) or id(node) in skipped:
            continue
        for value, text in itertools.pairwise(node.values):
            if not isinstance(value, ast.FormattedValue) or not isinstance(text, ast.Constant):
                continue
            expression = ast.unparse(value.value)
            count = re.match(r"len\(|int\(|num_|n$", expression.rpartition(".")[2]) or expression.startswith("len(")
            words = re.match(rf" (?:[a-z-]+ )?(?:{'|'.join(_COUNTED)})\b", str(text.value))
            if words and count and value.format_spec is None and expression not in _AT_LEAST_TWO:
                found.append((value.lineno, expression, words[0]))
    return found


def test_no_sentence_says_1_videos():
    assert _bare_counts('f"{len(x)} videos"; f"{num_seen} damaged frames each"; f"{name} holds videos"') == [
        (1, "len(x)", " videos"),
        (1, "num_seen", " damaged frames"),
    ]
    root = Path(clipwise.__file__).parent
    bare = [
        (str(path.relative_to(root)), *one)
        for path in sorted(root.rglob("*.py"))
        for one in _bare_counts(path.read_text("utf-8"))
        if (path.name, one[1]) != ("log.py", "len(classes)")  # one class is refused
    ]
    assert bare == []
