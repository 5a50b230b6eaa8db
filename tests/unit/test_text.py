"""Names of files and classes are strangers' text: they steer neither a terminal nor a spreadsheet."""

import csv
import io
import json
import os
import subprocess
import sys

import pytest

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
