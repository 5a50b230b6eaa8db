"""Build the documentation site: what people wrote in docs/en and docs/zh, and reference pages made from the code.

    pip install "clipwise[docs]"
    python docs/build.py                  # writes site/ (English) and site/zh/ (Chinese)
    python docs/build.py --pages-only     # the sources with the generated pages alone, in site-src/

Generated: a page per command (from argparse), the Python reference (from docstrings), every recipe with its published figure, every recipe
key, the tables of MMAction2's and PaddleVideo's keys and flags (from the translators' own tables), llms.txt and llms-full.txt.
"""

from __future__ import annotations

import argparse
import importlib
import inspect
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(ROOT / "src"), str(ROOT / "tools")]

# title of a group -> its pages; a page that is not there is an error, a page that stands in no group as well
NAV = {
    "en": {
        "Start": ["index", "start", "own_data", "finetune", "python"],
        "Guides": ["data", "annotations", "training", "localization", "long_videos", "encoders", "understanding", "deploy", "export", "serve", "cluster", "models"],
        "Coming from": ["from_mmaction2", "from_paddlevideo", "mmaction2_keys", "paddlevideo_keys", "parity"],
        "Reference": ["commands/index", "api", "recipe_keys", "recipe_table", "recipes", "zoo"],
        "Measured": ["speed", "bmn_speed"],
        "More": ["faq", "hub", "dependencies", "policy"],
    },
    "zh": {
        "开始": ["index", "start", "own_data", "finetune", "python"],
        "指南": ["data", "annotations", "training", "localization", "long_videos", "encoders", "understanding", "deploy", "export", "serve", "cluster", "models"],
        "迁移": ["from_mmaction2", "from_paddlevideo", "mmaction2_keys", "paddlevideo_keys", "parity"],
        "参考": ["commands/index", "api", "recipe_keys", "recipe_table", "recipes", "zoo"],
        "实测": ["speed", "bmn_speed"],
        "更多": ["faq", "hub", "dependencies", "policy"],
    },
}  # fmt: skip
GENERATED = {"api.md", "recipe_table.md", "recipe_keys.md", "mmaction2_keys.md", "paddlevideo_keys.md"}
HEAD = {  # of generated pages
    "en": "<!-- made by docs/build.py -->\n",
    "zh": "<!-- 由 docs/build.py 生成 -->\n",
}
WORDS: dict[str, dict[str, str]] = {
    "en": {},
    "zh": {
        "Commands": "命令", "Every recipe": "全部配置", "Recipe keys": "配置的键", "Python reference": "Python 参考",
        "MMAction2's keys": "MMAction2 的键", "PaddleVideo's flags": "PaddleVideo 的参数", "recipe": "配置", "model": "模型", "published": "公布的结果",
        "key": "键", "default": "默认值", "meaning": "含义", "ours": "clipwise 的键", "theirs": "原来的键", "without effect": "不起作用", "why": "原因",
        "command": "命令", "does": "作用", "epochs": "轮数", "Recognition": "动作识别", "Localization": "时序动作定位", "flag": "参数",
    },
}  # fmt: skip


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=ROOT / "site")
    parser.add_argument("--python", default=sys.executable, help="the interpreter that has Zensical")
    parser.add_argument("--pages-only", action="store_true", help="do not run Zensical")
    args = parser.parse_args()
    sources = ROOT / "site-src"
    shutil.rmtree(sources, ignore_errors=True)
    for language in NAV:
        write_sources(language, sources / language)
    if args.pages_only:
        print(sources)
        return 0
    shutil.rmtree(args.out, ignore_errors=True)
    for language in NAV:
        config = sources / f"{language}.toml"
        config.write_text(site_config(language), encoding="utf-8")
        done = subprocess.run([args.python, "-m", "zensical", "build", "--clean", "-f", str(config)], cwd=sources)
        if done.returncode:
            return done.returncode
    shutil.move(sources / "site", args.out)
    for name, text in llms(sources / "en").items():
        (args.out / name).write_text(text, encoding="utf-8")
    print(args.out / "index.html")
    return 0


