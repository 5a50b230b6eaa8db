"""The command line: ``clipwise VERB …``.

Each verb is a module with ``add_arguments(parser)`` and ``run(args) -> int``, imported only when it is called, so
that ``--help`` need not wait for torch. Exit codes: 0 success, 2 wrong use or bad input, 1 failure during work.
"""

from __future__ import annotations

import argparse
import importlib
import os
import signal
import sys
import threading
import warnings
from collections.abc import Callable, Sequence
from types import ModuleType
from typing import Any, NoReturn

from clipwise import __version__
from clipwise.errors import ClipwiseWarning
from clipwise.io.interrupts import STOPS, interrupt

__all__ = ["OPTIONS", "VERBS", "main"]

# What the commands share; a command names what it has.
OPTIONS: dict[str, dict[str, Any]] = {
    "device": {"help": "where to compute (cpu, cuda:1, npu, …); the machine's accelerator if not given"},
    "json": {"action": "store_true", "help": "print JSON for scripts"},
    # for commands that build networks which a recipe or a checkpoint names, or load exported files
    "trust": {
        "action": "store_true",
        "help": "allow code of others: a model that a recipe or checkpoint names, a .pt2 file",
    },
}

# command -> (its shared options, what it does); its module has its name
VERBS = {
    "demo": ("json", "make a small video set, train, test, predict and write a report (under 3 minutes)"),
    "train": ("device json trust", "train a recipe on a folder or list of videos"),
    "test": ("device json trust", "score a test list and measure accuracy"),
    "predict": ("device json trust", "name what happens in videos"),
    "localize": ("device json trust", "find when things happen in long videos"),
    "stream": ("device json trust", "name what happens along a long file, a stream or a camera"),
    "features": ("device json trust", "extract features of whole videos"),
    "knn": ("json", "measure features by their nearest neighbors"),
    "fuse": ("json", "combine score files of several models"),
    "eval-proposals": ("json trust", "AR@AN and AUC of a proposal file"),
    "eval-detections": ("json", "mAP over tIoU of a detection file"),
    "check": ("json trust", "audit a data set before it is trained on"),
    "prepare": ("", "index, resize, extract frames or flow, make lists or shards"),
    "convert": ("json trust", "read checkpoints of MMAction2, TSN, TSM, TPN, BMN, Paddle, torchvision"),
    "export": ("device json trust", "write ONNX, torch.export or OpenVINO, compared with the original"),
    "push": ("json", "put a checkpoint on the Hugging Face Hub, with a model card"),
    "pull": ("json", "download a checkpoint from the Hugging Face Hub"),
    "bench": ("device json trust", "measure speed and memory"),
    "info": ("json trust", "describe a model, a recipe or a checkpoint"),
    "recipes": ("json", "list the packaged recipes"),
    "explain": ("json trust", "say in plain figures what a recipe will do"),
    "diff": ("json", "show where two recipes differ"),
    "compare": ("json trust", "compare two result files, with a confidence interval"),
    "analyze": ("device json trust", "does the model see motion? shuffled, reversed, frozen frames; Grad-CAM"),
    "report": ("json", "write the HTML report of a run or of a test result"),
    "plot": ("json", "draw curves of runs and analyze their time"),
    "serve": ("device trust", "HTTP server with a page"),
    "doctor": ("json", "describe this machine and what is installed"),
    "skill": ("", "print what an assistant must know to use clipwise (a SKILL.md)"),
}


def main(argv: Sequence[str] | None = None) -> int:
    """Run a command line; returns the exit code."""
    if argv is None:
        code = main(sys.argv[1:])
        signal.signal(signal.SIGINT, signal.SIG_IGN)  # the command is over; the interpreter ends without a traceback
        return code
    debug = "--debug" in argv
    argv = [word for word in argv if word != "--debug"]
    if not argv or argv[0] in ("-h", "--help", "help"):
        from clipwise.cli.overview import show_overview

        return guarded("clipwise", lambda: show_overview(VERBS)) or (0 if argv else 2)
    if argv[0] in ("-V", "--version"):
        print(f"clipwise {__version__}")
        return 0
    verb, *rest = argv
    if verb not in VERBS:
        from clipwise.io.names import did_you_mean

        hint = did_you_mean(verb, VERBS) or "."
        print(f"clipwise: unknown command {verb!r}{hint} `clipwise --help` lists them.", file=sys.stderr)
        return 2
    return guarded(f"clipwise {verb}", lambda: _run(verb, rest), debug)


