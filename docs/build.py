"""Build the documentation site: what people wrote in docs/en and docs/zh, and reference pages made from the code.

    pip install "clipwise[docs]"
    python docs/build.py                  # writes site/ (English) and site/zh/ (Chinese)
    python docs/build.py --pages-only     # the sources with the generated pages alone, in site-src/

Generated: a page per command (from argparse), the Python reference (from docstrings), every recipe with its published figure, every recipe
key, the tables of MMAction2's and PaddleVideo's keys and flags (from the translators' own tables), llms.txt and llms-full.txt.
"""

from __future__ import annotations

import argparse
import ast
import functools
import html
import importlib
import inspect
import itertools
import re
import shutil
import subprocess
import sys
import types
from pathlib import Path
from typing import Any
from unittest import mock

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
        "command": "命令", "does": "作用", "epochs": "轮数", "Recognition": "动作识别", "Localization": "时序动作定位", "flag": "参数", "the default": "默认如此", "changes nothing that is computed": "不影响计算",
        "Made from the code, in its language.": "本页由代码生成，说明为代码中的英文原文。",
        "make a small video set, train, test, predict and write a report (under 3 minutes)": "生成小型视频集，训练、测试、预测并写出报告（不到 3 分钟）",
        "train a recipe on a folder or list of videos": "用一个文件夹或列表的视频训练某个配置",
        "score a test list and measure accuracy": "为测试列表打分并测量精度",
        "name what happens in videos": "给出视频中动作的类别",
        "find when things happen in long videos": "找出长视频中动作发生的时间",
        "name what happens along a long file, a stream or a camera": "随长文件、视频流或摄像头给出动作的类别",
        "extract features of whole videos": "提取整段视频的特征",
        "measure features by their nearest neighbors": "用最近邻衡量特征",
        "combine score files of several models": "融合多个模型的得分文件",
        "AR@AN and AUC of a proposal file": "候选文件的 AR@AN 与 AUC",
        "mAP over tIoU of a detection file": "检测文件在各 tIoU 上的 mAP",
        "audit a data set before it is trained on": "训练之前检查数据集",
        "index, resize, extract frames or flow, make lists or shards": "索引、缩放、抽取帧或光流、生成列表或分片",
        "read checkpoints of MMAction2, TSN, TSM, TPN, BMN, Paddle, torchvision": "读取 MMAction2、TSN、TSM、TPN、BMN、Paddle、torchvision 的检查点",
        "write ONNX, torch.export or OpenVINO, compared with the original": "写出 ONNX、torch.export 或 OpenVINO，并与原网络比较",
        "put a checkpoint on the Hugging Face Hub, with a model card": "把检查点连同模型卡上传到 Hugging Face Hub",
        "download a checkpoint from the Hugging Face Hub": "从 Hugging Face Hub 下载检查点",
        "measure speed and memory": "测量速度与内存",
        "describe a model, a recipe or a checkpoint": "说明一个模型、配置或检查点",
        "list the packaged recipes": "列出自带的配置",
        "say in plain figures what a recipe will do": "用数字说明一个配置会做什么",
        "show where two recipes differ": "显示两个配置的差别",
        "compare two result files, with a confidence interval": "比较两个结果文件，给出置信区间",
        "does the model see motion? shuffled, reversed, frozen frames; Grad-CAM": "模型看到动作了吗？打乱、倒放、静止的帧；Grad-CAM",
        "write the HTML report of a run or of a test result": "写出一次训练或测试结果的 HTML 报告",
        "draw curves of runs and analyze their time": "绘制训练曲线并分析其用时",
        "HTTP server with a page": "带网页的 HTTP 服务",
        "describe this machine and what is installed": "说明本机及已安装的内容",
        "print what an assistant must know to use clipwise (a SKILL.md)": "打印助手使用 clipwise 所需知道的内容（SKILL.md）",
    },
}  # fmt: skip


ENGLISH_ONLY = "Made from the code, in its language."  # a note on the generated pages of other languages


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
        text = site_links(page.read_text(encoding="utf-8"), language)
        page.write_text(anchored(text) if language != "en" else text, encoding="utf-8")
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


def anchored(text: str) -> str:
    """Headings with the anchors that GitHub gives them; the site's own drop every character that is not ASCII."""
    parts = re.split(r"(^```.*?^```)", text, flags=re.DOTALL | re.MULTILINE)

    def heading(match: re.Match[str]) -> str:
        plain = re.sub(r"[^\w\- ]", "", match[1]).strip().lower().replace(" ", "-")
        return f"{match[0]} {{ #{plain} }}"

    parts[::2] = [re.sub(r"^##+ (.+)$", heading, part, flags=re.MULTILINE) for part in parts[::2]]
    return "".join(parts)