def write_sources(language: str, folder: Path) -> None:
    """All pages of one language; a page that the language does not have yet is an error."""
    shutil.copytree(ROOT / "docs" / language, folder)
    for name in ("images", "demo"):
        shutil.copytree(ROOT / "docs" / name, folder / name)
    for name, text in generated_pages(language).items():
        path = folder / name
        if path.exists():
            raise SystemExit(f"docs/{language}/{name} is written by hand and generated")
        path.parent.mkdir(exist_ok=True)
        path.write_text(HEAD[language] + text, encoding="utf-8")
    for page in folder.glob("*.md"):
        page.write_text(site_links(page.read_text(encoding="utf-8"), language), encoding="utf-8")
    listed = {f"{page}.md" for pages in NAV[language].values() for page in pages}
    there = {
        str(page.relative_to(folder))
        for page in folder.rglob("*.md")
        if page.parent.name != "commands" or page.stem == "index"
    }
    if listed != there:
        raise SystemExit(
            f"pages of docs/{language}: not in NAV {sorted(there - listed)}, not written {sorted(listed - there)}"
        )


def site_links(text: str, language: str) -> str:
    """Links between the repository's files, as the site has them."""
    text = text.replace("](../images/", "](images/").replace("](../demo/", "](demo/")
    other = "zh" if language == "en" else ".."
    text = text.replace(f"](../{language}/", "](")
    text = re.sub(r"\]\(\.\./(?:en|zh)/(\w+)\.md", rf"]({other}/\1.html", text)
    return re.sub(r"\[([^\]]+)\]\(\.\./\.\./[^)]+\)", r"\1", text)  # files beside the documentation are not on the site


def generated_pages(language: str) -> dict[str, str]:
    """Name of each page made from the code, with its text."""

    def word(text: str) -> str:
        return WORDS[language].get(text, text)

    pages = {f"commands/{verb}.md": text for verb, text in command_pages().items()}
    pages["commands/index.md"] = command_index(word)
    pages["api.md"] = f"# {word('Python reference')}\n\n{api_reference()}"
    pages["recipe_table.md"] = recipe_table(word)
    pages["recipe_keys.md"] = recipe_keys(word)
    pages["mmaction2_keys.md"] = mmaction2_keys(word)
    pages["paddlevideo_keys.md"] = paddlevideo_keys(word)
    return pages


def command_pages() -> dict[str, str]:
    from clipwise.cli import VERBS, make_parser
    from clipwise.cli.skill import options, usage

    pages = {}
    for verb, (_, does) in VERBS.items():
        parser = make_parser(verb)
        lines = "\n".join(f"- {line}" for line in options(parser))
        about = parser.description or does
        pages[verb] = f"# clipwise {verb}\n\n{markdown_of(about)}\n\n```text\n{usage(parser)}\n```\n\n{lines}\n"
    return pages


def command_index(word) -> str:
    from clipwise.cli import VERBS

    rows = [f"| [`{verb}`]({verb}.md) | {does} |" for verb, (_, does) in VERBS.items()]
    return "\n".join([f"# {word('Commands')}", "", f"| {word('command')} | {word('does')} |", "|---|---|", *rows, ""])


def api_reference() -> str:
    """Each public name with its signature and its docstring."""
    import clipwise

    parts = []
    for name in clipwise.__all__:
        if name.startswith("__"):
            continue
        thing = getattr(clipwise, name)
        parts.append(entry(name, thing))
        if inspect.isclass(thing):
            members = [(m, getattr(thing, m)) for m in vars(thing) if not m.startswith("_")]
            parts += [
                entry(f"{name}.{m}", value, 3)
                for m, value in members
                if inspect.isroutine(value) or isinstance(value, property)
            ]
    return "\n".join(parts)


def entry(name: str, thing: Any, level: int = 2) -> str:
    try:
        signature = "" if isinstance(thing, property) else str(inspect.signature(thing))
    except (TypeError, ValueError):
        signature = ""
    signature = re.sub(r" at 0x[0-9a-f]+|<factory>|'", "", signature.replace("clipwise.", ""))
    return f"{'#' * level} {name}\n\n```text\n{name}{signature}\n```\n\n{markdown_of(inspect.getdoc(thing) or '')}\n"


