"""What a user names on a command line, as files and addresses: folders are searched, lists are read."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

from clipwise.data.videolist import VIDEO_SUFFIXES, is_video
from clipwise.errors import DataError


def expand_inputs(inputs: Sequence[str]) -> Iterator[str]:
    """Files and addresses from what a user names: files, folders (searched through), and lists (.txt, one path a line).

    A folder of numbered images is one video.

    Raises:
        DataError: something named does not exist, or a folder holds no video.
    """
    for item in inputs:
        path = Path(item)
        if not item:
            raise DataError("an empty name was given. Give a video, a folder, a list (.txt) or an address.")
        if "://" in item:
            yield item
        elif path.is_dir():
            videos = sorted(p for p in path.rglob("*") if is_video(p.name) and p.is_file())
            if not videos:
                images = [p for p in path.iterdir() if p.suffix.lower() in (".jpg", ".jpeg", ".png")]
                if not images:
                    raise DataError(
                        f"{item}: no video in this folder (looked for {', '.join(sorted(VIDEO_SUFFIXES))})."
                    )
                yield item
            yield from map(str, videos)
        elif path.suffix == ".txt" and path.is_file():
            yield from _list_lines(path)
        elif path.exists():
            yield item
        elif item.isdecimal():
            raise DataError(f"{item} is no file. A camera never ends: `clipwise stream CKPT {item}` watches it.")
        else:
            raise DataError(f"{item} does not exist. Give a video, a folder, a list (.txt) or an address.")


def _list_lines(path: Path) -> Iterator[str]:
    try:
        lines = [line.strip() for line in path.read_text(encoding="utf-8").splitlines()]
    except UnicodeDecodeError:
        raise DataError(f"{path} is not a text list.") from None
    lines = [line for line in lines if line and not line.startswith("#")]
    if not lines:
        raise DataError(f"{path} is empty: a list has one path a line.")
    for line in lines:
        name = line.split("\t")[0]
        candidates = [name, name.rsplit(maxsplit=1)[0]] if " " in name else [name]
        found = next((c for n in candidates for c in (path.parent / n, Path(n)) if c.exists()), None)
        yield str(found) if found else candidates[-1]
