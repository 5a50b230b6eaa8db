"""What the documentation says can be done: commands parse, keys exist, names can be imported, links lead somewhere.

``tests/unit/test_docs_run.py`` executes the blocks.
"""

import ast
import importlib
import re
import shlex
import sys
from pathlib import Path

import pytest

from clipwise.cli import VERBS, make_parser
from clipwise.recipe import list_recipes, load_recipe

ROOT = Path(__file__).resolve().parents[2]
PAGES = sorted([*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md")])
PAGES = [page for page in PAGES if page.name != "CHANGELOG.md"]


def blocks(page: Path, language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```", page.read_text(encoding="utf-8"), re.DOTALL | re.MULTILINE)


def command_lines(page: Path) -> list[list[str]]:
    """The words after ``clipwise`` of each command line in the page's blocks."""
    found = []
    for block in blocks(page, "(?:bash)?"):
        for line in block.replace("\\\n", " ").splitlines():
            line = re.sub(r"\s+#\s.*", "", line)  # a comment
            match = re.search(r"(?:^|\bclipwise(?::cuda)? |-m )clipwise (.+)", line) or re.match(r"clipwise (.+)", line)
            if match and "…" not in match[1] and "|" not in match[1].split(">")[0]:
                text = match[1].split(">")[0]
                found.append(shlex.split(text.rstrip("'") if text.count("'") % 2 else text))
    return found


def name_of(page: Path) -> str:
    return str(page.relative_to(ROOT))


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_commands_are_understood(page):
    for words in command_lines(page):
        verb, *rest = words
        if verb.startswith("-"):
            continue
        assert verb in VERBS, f"{name_of(page)}: clipwise {verb} is no command"
        parser = make_parser(verb)
        try:
            args = parser.parse_args(rest) if parser._subparsers else parser.parse_intermixed_args(rest)
        except SystemExit:
            pytest.fail(f"{name_of(page)}: clipwise {shlex.join(words)} is not understood")
        keys = [word for word in getattr(args, "overrides", None) or [] if re.match(r"[\w.]+=", word)]
        recipe = getattr(args, "recipe", None)
        if keys and verb in ("train", "explain"):
            load_recipe(recipe if recipe in list_recipes() else "tsm_tiny", keys)


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_options_that_are_named_exist(page):
    text = page.read_text(encoding="utf-8")
    for span in re.findall(r"`clipwise ([a-z-]+) ([^`]*)`", text):
        verb, rest = span
        assert verb in VERBS, f"{name_of(page)}: clipwise {verb} is no command"
        parser = make_parser(verb)
        known = set(parser._option_string_actions)
        for action in parser._actions:
            for below in (getattr(action, "choices", None) or {}).values() if parser._subparsers else ():
                known |= set(getattr(below, "_option_string_actions", ()))
        for option in re.findall(r"(?<!\S)--[a-z][\w-]*", rest):
            assert option in known, f"{name_of(page)}: clipwise {verb} has no {option}"


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_recipes_that_are_named_exist(page):
    known = set(list_recipes())
    text = page.read_text(encoding="utf-8")
    for name in re.findall(
        r"`((?:tsn|tsm|slowonly|tpn|bmn|actionformer|tridet)_(?:\w|-)+_(?:\w|-)*(?:rgb|flow|feature))`", text
    ):
        assert name in known, f"{name_of(page)}: no recipe {name}"


def known_keys() -> set[str]:
    from clipwise.recipe.localization_keys import LocalizationRecipe
    from clipwise.recipe.recognition_keys import RecognitionRecipe

    found = set()
    for model in (LocalizationRecipe, RecognitionRecipe):
        for name, field in model.model_fields.items():
            group = getattr(type(field.default), "model_fields", {})
            found |= {f"{field.alias or name}.{below.alias or key}" for key, below in group.items()}
    return found


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_keys_that_are_named_exist(page):
    known = known_keys()
    groups = "|".join(sorted({key.partition(".")[0] for key in known}))
    for span in re.findall(r"`([^`\n]+)`", page.read_text(encoding="utf-8")):
        for key in re.findall(rf"(?<![\w./-])((?:{groups})\.(?!txt|json|csv|safetensors)[a-z_0-9]+)(?=[=:]|$)", span):
            assert key in known, f"{name_of(page)}: no recipe key {key}"


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_python_names_exist(page):
    for block in blocks(page, "python"):
        tree = ast.parse(block)
        aliases = {}
        for node in ast.walk(tree):
            if isinstance(node, ast.Import):
                aliases |= {a.asname or a.name: a.name for a in node.names if a.name.startswith("clipwise")}
            elif isinstance(node, ast.ImportFrom) and (node.module or "").startswith("clipwise"):
                module = importlib.import_module(node.module)
                for alias in node.names:
                    assert hasattr(module, alias.name), f"{name_of(page)}: {node.module} has no {alias.name}"
        for node in ast.walk(tree):
            if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name) and node.value.id in aliases:
                module = importlib.import_module(aliases[node.value.id])
                assert hasattr(module, node.attr), f"{name_of(page)}: {aliases[node.value.id]} has no {node.attr}"


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_links_lead_somewhere(page):
    generated = generated_names()
    text = re.sub(r"^```.*?^```", "", page.read_text(encoding="utf-8"), flags=re.DOTALL | re.MULTILINE)
    for target in re.findall(r"\]\(([^)\s]+)\)", text):
        if re.match(r"https?://|mailto:", target):
            continue
        path, _, anchor = target.partition("#")
        file = (page.parent / path).resolve() if path else page
        if not file.exists():
            assert path in generated, f"{name_of(page)}: {target} does not exist"
            assert page.parent.parent.name == "docs"
        elif anchor and file.suffix == ".md":
            assert anchor in anchors(file), f"{name_of(page)}: {path or page.name} has no #{anchor}"


def generated_names() -> set[str]:
    sys.path.insert(0, str(ROOT / "docs"))
    try:
        build = importlib.import_module("build")
        listed = {f"{page}.md" for pages in build.NAV["en"].values() for page in pages}
        return (build.GENERATED & listed) | {f"commands/{verb}.md" for verb in VERBS}
    finally:
        sys.path.pop(0)


def anchors(page: Path) -> set[str]:
    """The anchors of a page's headings, as GitHub and Python-Markdown make them."""
    headings = re.findall(r"^#+ (.+)$", page.read_text(encoding="utf-8"), re.MULTILINE)
    plain = [re.sub(r"[^\w\- ]", "", re.sub(r"`|\[|\]\([^)]*\)", "", heading)).strip().lower() for heading in headings]
    return {text.replace(" ", "-") for text in plain}


def test_english_and_chinese_have_the_same_pages():
    names = [{page.name for page in (ROOT / "docs" / language).glob("*.md")} for language in ("en", "zh")]
    assert names[0] == names[1]


def content(page: Path) -> dict[str, list]:
    """What a page holds whatever its language: levels of headings, shapes of tables, paragraphs and items, code, images, figures."""
    text = re.sub(r"<!--.*?-->", "", page.read_text(encoding="utf-8"))
    body = re.sub(r"^```.*?^```", "", text, flags=re.DOTALL | re.MULTILINE)
    tables = re.findall(r"(?:^\|.*\n?)+", body, re.MULTILINE)
    plain = re.sub(r"`[^`\n]+`", "", re.sub(r"\]\([^)]*\)", "]", body))
    figures = re.findall(r"(?<![\w.])(\d+(?:[.,]\d+)+|\d{2,})(?!\d)(?! ?(?:万|亿|million|billion))", plain)
    return {
        "headings": [len(level) for level in re.findall(r"^(#+) ", body, re.MULTILINE)],
        "tables (rows, columns)": [(len(t.splitlines()), t.splitlines()[0].count("|") - 1) for t in tables],
        "items of lists": [len(re.findall(r"^ *(?:[-*]|\d+\.) ", body, re.MULTILINE))],
        "blocks": re.findall(r"^```(\w*)$", text, re.MULTILINE),
        "code": sorted(set(re.findall(r"`([^`\n]+)`", body))),
        "images": re.findall(r"!\[[^\]]*\]\(([^)]+)\)", body),
        "figures": sorted(set(figures)),
    }


@pytest.mark.parametrize("page", sorted((ROOT / "docs/en").glob("*.md")), ids=lambda page: page.name)
def test_chinese_pages_hold_what_the_english_ones_hold(page):
    english, chinese = content(page), content(ROOT / "docs/zh" / page.name)
    for part, expected in english.items():
        missing = [item for item in expected if item not in chinese[part]]
        more = [item for item in chinese[part] if item not in expected]
        assert chinese[part] == expected, f"{page.name}, {part}: zh lacks {missing}, en lacks {more}"
    text = re.sub(r"^```.*?^```", "", (ROOT / "docs/zh" / page.name).read_text(encoding="utf-8"), flags=re.S | re.M)
    left = [
        line
        for line in text.splitlines()
        if len(re.findall(r"\b[a-z]{2,}\b", re.sub(r"`[^`]+`|\([^)]+\)", "", line))) > 25
    ]
    assert not left, f"{page.name}: not translated: {left[0][:80]}"


def test_every_block_says_its_language():
    """Only marked blocks are executed; one without a language would go by unseen."""
    for page in PAGES:
        opened = re.findall(r"^```.*$", page.read_text(encoding="utf-8"), re.MULTILINE)[::2]
        assert set(opened) <= {"```bash", "```python", "```text", "```yaml"}, f"{name_of(page)}: {set(opened)}"
        if page.parent.parent.name == "docs":
            indented = re.findall(
                r"^ {4}(?:clipwise|python|OMP_\S+ python) .+", page.read_text(encoding="utf-8"), re.MULTILINE
            )
            assert not indented, f"{name_of(page)}: not a marked block: {indented[0]}"