def markdown_of(docstring: str) -> str:
    """A Google-style docstring as Markdown: its sections as lists, roles as code."""
    text = re.sub(r":\w+:`~?([^`]+)`", lambda m: f"`{m[1].rpartition('.')[2]}`", docstring.strip())
    text = text.replace("``", "`")
    lines: list[str | None] = []
    section = False
    for line in text.splitlines():
        if re.fullmatch(r"(Args|Returns|Raises|Attributes|Yields):", line):
            section = True
            lines += ["", f"**{line[:-1]}**", ""]
        elif section and re.match(r" {4}\S", line):
            lines.append("- " + re.sub(r"^([\w*, ]+):", r"`\1`:", line.strip()))
        elif section and line.startswith("     "):
            lines[-1] += " " + line.strip()
        elif not section and re.match(r" {2,4}\S|clipwise [a-z-]+ \S|torchrun ", line):  # a command
            lines += [
                "" if lines and lines[-1].strip() and not lines[-1].startswith("    ") else None,
                f"    {line.strip()}",
            ]
        else:
            section = section and not line.strip()
            lines.append(line)
    return "\n".join(line for line in lines if line is not None).strip()


def recipe_table(word) -> str:
    from clipwise.recipe import list_recipes, load_recipe

    rows = []
    for name in list_recipes():
        recipe = load_recipe(name)
        figures = {k: v for k, v in recipe.published.model_dump().items() if v is not None and not k.startswith("num_")}
        shown = ", ".join(f"{k} {cell(v)}" for k, v in figures.items())
        rows.append(f"| `{name}` | {recipe.model} | {recipe.epochs} | {shown} |")
    head = f"| {word('recipe')} | {word('model')} | {word('epochs')} | {word('published')} |"
    return "\n".join([f"# {word('Every recipe')}", "", head, "|---|---|---|---|", *rows, ""])


def recipe_keys(word) -> str:
    from clipwise.recipe.keys import Strict
    from clipwise.recipe.localization_keys import LocalizationRecipe
    from clipwise.recipe.recognition_keys import RecognitionRecipe

    def rows(model: Any, prefix: str = "") -> list[str]:
        found = []
        for name, field in model.model_fields.items():
            key = field.alias or name
            if isinstance(field.default, Strict):
                found += rows(type(field.default), f"{key}.")
            else:
                meaning = " ".join((field.description or "").split())
                default = field.get_default(call_default_factory=True) if not field.is_required() else ""
                found.append(f"| `{prefix}{key}` | {cell(default)} | {meaning.replace('|', chr(92) + '|')} |")
        return found

    parts = [f"# {word('Recipe keys')}", ""]
    for title, model in (("Recognition", RecognitionRecipe), ("Localization", LocalizationRecipe)):
        parts += [
            f"## {word(title)}",
            "",
            f"| {word('key')} | {word('default')} | {word('meaning')} |",
            "|---|---|---|",
            *rows(model),
            "",
        ]
    return "\n".join(parts)


def cell(value: Any) -> str:
    text = "" if value is None else str(value)
    return f"{text[:60]} …" if len(text) > 60 else text.replace("|", chr(92) + "|")


def mmaction2_keys(word) -> str:
    style = importlib.import_module("mmaction2_style")
    network, optim = (
        importlib.import_module(f"clipwise.convert.mmaction2.config_{part}") for part in ("network", "optim")
    )
    parts = ["# " + word("MMAction2's keys"), "", f"| {word('theirs')} | {word('ours')} |", "|---|---|"]
    parts += [f"| `{theirs}` | `{ours}` |" for theirs, ours in sorted(style.OPTIONS.items())]
    parts += [
        f"| `model.backbone.{key}` | `model_args.{key}` ({families}) |"
        for key, (_, families) in sorted(network.BODY_ARGS.items())
    ]
    parts += ["", f"## {word('without effect')}", "", f"| {word('theirs')} | {word('why')} |", "|---|---|"]
    parts += [f"| `{key}` | {why} |" for key, why in sorted(style.WITHOUT_EFFECT.items())]
    parts += [f"| `{key}` |  |" for key in sorted(optim.ASIDE)]
    return "\n".join([*parts, ""])


