"""Files that are not what their names say: one sentence that names the file, no traceback, no memory lost."""

import json

import pytest
import torch
from safetensors.torch import save_file

from clipwise.cli import main
from clipwise.data.labels import read_classes
from clipwise.engine.checkpoint import Passport, load_model, read_passport, save_weights
from clipwise.engine.resume import load_state
from clipwise.errors import CheckpointError, ClipwiseError, RecipeError
from clipwise.io.parse import parse_json
from clipwise.models import create_model
from clipwise.recipe import load_recipe

DEEP = 200_000
PASSPORTS = {
    "no JSON": "not JSON",
    "deep": "[" * DEEP + "]" * DEEP,
    "list": "[]",
    "empty": "{}",
    "number": "1" + "0" * 5000,
    "null": "null",
    "model is no name": '{"model": []}',
    "recipe is a list": '{"model": "tsn_tiny", "recipe": []}',
    "model_args is text": '{"model": "tsn_tiny", "model_args": "x"}',
    "classes are numbers": '{"model": "tsn_tiny", "classes": [1, 2]}',
    "epoch is text": '{"model": "tsn_tiny", "epoch": "x"}',
    "metrics are null": '{"model": "tsn_tiny", "metrics": null}',
    "another folder": '{"model": "tsn_tiny", "state": "../../x-{rank}.pt"}',
    "a terabyte of spaces": '{"model": "tsn_tiny", "state": "{rank:1000000000000}"}',
}


@pytest.mark.parametrize("what", PASSPORTS)
def test_a_passport_that_is_not_ours(tmp_path, what, capsys):
    path = tmp_path / "x.safetensors"
    save_file({"w": torch.zeros(1)}, path, metadata={"clipwise": PASSPORTS[what]})
    with pytest.raises(CheckpointError, match=r"x\.safetensors.*passport"):
        read_passport(path)
    for words in (["info", str(path)], ["predict", str(path), "v.mp4"], ["test", str(path), "--data", str(tmp_path)]):
        assert main(words) == 2
        told = capsys.readouterr().err
        assert told.count("\n") == 1
        assert "Traceback" not in told


@pytest.mark.parametrize(
    ("model", "args"),
    [("tsn_tiny", {"num_classes": 10**12}), ("tsn_tiny", {"num_classes": -1}), ("tsn_tiny", {"dropout": [1]})],
)
def test_a_passport_whose_model_can_not_be_made(tmp_path, model, args):
    save_weights(
        tmp_path / "x.safetensors", create_model("tsn_tiny", num_classes=3).state_dict(), Passport(model, args)
    )
    with pytest.raises(ClipwiseError, match="tsn_tiny"):
        load_model(tmp_path / "x.safetensors")


def test_our_own_state_name_is_found(tmp_path):
    torch.save({"epoch": 2}, tmp_path / "state-1-20-0-rank1.pt")
    save_weights(tmp_path / "x.safetensors", {}, Passport("tsn_tiny", state="state-1-20-0-rank{rank}.pt"))
    passport = read_passport(tmp_path / "x.safetensors")
    assert load_state(tmp_path / "x.safetensors", passport, rank=1) == {"epoch": 2}


DOUBLING = "a0: &a0 [x, x]\n" + "".join(f"a{i}: &a{i} [*a{i - 1}, *a{i - 1}]\n" for i in range(1, 40))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("a: " + "[" * DEEP, "not valid YAML"),
        ("a: " + "[" * DEEP + "]" * DEEP, "nested too deep"),
        ("a: &a [*a]", "nested too deep, or a reference to itself"),
        (DOUBLING, "its references stand for more than 1,000,000 values"),
        ("lr: " + "9" * 6000, "not valid YAML|lr"),
        ("a: 2024-99-99", "not valid YAML|unknown key"),
        (b"\xff\xfem\x00", "is not UTF-8 text"),
        ("a: !!python/object/apply:os.system [exit 7]", "not valid YAML"),
    ],
    ids=["open", "deep", "itself", "doubling", "digits", "date", "UTF-16", "code"],
)
def test_recipes(tmp_path, text, message):
    path = tmp_path / "r.yaml"
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    with pytest.raises(RecipeError, match=message) as error:
        load_recipe(path)
    assert str(path) in str(error.value)
    assert len(str(error.value)) < 2000


