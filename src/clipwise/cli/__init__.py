"""The command line: ``clipwise VERB …``.

Each verb is a module with ``add_arguments(parser)`` and ``run(args) -> int``, imported only when it is called, so
that ``--help`` need not wait for torch. Exit codes: 0 success, 2 wrong use or bad input, 1 failure during work.
"""

from __future__ import annotations

import argparse
import errno
import importlib
import os
import sys
import traceback
import warnings
from collections.abc import Callable, Sequence
from typing import NoReturn

from clipwise import __version__
from clipwise.errors import ClipwiseError, ClipwiseWarning, WorkError

# verb -> (module, what it does)
VERBS = {
    "demo": ("demo", "make a small video set, train, test, predict and write a report (under 3 minutes)"),
    "train": ("train", "train a recipe on a folder or list of videos"),
    "test": ("test", "score a test list and measure accuracy"),
    "predict": ("predict", "name what happens in videos"),
    "localize": ("localize", "find when things happen in long videos"),
    "stream": ("stream", "name what happens along a long file, a stream or a camera"),
    "features": ("features", "extract features of whole videos"),
    "fuse": ("fuse", "combine score files of several models"),
    "eval-proposals": ("eval_proposals", "AR@AN and AUC of a proposal file"),
    "eval-detections": ("eval_detections", "mAP over tIoU of a detection file"),
    "check": ("check", "audit a data set before it is trained on"),
    "prepare": ("prepare", "index, resize, extract frames or flow, make lists or shards"),
    "convert": ("convert", "read checkpoints of MMAction2, TSN, TSM, TPN, BMN, Paddle, torchvision"),
    "export": ("export", "write ONNX, torch.export or OpenVINO, compared with the original"),
    "bench": ("bench", "measure speed and memory"),
    "info": ("info", "describe a model, a recipe or a checkpoint"),
    "recipes": ("recipes", "list the packaged recipes"),
    "explain": ("explain", "say in plain figures what a recipe will do"),
    "diff": ("diff", "show where two recipes differ"),
    "compare": ("compare", "compare two result files, with a confidence interval"),
    "analyze": ("analyze", "does the model see motion? shuffled, reversed, frozen frames; Grad-CAM"),
    "report": ("report", "write the HTML report of a run or of a test result"),
    "plot": ("plot", "draw curves of runs and analyze their time"),
    "serve": ("serve", "HTTP server with a page"),
    "doctor": ("doctor", "describe this machine and what is installed"),
}

# verbs that build networks which a recipe or a checkpoint names, or load exported files
MAY_LOAD_CODE = {"train", "test", "predict", "localize", "stream", "features", "convert", "export", "bench", "info", "explain",
                 "analyze", "compare", "serve", "eval-proposals"}  # fmt: skip


def main(argv: Sequence[str] | None = None) -> int:
    """Run a command line; returns the exit code."""
    argv = list(sys.argv[1:] if argv is None else argv)
    debug = "--debug" in argv
    argv = [word for word in argv if word != "--debug"]
    if not argv or argv[0] in ("-h", "--help", "help"):
        return guarded("clipwise", lambda: print(_overview())) or (0 if argv else 2)
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
    try:
        return _guarded(program, work, debug)
    except Exception as error:
        if debug:
            traceback.print_exc()
        if _is_memory(error):
            advice = "Smaller batch_size, crop_size or max_views and fewer num_workers need less; a limit (ulimit, cgroup) may be too low."
            return _fail(program, f"out of memory ({_first_line(error)}). {advice}", 1)
        if "DataLoader worker" in str(error):  # torch raises it wherever the process is, even while it says so already
            return _fail(program, f"a data loading worker died ({_first_line(error)}).", 1)
        text = f"unexpected {type(error).__name__}: {_first_line(error)}."
        return _fail(program, f"{text} {_keep_traceback(program)}", 1)


def _is_memory(error: Exception) -> bool:
    """Whether the system or a device had no memory left; torch and the system each say it in their way."""
    if isinstance(error, MemoryError) or type(error).__name__ == "OutOfMemoryError":
        return True
    return getattr(error, "errno", None) == errno.ENOMEM or "can't allocate memory" in str(error)


def _first_line(error: Exception) -> str:
    text = str(error).strip().splitlines()
    return (text[0] if text else type(error).__name__).rstrip(".")[:300]


