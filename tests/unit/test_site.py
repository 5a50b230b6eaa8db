"""What docs/build.py makes from the code: every page of both languages, and tables that are the translators' own."""

import importlib
import re
from pathlib import Path
from unittest import mock

import pytest

from clipwise.cli import VERBS
from clipwise.recipe import list_recipes
from helpers import load_script

ROOT = Path(__file__).resolve().parents[2]
build = load_script(ROOT / "docs/build.py")


@pytest.fixture(scope="module")
def pages(tmp_path_factory):
    """Language -> name of the page -> text, as Zensical gets them."""
    found = {}
    for language in build.NAV:
        folder = tmp_path_factory.mktemp("site") / language
        build.write_sources(language, folder)  # refuses pages that no menu lists, and menus without a page
        found[language] = {str(p.relative_to(folder)): p.read_text(encoding="utf-8") for p in folder.rglob("*.md")}
    return found


def test_languages_have_the_same_pages(pages):
    assert pages["en"].keys() == pages["zh"].keys()
    assert {f"commands/{verb}.md" for verb in VERBS} <= pages["en"].keys()


def test_commands_are_described_in_chinese(pages):
    table = pages["zh"]["commands/index.md"]
    for verb, (_, does) in VERBS.items():
        assert does not in table, f"docs/build.py, WORDS: no Chinese for {verb}"


@pytest.mark.parametrize("language", list(build.NAV))
def test_every_recipe_is_listed(pages, language):
    for name in list_recipes():
        assert f"| `{name}` |" in pages[language]["recipe_table.md"]


@pytest.mark.parametrize("language", list(build.NAV))
def test_tables_of_keys_are_those_of_the_translators(pages, language):
    theirs, paddle = (pages[language][f"{name}_keys.md"] for name in ("mmaction2", "paddlevideo"))
    style, paddle_style = (importlib.import_module(name) for name in ("mmaction2_style", "paddle_style"))
    for key, ours in style.OPTIONS.items():
        assert f"| `{key}` | `{ours}` |" in theirs
    for key, why in style.WITHOUT_EFFECT.items():
        assert f"| `{key}` | {why} |" in theirs
    for key, ours in paddle_style.CONFIG_KEYS.items():
        assert f"| `{key}` | {', '.join(f'`{name}`' for name in ours)} |" in paddle
    for key, ours in paddle_style.TRAINING_KEYS.items():
        assert f"| `{key}` | `{ours}` |" in paddle


def test_tables_of_flags_say_what_the_translators_do(pages):
    theirs, paddle = (pages["en"][f"{name}_keys.md"] for name in ("mmaction2", "paddlevideo"))
    for row in (
        "| `--resume-from` | `--resume CKPT` |",
        "| `--amp` | `--amp bf16` |",
        "| `--show-dir` | `--report DIR` |",
        "| `--validate` | the default |",
    ):
        assert row in theirs
    assert re.search(r"\| `--gpus` \| --gpus and --gpu-ids are not taken", theirs)
    for row in (
        "| `--epoch` | `epochs=6 schedule.milestones=[2.0, 4.0]` |",
        "| `--resume` | `--init RESUME.pdparams` |",  # PaddleCV's takes the weights and starts at epoch 0
        "| `--save_dir` | `--work-dir SAVE_DIR` |",
        "| `--video_path` | `INPUT, a video` |",
        "| `--use_gpu` | `--device cpu for False` |",
    ):
        assert row in paddle


def test_the_help_of_a_prediction_is_its_table(capsys):
    style = importlib.import_module("paddle_style")
    with pytest.raises(SystemExit):
        style._parse(["predict", "--help"])
    said = " ".join(capsys.readouterr().out.split())
    flags = set(re.findall(r"--(\w+) [A-Z]", said.partition("options:")[2])) - {
        "model_name",
        "config",
        "batch_size",
        "log_interval",
    }
    assert flags - set(style.WITHOUT_EFFECT) == style.PREDICTION_FLAGS.keys()
    for ours in style.PREDICTION_FLAGS.values():
        assert ours in said


def test_a_changed_translator_changes_its_table():
    style = importlib.import_module("mmaction2_style")
    with mock.patch.dict(style.OPTIONS, {"some.key": "batch_size"}):
        assert "| `some.key` | `batch_size` |" in build.mmaction2_keys(str)


def test_long_signatures_and_usages_are_in_lines():
    assert build.signed("f", "(a: int) -> str") == "f(a: int) -> str"
    signature = f"(a: dict[str, int], {'b' * 90}: tuple[int, int] = (1, 2)) -> str"
    assert build.signed("f", signature).splitlines() == [
        "f(",
        "    a: dict[str, int],",
        f"    {'b' * 90}: tuple[int, int] = (1, 2)",
        ") -> str",
    ]
    assert build.wrapped("clipwise x [--a A] " + "[--b [B]] " * 10).splitlines()[1].startswith("    [--b [B]]")


def test_the_reference_describes_fields_and_unions(pages):
    text = pages["en"]["api.md"]
    assert "Recipe = RecognitionRecipe | LocalizationRecipe" in text
    assert "PEP 604" not in text
    assert "- `failures`: Path and reason of each video that could not be decoded." in text
    assert "metrics: dict[str, float] = ...," in text
    assert "TestResult.confusion" in text
