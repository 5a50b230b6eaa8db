"""Print what an assistant must know to use clipwise: a SKILL.md made from the commands themselves.

Save it where your assistant looks for skills: clipwise skill > SKILL.md
"""

from __future__ import annotations

import argparse

import clipwise

_OPENING = """\
---
name: clipwise
description: Recognize actions in video clips (TSN, TSM, SlowOnly, TPN) and find when they happen in long videos (BMN and one-stage localizers) \
with the clipwise command line or its Python API; train, test, predict, localize, convert checkpoints of MMAction2 and PaddleVideo, export, serve.
---

# clipwise {version}

- Data: a folder with one subfolder of videos per class, or a list with `path label` lines. Check it first: `clipwise check DATA`.
- `clipwise recipes --json` lists what can be trained; `clipwise explain RECIPE --keys` prints every key with its meaning. Keys are set on
  the command line as `key=value` (`lr=0.02 augment.mixup=0.2`). On a CPU or with small frames start with `tsm_tiny`.
- A run writes `recipe.yaml`, `log.jsonl`, `last.safetensors`, `best.safetensors` and `report.html` into its work dir. Resume a stopped run with `--resume`.
- A checkpoint knows its classes, preprocessing and test protocol: `test`, `predict`, `export` and `serve` take it alone.
- `--json` prints results for scripts. Exit code 0 is success, 2 wrong use or bad input (the message says what is allowed), 1 a failure during work.
- `--trust` lets a recipe or checkpoint run code of others. Use it only for files whose origin you know.

```bash
clipwise check   my_videos
clipwise train   tsm_tiny --data my_videos --work-dir runs/mine
clipwise test    runs/mine/best.safetensors --json
clipwise predict runs/mine/best.safetensors new_video.mp4 --json
```

```python
import clipwise

predictor = clipwise.load("runs/mine/best.safetensors")
predictor("new_video.mp4").top(3)
```

## Commands
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The verb takes nothing."""


def run(args: argparse.Namespace) -> int:
    print(skill(), end="")
    return 0


def skill() -> str:
    """The text: what holds for all commands, then each with its usage and its options."""
    from clipwise.cli import VERBS, make_parser

    parts = [_OPENING.format(version=clipwise.__version__)]
    for verb, (_, does) in VERBS.items():
        parser = make_parser(verb)
        parts.append(f"\n### clipwise {verb}: {does}\n\n```\n{usage(parser)}\n```\n")
        parts += [f"- {line}\n" for line in options(parser)]
    return "".join(parts)


def usage(parser: argparse.ArgumentParser) -> str:
    """The usage as one line a form, without the word."""
    return " ".join(parser.format_usage().removeprefix("usage: ").split())


def options(parser: argparse.ArgumentParser) -> list[str]:
    """A line for each argument that has an explanation."""
    lines = []
    for action in parser._actions:
        if isinstance(action, argparse._SubParsersAction):
            for name, below in action.choices.items():
                lines += [f"{name}: `{usage(below)}`", *options(below)]
        elif action.help not in (None, argparse.SUPPRESS) and action.dest != "help":
            name = ", ".join(action.option_strings) or str(action.metavar or action.dest)
            lines.append(f"`{name}` {action.help % {**vars(action), 'prog': parser.prog}}")
    return lines
