"""What the tools of ``clipwise prepare`` share: finding videos, naming results, and a report of what became of each file."""

from __future__ import annotations

import contextlib
import json
import os
from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from clipwise.data.videolist import VIDEO_SUFFIXES, is_video
from clipwise.errors import DataError
from clipwise.io.files import atomic_path
from clipwise.io.parse import parse_json
from clipwise.io.progress import Progress
from clipwise.io.unfinished import remove_stale
from clipwise.prepare.parallel import run_jobs

SETTINGS_NAME = ".clipwise-prepare.json"
SOURCES_NAME = ".clipwise-sources"


@dataclass
class PrepareResult:
    """What became of the files.

    Attributes:
        done: made now; ``skipped``: there already; ``failed``: (file, reason); ``damaged``: (file, what is wrong), whose readable
            part was used.
        outputs: source -> what was made of it.
        num_frames: folder of images -> how many frames it holds.
    """

    done: list[str] = field(default_factory=list)
    skipped: list[str] = field(default_factory=list)
    failed: list[tuple[str, str]] = field(default_factory=list)
    damaged: list[tuple[str, str]] = field(default_factory=list)
    outputs: dict[str, str] = field(default_factory=dict)
    num_frames: dict[str, int] = field(default_factory=dict)

    def to_dict(self) -> dict[str, Any]:
        return asdict(self)

    def add(self, source: str, target: str, outcome: Any) -> None:
        """Sorts in what ``run_jobs`` gave for one file: an exception, None (was there already), or the damage ("" for none)."""
        if isinstance(outcome, BaseException):
            self.failed.append((source, str(outcome) or type(outcome).__name__))
            return
        self.outputs[source] = target
        if outcome is None:
            self.skipped.append(source)
            return
        self.done.append(source)
        if outcome:
            self.damaged.append((source, outcome))


def find_videos(source: str | os.PathLike | Sequence[str | os.PathLike]) -> tuple[list[Path], Path]:
    """Video files of a folder (with its subfolders, sorted), of a list of paths, or a single file; and their common folder.

    Raises:
        DataError: nothing is there.
    """
    if isinstance(source, (str, os.PathLike)):
        path = Path(source)
        if path.is_dir():
            files = sorted(p for p in path.rglob("*") if is_video(p.name) and p.is_file())
            if not files:
                raise DataError(f"{path}: holds no video files (looked for {', '.join(sorted(VIDEO_SUFFIXES)[:6])}, …)")
            return files, path
        if not path.exists():
            raise DataError(f"{path}: there is no such file or folder")
        return [path], path.parent
    files = [Path(p) for p in source]
    if not files:
        raise DataError("the list of videos is empty")
    parents = {str(p.absolute().parent) for p in files}
    return files, Path(os.path.commonpath(parents))


def run_files(
    work: Any,
    files: list[Path],
    targets: list[Path],
    out: Path,
    workers: int | None,
    progress: Progress | None,
    part: tuple[int, int] = (0, 1),
) -> PrepareResult:
    """Does ``work((source, target, replaced))`` for each file; ``part`` (i, n): for every n-th, so that n machines share it.

    ``replaced`` says that what is there was made of another file than the source that is there now. The sources' sizes and times are
    noted in ``out``; of results that no note names (the run was killed, or was one of 0.1), those older than their source are meant.
    """
    chosen = list(zip(files, targets))[part[0] :: part[1]]
    known: dict[str, list[int]] = {}
    for note in sorted(out.glob(f"{SOURCES_NAME}*.json")):
        known |= json.loads(note.read_text(encoding="utf-8"))
    states = [_state(file) for file, _ in chosen]
    jobs = []
    for (file, target), state in zip(chosen, states):
        before = known.get(str(target.relative_to(out)))
        replaced = target.exists() and (before != state if before else _state(target)[1] < state[1])
        jobs.append((str(file), str(target), replaced))
    result = PrepareResult()
    outcomes = run_jobs(work, jobs, workers=workers, progress=progress, describe=_first)
    for (name, made, _), state, outcome in zip(jobs, states, outcomes):
        result.add(name, made, outcome)
        if name in result.outputs:
            known[str(Path(made).relative_to(out))] = state
    share = "" if part[1] == 1 else f"-{part[0]}-{part[1]}"
    with atomic_path(out / f"{SOURCES_NAME}{share}.json") as temporary:
        temporary.write_text(json.dumps(known), encoding="utf-8")
    return result


def _state(path: Path) -> list[int]:
    """Size and time of change: what tells a file from the one that replaces it. A missing file has none."""
    try:
        status = path.stat()
    except OSError:
        return [0, 0]
    return [status.st_size, status.st_mtime_ns]


def _first(job: tuple[str, str, bool]) -> str:
    return job[0]


def name_targets(files: list[Path], folder: Path, out: Path, suffix: str) -> list[Path]:
    """Where each file's result goes; ``suffix`` "" stands for a folder per file. ``a.avi`` beside ``a.mp4`` becomes ``a.avi.mp4``."""
    relative = []
    for file in files:
        try:
            relative.append(file.absolute().relative_to(folder.absolute()))
        except ValueError:
            relative.append(Path(file.name))
    twins = Counter(path.with_suffix("") for path in relative)
    targets = []
    for file, path in zip(files, relative):
        ambiguous = twins[path.with_suffix("")] > 1 and path.suffix.lower() != suffix
        targets.append(out / (path.with_name(path.name + suffix) if ambiguous else path.with_suffix(suffix)))
        if targets[-1].absolute() == file.absolute():
            raise DataError(f"{file} would be overwritten by its own result; choose another target folder")
    if not suffix and out.absolute() == folder.absolute():
        raise DataError(
            f"{out} holds the videos; folders of images among them would count as classes. Choose another target folder"
        )
    for target, count in Counter(targets).items():
        if count > 1:
            both = " and ".join(str(f) for f, t in zip(files, targets) if t == target)
            raise DataError(f"{both} would both become {target}; rename one of them")
    return targets


def claim_folder(out: Path, settings: dict[str, Any], overwrite: bool) -> None:
    """Notes the settings in the target folder, and refuses to mix results of different settings there."""
    out.mkdir(parents=True, exist_ok=True)
    note = out / SETTINGS_NAME
    if note.exists() and not overwrite:
        old = parse_json(note.read_text(encoding="utf-8"))
        if old != settings:
            differing = ", ".join(f"{k}={old.get(k)}" for k in settings if old.get(k) != settings[k])
            raise DataError(f"{out}: was made with {differing}; choose another folder, the same settings, or overwrite")
    for folder in (out, *(path for path in out.rglob("*") if path.is_dir())):
        with contextlib.suppress(FileNotFoundError):  # of another command that works here, too
            remove_stale(folder)
    with atomic_path(note) as temporary:
        temporary.write_text(json.dumps(settings), encoding="utf-8")


def even_size(height: int, width: int, short_side: int) -> tuple[int, int]:
    """Height and width with the shorter side at most ``short_side``, aspect ratio kept, both even."""
    scale = min(1.0, short_side / min(height, width))
    return max(4, round(height * scale / 2) * 2), max(4, round(width * scale / 2) * 2)