def generated_pages(language: str) -> dict[str, str]:
    """Name of each page made from the code, with its text."""

    def word(text: str) -> str:
        return WORDS[language].get(text, text)

    note = f"{word(ENGLISH_ONLY)}\n\n" if word(ENGLISH_ONLY) != ENGLISH_ONLY else ""
    pages = {f"commands/{verb}.md": f"# clipwise {verb}\n\n{note}{text}" for verb, text in command_pages().items()}
    pages["commands/index.md"] = command_index(word)
    pages["api.md"] = f"# {word('Python reference')}\n\n{note}{api_reference()}"
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
        pages[verb] = f"{markdown_of(about)}\n\n```text\n{wrapped(usage(parser))}\n```\n\n{lines}\n"
    return pages


def wrapped(line: str) -> str:
    """A usage or a signature in lines that fit a page; what is in brackets stays together."""
    words = re.findall(r"\[(?:[^\[\]]|\[[^\[\]]*\])*\]|\S+", line)
    lines = [words[0]]
    for word in words[1:]:
        if len(lines[-1]) + 1 + len(word) <= 88:
            lines[-1] += f" {word}"
        else:
            lines.append(f"    {word}")
    return "\n".join(lines)


def command_index(word) -> str:
    from clipwise.cli import VERBS

    rows = [f"| [`{verb}`]({verb}.md) | {word(does)} |" for verb, (_, does) in VERBS.items()]
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
                if inspect.isroutine(value) or isinstance(value, (property, functools.cached_property))
            ]
    return "\n".join(parts)


def entry(name: str, thing: Any, level: int = 2) -> str:
    if isinstance(thing, types.UnionType):
        kinds = [kind.__name__ for kind in thing.__args__]
        said = "\n\n".join(f"{kind.__name__}: {inspect.getdoc(kind)}" for kind in thing.__args__)
        return f"{'#' * level} {name}\n\n```text\n{name} = {' | '.join(kinds)}\n```\n\n{said}\n"
    try:
        signature = "" if isinstance(thing, (property, functools.cached_property)) else str(inspect.signature(thing))
    except (TypeError, ValueError):
        signature = ""
    signature = signature.replace("clipwise.", "").replace("<factory>", "...")
    signature = re.sub(r" at 0x[0-9a-f]+|'", "", signature)
    text = markdown_of(inspect.getdoc(thing) or "")
    if inspect.isclass(thing) and (fields := described_fields(thing)):
        text += "\n\n**Attributes**\n\n" + "\n".join(f"- `{key}`: {said}" for key, said in fields.items())
    return f"{'#' * level} {name}\n\n```text\n{signed(name, signature)}\n```\n\n{text}\n"


def described_fields(kind: type) -> dict[str, str]:
    """The attributes of a class that have a docstring of their own, in the line below."""
    try:
        (tree,) = ast.parse(inspect.cleandoc("\n" + inspect.getsource(kind))).body
    except (OSError, TypeError):
        return {}
    body = tree.body if isinstance(tree, ast.ClassDef) else []
    return {
        ast.unparse(field.target): " ".join(str(below.value.value).split()).replace("``", "`")
        for field, below in itertools.pairwise(body)
        if isinstance(field, ast.AnnAssign) and isinstance(below, ast.Expr) and isinstance(below.value, ast.Constant)
    }


def signed(name: str, signature: str) -> str:
    """A name with its signature, an argument a line where one line is too long."""
    if len(name + signature) <= 88:
        return name + signature
    lines, depth = [""], 0
    for char in signature:
        depth += (char in "([{") - (char in ")]}")
        if char == ")" and depth == 0:
            lines.append("")
        if char != " " or lines[-1].strip():
            lines[-1] += char
        if depth == 1 and char in "(,":
            lines.append("    ")
    return name + "\n".join(lines)


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
    parts += [f"| `{key}` | {word('changes nothing that is computed')} |" for key in sorted(optim.ASIDE)]
    for name, call, given in (
        ("tools/train.py", style.train, ["tsm_tiny", "--data", "DATA"]),
        ("tools/test.py", style.test, ["tsm_tiny", "CKPT", "--data", "DATA"]),
    ):
        parts += ["", f"## {name}", "", f"| {word('flag')} | {word('ours')} |", "|---|---|"]
        parts += [f"| {flag} | {word(ours)} |" for flag, ours in flag_rows(style, call, *given)]
    return "\n".join([*parts, ""])