@pytest.mark.parametrize(
    "text", ["[" * DEEP, "[" * DEEP + "]" * DEEP, '{"a":' * DEEP, "1" * 6000, b"\xff\xfe["], ids=str.__len__ and None
)
def test_json_ends_in_one_kind_of_error(text):
    with pytest.raises(json.JSONDecodeError):
        parse_json(text)


@pytest.mark.parametrize(
    "content",
    ["deep", "digits", "[]", "{}", "null", "3", '"x"', '[{"a": 1}]', '{"results": [3]}', '{"database": {"v": 3}}'],
)
@pytest.mark.parametrize(
    "words",
    [
        ["eval-proposals", "{file}", "{file}"],
        ["eval-detections", "{file}", "{file}"],
        ["fuse", "{file}", "{file}"],
        ["compare", "{file}", "{file}"],
        ["check", "{file}"],
    ],
    ids=lambda words: words[0],
)
def test_json_files_of_every_verb(tmp_path, words, content, capsys):
    path = tmp_path / "x.json"
    path.write_text({"deep": "[" * DEEP + "]" * DEEP, "digits": "1" * 6000}.get(content, content))
    code = main([word.format(file=path) for word in words])
    told = capsys.readouterr()
    assert "Traceback" not in told.err
    assert code in (1, 2) or words[0] == "check", told


def test_a_number_of_thousands_of_digits_as_a_label(tmp_path, capsys):
    (tmp_path / "list.txt").write_text(f"a.mp4 {'9' * 5000}\n")
    assert main(["check", str(tmp_path / "list.txt")]) == 2
    assert "is too large; classes are counted from 0" in capsys.readouterr().err
    (tmp_path / "classes.txt").write_text(f"{'9' * 5000} x\n{'8' * 5000} y\n")
    assert len(read_classes(tmp_path / "classes.txt")) == 2


def test_a_mark_of_byte_order_is_no_part_of_json(tmp_path, capsys):
    for verb in ("eval-proposals", "compare"):
        (tmp_path / "bom.json").write_text('{"results": 3}', encoding="utf-8-sig")
        assert main([verb, str(tmp_path / "bom.json"), str(tmp_path / "bom.json")]) == 2
        text = capsys.readouterr().err
        assert "BOM" not in text
        assert "'results'" in text


def test_a_name_that_is_half_a_character_is_written_as_its_escape(tmp_path):
    content = '{"database": {"\\ud800": {"duration": 3, "subset": "training", "annotations": [{"segment": [0, 1], "label": "x"}]}}}'
    (tmp_path / "in.json").write_text(content)
    words = ["prepare", "annotations", str(tmp_path / "in.json"), str(tmp_path / "out.json"), "--to", "activitynet"]
    assert main(words) == 0
    assert "\\ud800" in (tmp_path / "out.json").read_text(encoding="utf-8")
    assert list(json.loads((tmp_path / "out.json").read_text(encoding="utf-8"))["database"]) == ["\ud800"]


def test_a_name_of_a_million_letters_is_shown_in_part(tmp_path, capsys):
    (tmp_path / "list.txt").write_text("a" * 1_000_000 + " 0\n")
    assert main(["prepare", "lists", str(tmp_path / "list.txt"), str(tmp_path / "out")]) == 2
    assert len(capsys.readouterr().err) < 5000


def test_what_is_no_score_file_is_named_without_a_program_s_words(tmp_path, capsys):
    (tmp_path / "x.json").write_text("true")
    assert main(["fuse", str(tmp_path / "x.json"), str(tmp_path / "x.json")]) == 2
    assert "or it is damaged.\n" in capsys.readouterr().err