def _keep_traceback(program: str) -> str:
    """Write the traceback of the error at hand to a file; returns where it is."""
    import tempfile

    try:
        handle, name = tempfile.mkstemp(prefix=f"{program.replace(' ', '-')}-", suffix=".log")
        with open(handle, "w", encoding="utf-8", errors="backslashreplace") as file:
            file.write(f"clipwise {__version__}, python {sys.version}\n{sys.argv}\n\n{traceback.format_exc()}")
    except OSError:
        return "--debug shows the traceback."
    return f"Traceback: {name} (--debug shows it). It belongs into a bug report."


def _guarded(program: str, work: Callable[[], int | None], debug: bool) -> int:
    for name in ("stdout", "stderr"):
        if getattr(sys, name) is None:  # closed by whoever started us
            setattr(sys, name, open(os.devnull, "w"))  # noqa: SIM115 - for the rest of the process
    try:
        code = work() or 0
        sys.stdout.flush()  # a reader that has gone shows here, not when the interpreter ends
        return code
    except SystemExit as stop:  # argparse: --help is 0, wrong use is 2
        return stop.code if isinstance(stop.code, int) else 2
    except (ClipwiseError, WorkError) as error:
        if debug:
            traceback.print_exc()
        return _fail(program, str(error), 2 if isinstance(error, ClipwiseError) else 1)
    except KeyboardInterrupt:
        return _fail(program, "interrupted.", 130)
    except BrokenPipeError:  # the reader of our output has gone (| head)
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except OSError as error:
        if error.errno == errno.ENOSPC:
            return _fail(
                program,
                f"the disk is full ({error.filename or 'while writing'}); nothing that was complete is lost.",
                1,
            )
        if error.errno in (errno.EACCES, errno.EROFS, errno.ENOENT, errno.ENOTDIR, errno.EISDIR) and error.filename:
            return _fail(program, f"{error.filename}: {error.strerror}.", 2)
        raise


class _Parser(argparse.ArgumentParser):
    """Says of an unknown option that is a key of recipes how keys are given (``epochs=3``)."""

    words: Sequence[str] = ()
    takes_keys = False

    def error(self, message: str) -> NoReturn:
        unknown = [word for word in self.words if word.startswith("--") and message.startswith("unrecognized arg")]
        if self.takes_keys and unknown:
            from clipwise.recipe.validation_messages import as_overrides

            message += as_overrides([word for word in self.words if word not in self._option_string_actions], message)
        super().error(message)


def _run(verb: str, rest: Sequence[str]) -> int:
    module_name, text = VERBS[verb]
    module = importlib.import_module(f"clipwise.cli.{module_name}")
    parser = _Parser(
        prog=f"clipwise {verb}",
        description=module.__doc__ or text,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    module.add_arguments(parser)
    parser.words, parser.takes_keys = rest, "key=value" in parser.format_usage()
    if verb in MAY_LOAD_CODE:
        parser.add_argument(
            "--trust",
            action="store_true",
            help="allow code of others: a model that a recipe or checkpoint names, a .pt2 file",
        )
    # Intermixed: `train RECIPE --data X lr=0.1` has words before and after options.
    args = parser.parse_args(rest) if parser._subparsers else parser.parse_intermixed_args(rest)
    if not getattr(args, "trust", False):
        return module.run(args)
    from clipwise.io.plugins import trusting

    with trusting():
        return module.run(args)


def _fail(program: str, message: str, code: int) -> int:
    from clipwise.io.text import printable

    print(printable(f"{program}: {message}"), file=sys.stderr)
    return code


def _overview() -> str:
    width = max(map(len, VERBS))
    lines = [f"  {verb:<{width}}  {text}" for verb, (_, text) in VERBS.items()]
    return "\n".join(
        [
            f"clipwise {__version__}: recognize what happens in a video clip, and find when it happens in a long video.",
            "",
            "usage: clipwise COMMAND …   (clipwise COMMAND --help says more; --debug shows the traceback of an error)",
            "",
            *lines,
            "",
            "From a folder with one sub-folder of videos for each class:",
            "  clipwise check   my_videos",
            "  clipwise train   tsm_tiny --data my_videos --work-dir runs/mine",
            "  clipwise test    runs/mine/best.safetensors",
            "  clipwise predict runs/mine/best.safetensors new_video.mp4",
        ]
    )


if __name__ == "__main__":
    sys.exit(main())