def paddlevideo_keys(word) -> str:
    style = importlib.import_module("paddle_style")
    ours = {theirs: ", ".join(f"`{key}`" for key in keys) for theirs, keys in style.CONFIG_KEYS.items()}
    ours |= {theirs: f"`{key}`" for theirs, key in style.TRAINING_KEYS.items()}
    ours |= {
        "seg_num": "`num_segments`, `test.num_segments`",
        "batch_size": "`batch_size`",
        "epoch": "`epochs`, `schedule.milestones`",
    }
    flags = {flag: f"`{key}`" for flag, key in style.FLAGS.items()}
    flags |= {
        "epoch": "`epochs`",
        "batch_size": "`batch_size`",
        "pretrain": "`--init`",
        "resume": "`--resume`",
        "save_dir": "`--work-dir`",
    }
    flags |= dict.fromkeys(style.WITHOUT_EFFECT, word("without effect"))
    models = {"TSN": style.PUBLISHED} | style.COUNTERPARTS
    parts = ["# " + word("PaddleVideo's flags"), ""]
    for head, rows in (
        ("model", {theirs: name if "`" in name else f"`{name}`" for theirs, name in models.items()}),
        ("flag", {f"--{flag}": text for flag, text in sorted(flags.items())}),
        ("key", dict(sorted(ours.items()))),
    ):
        parts += [
            f"| {word(head)} | {word('ours')} |",
            "|---|---|",
            *(f"| `{theirs}` | {text} |" for theirs, text in rows.items()),
            "",
        ]
    return "\n".join(parts)


def site_config(language: str) -> str:
    """zensical.toml of one language."""
    folder = "site" if language == "en" else f"site/{language}"  # Zensical wants it beside its file
    nav = ",\n".join(
        f'  {{ "{title}" = [{", ".join(quoted(page) for page in pages)}] }}' for title, pages in NAV[language].items()
    )
    other = {"en": ("zh/", "中文", "English"), "zh": ("../", "English", "中文")}[language]
    return f'''[project]
site_name = "clipwise"
site_description = "Recognize what happens in a video clip, and find when it happens in a long video"
docs_dir = "{language}"
site_dir = "{folder}"
use_directory_urls = false
nav = [
{nav}
]

[project.theme]
language = "{language}"
features = ["content.code.copy", "navigation.footer", "navigation.instant", "navigation.sections", "navigation.top", "search.highlight"]

[[project.theme.palette]]
scheme = "default"
toggle.icon = "lucide/moon"
toggle.name = "dark"

[[project.theme.palette]]
scheme = "slate"
toggle.icon = "lucide/sun"
toggle.name = "light"

[project.extra]
alternate = [{{ name = "{other[2]}", link = "./", lang = "{language}" }}, {{ name = "{other[1]}", link = "{other[0]}", lang = "{"zh" if language == "en" else "en"}" }}]
'''


def quoted(page: str) -> str:
    return f'"{page}.md"'


def llms(folder: Path) -> dict[str, str]:
    """llms.txt (what there is, with links) and llms-full.txt (all of it)."""
    from clipwise.cli.skill import skill

    lines = [
        "# clipwise",
        "",
        "> Recognize what happens in a video clip, and find when it happens in a long video: a Python toolkit on plain PyTorch.",
        "",
    ]
    whole = [skill()]
    for title, pages in NAV["en"].items():
        lines += [f"## {title}", ""]
        for page in pages:
            text = (folder / f"{page}.md").read_text(encoding="utf-8")
            heading = re.search(r"^# (.+)$", text, re.MULTILINE)
            lines.append(f"- [{heading[1] if heading else page}]({page}.html)")
            whole.append(text)
        lines.append("")
    return {"llms.txt": "\n".join(lines), "llms-full.txt": "\n\n".join(whole)}


if __name__ == "__main__":
    sys.exit(main())
