"""What a user names on a command line, as files and addresses: folders are searched, lists are read."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

from clipwise.data.formats.list_splits import LIST_SUFFIXES
from clipwise.data.videolist import VIDEO_SUFFIXES, is_video
from clipwise.errors import DataError


def expand_inputs(inputs: Sequence[str], lists: Sequence[str] = LIST_SUFFIXES) -> Iterator[str]:
    """Files and addresses from what a user names: files, folders (searched through), and lists of any format.

    A folder of numbered images is one video.

    Args:
        lists: endings of files that are lists.

    Raises:
        DataError: something named does not exist, or a folder holds no video.
    """
    for item in inputs:
        path = Path(item)
        if not item:
            raise DataError("an empty name was given. Give a video, a folder, a list or an address.")
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
        elif path.suffix in lists and path.is_file():
            yield from _listed(path)
        elif path.exists():
            yield item
        elif item.isdecimal():
            raise DataError(f"{item} is not a file. A camera is a stream: use `clipwise stream CKPT {item}`.")
        else:
            raise DataError(f"{item} does not exist. Give a video, a folder, a list or an address.")


def _listed(path: Path) -> Iterator[str]:
    """The videos of a list: of the one reader of lists, labels and all; a list of names only may also have addresses and files of features."""
    from clipwise.data.formats.text_lists import list_lines
    from clipwise.data.lists import read_list

    if path.suffix == ".txt":
        names = [line for _, line in list_lines(path)]
        found = [next((p for p in (path.parent / name, Path(name)) if p.exists()), None) for name in names]
        if names and all(file or "://" in name for file, name in zip(found, names)):
            yield from (str(file or name) for file, name in zip(found, names))
            return
    try:
        videos = read_list(path)
    except DataError:  # several labels a video, which do not matter here
        try:
            videos = read_list(path, multi_label=True)
        except DataError:
            videos = read_list(path)  # the first error is what to say
    yield from dict.fromkeys(
        videos.entry(i) if "://" in videos.entry(i) else videos.path(i) for i in range(len(videos))
    )
