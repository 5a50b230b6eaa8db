"""Recipes, passports, printed JSON and result files carry a schema version; a newer one is refused in a sentence."""

import json

import pytest
import yaml

from clipwise.cli import main
from clipwise.errors import DataError, RecipeError
from clipwise.infer.fusion import read_scores
from clipwise.io.text import JSON_SCHEMA, with_schema
from clipwise.recipe import SCHEMA, dump_recipe, load_recipe, make_recipe
from clipwise.report.comparison import read_result


def test_a_saved_recipe_carries_its_schema_and_reads_back(trained, tmp_path):
    saved = trained.parent / "recipe.yaml"
    assert saved.read_text(encoding="utf-8").startswith(f"schema: {SCHEMA}\n")
    text = dump_recipe(load_recipe(saved))
    assert text == saved.read_text(encoding="utf-8")
    (tmp_path / "old.yaml").write_text(text.partition("\n")[2], encoding="utf-8")
    assert dump_recipe(load_recipe(tmp_path / "old.yaml")) == text  # of 0.1: no schema


@pytest.mark.parametrize(
    ("value", "said"),
    [
        (
            SCHEMA + 1,
            rf"new\.yaml:1 has schema {SCHEMA + 1}, newer than this clipwise knows \({SCHEMA}\)\. Update: pip",
        ),
        ("x", r"new\.yaml:1: schema: expected a whole number from 1 to 1, given 'x'"),
        (0, r"expected a whole number from 1 to 1, given 0"),
        (True, r"expected a whole number from 1 to 1, given True"),
    ],
)
def test_a_recipe_of_a_newer_schema_is_refused_with_its_place(value, said, tmp_path, capsys):
    values = {"schema": value, "model": "tsm_tiny", "a_key_of_the_future": 3}
    (tmp_path / "new.yaml").write_text(yaml.safe_dump(values, sort_keys=False), encoding="utf-8")
    with pytest.raises(RecipeError, match=said):
        load_recipe(tmp_path / "new.yaml")
    assert main(["explain", str(tmp_path / "new.yaml")]) == 2
    assert "a_key_of_the_future" not in capsys.readouterr().err


def test_a_dictionary_with_a_schema_is_a_recipe():
    values = load_recipe("tsm_tiny").model_dump()
    assert make_recipe({"schema": SCHEMA, **values}) == make_recipe(values)
    with pytest.raises(RecipeError, match="newer"):
        make_recipe({**values, "schema": SCHEMA + 1})


@pytest.mark.parametrize(
    "words",
    [
        ["recipes", "--json"],
        ["explain", "tsm_tiny", "--json"],
        ["diff", "tsm_tiny", "tsn_tiny", "--json"],
        ["info", "tsm_tiny", "--json"],
        ["info", "--zoo", "--json"],
        ["doctor", "--json"],
    ],
)
def test_what_commands_print_carries_its_schema(words, capsys):
    assert main(words) == 0
    answer = json.loads(capsys.readouterr().out)
    rows = answer if isinstance(answer, list) else [answer]
    assert rows
    assert all(row["schema"] == JSON_SCHEMA for row in rows)


def test_every_command_prints_json_through_one_function():
    """So that none forgets the schema; a line of a stream has its own."""
    from pathlib import Path

    import clipwise.cli

    folder = Path(clipwise.cli.__file__).parent
    raw = [p.name for p in folder.glob("*.py") if "print(json" in p.read_text(encoding="utf-8")]
    assert sorted(raw) == ["common.py", "stream.py"]
    assert all("with_schema(" in (folder / name).read_text(encoding="utf-8") for name in raw)
    assert with_schema([{"a": 1}, 2]) == [{"schema": JSON_SCHEMA, "a": 1}, 2]


def test_a_result_file_of_a_newer_schema_is_refused(tmp_path):
    row = {"path": "a.mp4", "label": 0, "prediction": 0, "score": 1.0, "scores": [1.0, 0.0]}
    content = {"classes": ["a", "b"], "metrics": {}, "failures": {}, "results": [row]}
    path = tmp_path / "r.json"
    path.write_text(json.dumps(content), encoding="utf-8")  # of 0.1
    assert len(read_scores(path)) == len(read_result(path).paths) == 1
    path.write_text(json.dumps({"schema": JSON_SCHEMA + 1, **content}), encoding="utf-8")
    for read in (read_scores, read_result):
        with pytest.raises(DataError, match=rf"has schema {JSON_SCHEMA + 1}, newer than this clipwise knows"):
            read(path)