def guarded(program: str, work: Callable[[], int | None], debug: bool = False) -> int:
    """Do the work of a command line; what goes wrong becomes one message on stderr and an exit code.

    Args:
        debug: print the traceback of an error, too.
    """
    if not debug:
        # a sentence for a user, not a line of code; of several processes the first says it
        rank = os.environ.get("RANK", "0")
        warnings.formatwarning = lambda message, kind, *_: (
            "" if rank != "0" and issubclass(kind, ClipwiseWarning) else f"{program}: {message}\n"
        )
    for name in ("stdout", "stderr"):
        if getattr(sys, name) is None:  # closed by whoever started us
            setattr(sys, name, open(os.devnull, "w"))  # noqa: SIM115 - for the rest of the process
        elif hasattr(getattr(sys, name), "reconfigure"):  # a terminal may lack the characters of a class name
            getattr(sys, name).reconfigure(errors="backslashreplace")
    before = {}
    if threading.current_thread() is threading.main_thread():
        plain = (signal.SIG_DFL, signal.default_int_handler)  # not those that nohup or a caller has set
        before = {number: signal.signal(number, interrupt) for number in STOPS if signal.getsignal(number) in plain}
    try:
        code = work() or 0
        sys.stdout.flush()  # a reader that has gone shows here, not when the interpreter ends
        return code
    except SystemExit as stop:  # argparse: --help is 0, wrong use is 2
        return stop.code if isinstance(stop.code, int) else 2
    except (Exception, KeyboardInterrupt) as error:
        from clipwise.cli.failures import exit_code

        return exit_code(program, error, debug)
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


class _Parser(argparse.ArgumentParser):
    """Says of an unknown option that is a key of recipes how keys are given (``epochs=3``)."""

    words: Sequence[str] = ()
    takes_keys = False

    def error(self, message: str) -> NoReturn:
        unknown = [word for word in self.words if word.startswith("--") and message.startswith("unrecognized arg")]
        if self.takes_keys and unknown:
            from clipwise.recipe.validation_messages import as_overrides

            message += as_overrides([word for word in self.words if word not in self._option_string_actions], message)
        if message.startswith("the following arguments are required"):
            from clipwise.cli.failures import what_is_missing

            message += what_is_missing(self, message)
        super().error(message)


def make_parser(verb: str) -> _Parser:
    """The parser of one command, from which its ``--help`` and its page of the documentation come."""
    options, text = VERBS[verb]
    module = _module_of(verb)
    parser = _Parser(
        prog=f"clipwise {verb}",
        description=module.__doc__ or text,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    module.add_arguments(parser)
    parser.takes_keys = "key=value" in parser.format_usage()
    for name in options.split():
        parser.add_argument(f"--{name}", **OPTIONS[name])
    return parser


def _module_of(verb: str) -> ModuleType:
    return importlib.import_module(f"clipwise.cli.{verb.replace('-', '_')}")


def _run(verb: str, rest: Sequence[str]) -> int:
    if verb not in ("push", "pull") and any("hf://" in word for word in rest):
        from clipwise.io.hub import local_copy

        rest = [str(local_copy(word)) for word in rest]
    parser = make_parser(verb)
    parser.words = rest
    # Intermixed: `train RECIPE --data X lr=0.1` has words before and after options.
    args = parser.parse_args(rest) if parser._subparsers else parser.parse_intermixed_args(rest)
    if not getattr(args, "trust", False):
        return _module_of(verb).run(args)
    from clipwise.io.plugins import trusting

    with trusting():
        return _module_of(verb).run(args)


if __name__ == "__main__":
    sys.exit(main())