FORMS = ("--cfg-options", "--local_rank", "--model_name", "--config")  # have a table of their own, or no meaning


class ParserFound(BaseException):
    """Carries the parser that a translator builds."""


@functools.cache  # for both languages
def flag_rows(style: Any, call: Any, *given: str) -> list[tuple[str, str]]:
    """What each flag of a translator becomes, found by calling it with the flag and without; nothing is run."""

    def found(parser: argparse.ArgumentParser, *_: Any) -> None:
        raise ParserFound(parser)

    try:
        with mock.patch.object(argparse.ArgumentParser, "parse_args", found):
            call(list(given))
    except ParserFound as caught:
        (parser,) = caught.args
    plain, _ = words_of(style, call, list(given))
    rows = []
    for action in parser._actions:
        flags = action.option_strings
        if not flags or "--help" in flags or flags[0] in given or flags[0] in FORMS:
            continue
        words, said = words_of(style, call, [*given, flags[0], *sample(action)])
        new = [item for item in words if item not in plain]
        if new:
            ours = f"`{' '.join(new)}`"
        elif said:
            ours = html.escape(" ".join(said.split()), quote=False).replace("|", "\\|")
        else:
            ours = "the default"
        rows.append((", ".join(f"`{flag}`" for flag in flags), ours))
    return rows


def words_of(style: Any, call: Any, argv: list[str]) -> tuple[list[str], str]:
    """The words of the clipwise command that a translator runs, and what else it prints."""
    ran: list[list[str]] = []
    said: list[str] = []

    def main(words: list[str]) -> int:
        ran.append(words)
        return 0

    def guarded(name: str, work: Any, *_: Any) -> int:
        try:
            return work()
        except Exception as error:
            said.append(str(error))
            return 2

    with (
        mock.patch.object(style.cli, "main", main),
        mock.patch.object(style.cli, "guarded", guarded),
        mock.patch.object(style, "_say", lambda text: said.append(text)),
    ):
        call(argv)
    words = joined(ran[0]) if ran else []
    words += [f"clipwise {' '.join(line)}" for line in ran[1:]]
    return words, " ".join(line for line in said if not line.startswith("clipwise "))


def joined(words: list[str]) -> list[str]:
    """Options with their values."""
    found: list[str] = []
    for word in words:
        if found and re.fullmatch(r"--[\w-]+", found[-1]) and not word.startswith("--") and "=" not in word:
            found[-1] += f" {word}"
        else:
            found.append(word)
    return found


def sample(action: argparse.Action) -> list[str]:
    """A value for an option."""
    if action.nargs == 0:
        return []
    if action.choices:
        return [str(list(action.choices)[-1])]
    if action.type in (int, float):
        return ["6"]
    if action.type is not None:  # a word that stands for True or False
        return ["True"]
    return [action.metavar if isinstance(action.metavar, str) and "=" not in action.metavar else action.dest.upper()]


def paddlevideo_keys(word) -> str:
    style = importlib.import_module("paddle_style")
    ours = {theirs: ", ".join(f"`{key}`" for key in keys) for theirs, keys in style.CONFIG_KEYS.items()}
    ours |= {theirs: f"`{key}`" for theirs, key in style.TRAINING_KEYS.items()}
    ours |= {
        "seg_num": "`num_segments`, `test.num_segments`",
        "batch_size": "`batch_size`",
        "epoch": "`epochs`, `schedule.milestones`",
    }
    models = {"TSN": style.PUBLISHED} | style.COUNTERPARTS
    parts = ["# " + word("PaddleVideo's flags"), ""]
    for head, rows in (
        ("model", {theirs: name if "`" in name else f"`{name}`" for theirs, name in models.items()}),
        ("key", dict(sorted(ours.items()))),
    ):
        parts += [
            f"| {word(head)} | {word('ours')} |",
            "|---|---|",
            *(f"| `{theirs}` | {text} |" for theirs, text in rows.items()),
            "",
        ]
    for mode, given in (("train", ["train", "TSN"]), ("eval", ["eval", "TSN", "--weights", "CKPT"])):
        parts += [f"## {mode}", "", f"| {word('flag')} | {word('ours')} |", "|---|---|"]
        parts += [f"| {flag} | {word(text)} |" for flag, text in flag_rows(style, style.main, *given)]
        parts.append("")
    parts += ["## predict", "", f"| {word('flag')} | `clipwise predict` |", "|---|---|"]
    parts += [f"| `--{flag}` | `{ours}` |" for flag, ours in style.PREDICTION_FLAGS.items()]
    return "\n".join([*parts, ""])


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
font = false
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
