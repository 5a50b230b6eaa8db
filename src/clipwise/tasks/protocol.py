"""Which variant of a known data set was measured: figures of different variants must not stand in one table.

Recognized by the names of videos, which are the data sets' own, and by how many there are. Only evaluation imports this.

| data set | variants |
|---|---|
| THUMOS14, test | 213 annotated videos; 212, 211 and 210 without one, two or three disputed ones; "Ambiguous"; CliffDiving annotated as Diving too |
| ActivityNet 1.3, validation | 4,926 videos, 4,728 in BSN's lists, fewer where videos or features are gone |
| Kinetics-400, validation | 19,906 rows of the official list; every copy lacks others |
| Diving48 | V1 (noisy labels: 15,943 and 2,096 videos), V2 (15,027 and 1,970) |
| UCF101 | three splits by groups of one recording: 1-7, 8-14 and 15-21 are tested |
"""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import PurePath
from typing import Any

from clipwise.errors import DataError
from clipwise.io.text import plural

Truth = Mapping[str, Sequence[Mapping[str, Any]]]

AMBIGUOUS = "Ambiguous"
# in the order in which papers leave them out: only ambiguous segments; mostly past the end; wrong throughout
DISPUTED = ("video_test_0001292", "video_test_0000270", "video_test_0001496")
_ACTIVITYNET = {4926: "all videos", 4728: "BSN's list, 198 videos gone"}
_KINETICS400 = {19906: "the official list", 19796: "MMAction2's and Paddle's copy"}
_DIVING48 = {2096: "V1 test", 15943: "V1 training", 1970: "V2 test", 15027: "V2 training"}
_UCF101 = re.compile(r"v_([\w-]+)_g(\d\d)_c\d\d")
_YOUTUBE = re.compile(r"[\w-]{11}")
_KINETICS = re.compile(r"[\w-]{11}(_\d{6}_\d{6})?")
_DIVING = re.compile(r"[\w-]{11}_\d{5}")


@dataclass(frozen=True)
class DataProtocol:
    """What was measured on.

    Attributes:
        data_set: name and part.
        variant: which of its variants; two results with different ones do not belong into one table.
        videos: how many.
        notes: what else changes figures.
    """

    data_set: str
    variant: str
    videos: int
    notes: tuple[str, ...] = ()

    @property
    def line(self) -> str:
        """One line for people."""
        return f"{self.data_set}: {self.variant}" + "".join(f"; {note}" for note in self.notes)

    def to_dict(self) -> dict[str, Any]:
        """For JSON."""
        return {"data_set": self.data_set, "variant": self.variant, "videos": self.videos, "notes": list(self.notes)}


def recognize_segments(truth: Truth) -> DataProtocol | None:
    """The protocol of a localization's ground truth (video to annotated segments); None where none is known."""
    names = [name.removeprefix("v_") for name in truth]
    if names and all(re.fullmatch(r"video_test_\d{7}", name) for name in names):
        return _thumos(truth)
    counted = sum(map(bool, truth.values()))
    labels = {entry.get("label") for entries in truth.values() for entry in entries}
    if 4000 <= counted <= 4926 and len(labels) == 200 and all(map(_YOUTUBE.fullmatch, names)):
        usual = _ACTIVITYNET.get(counted, f"a copy that lacks {4926 - counted:,}")
        return DataProtocol("ActivityNet 1.3 validation", f"{counted:,} of 4,926 annotated videos ({usual})", counted)
    return None


def _thumos(truth: Truth) -> DataProtocol:
    annotated = {name for name, entries in truth.items() if entries}
    labels = {entry.get("label") for entries in truth.values() for entry in entries}
    if len(labels - {AMBIGUOUS}) > 20:
        return DataProtocol("MultiTHUMOS test", plural(len(annotated), "annotated video"), len(annotated))
    gone = [name for name in DISPUTED if name not in annotated]
    variant = plural(len(annotated), "annotated video")
    if gone:
        variant += f", without {', '.join(name.removeprefix('video_test_') for name in gone)}"
    notes = []
    ambiguous = sum(entry.get("label") == AMBIGUOUS for entries in truth.values() for entry in entries)
    if ambiguous:
        variant += f", {AMBIGUOUS!r} among the labels"
        notes.append(
            f"{plural(ambiguous, 'segment is', 'segments are')} {AMBIGUOUS!r}, which is no class (eval-detections --thumos leaves them out)"
        )
    cliffs = sum(entry.get("label") == "CliffDiving" for entries in truth.values() for entry in entries)
    if cliffs:
        twice = len(_cliffs_in_diving(truth))
        variant += (
            "" if twice == cliffs else f", {cliffs - twice} of {cliffs} CliffDiving segments are not Diving as well"
        )
    return DataProtocol("THUMOS14 test", variant, len(annotated), tuple(notes))


def _cliffs_in_diving(truth: Truth) -> set[tuple[Any, ...]]:
    """(video, start, end) of the segments that are annotated as CliffDiving and as Diving."""
    by_label: dict[str, set[tuple[Any, ...]]] = {"CliffDiving": set(), "Diving": set()}
    for video, entries in truth.items():
        for entry in entries:
            if entry.get("label") in by_label:
                by_label[entry["label"]].add((video, *map(float, entry["segment"])))
    return by_label["CliffDiving"] & by_label["Diving"]


def variants_of(truth: Truth, found: Collection[str] = ()) -> dict[str, Truth]:
    """Other variants of a ground truth under which a result can be measured, by name; only those that differ from it.

    Args:
        found: videos that the result has something for.
    """
    variants: dict[str, Truth] = {}
    protocol = recognize_segments(truth)
    if protocol is not None and protocol.data_set == "THUMOS14 test":
        for count in range(1, len(DISPUTED) + 1):
            gone = DISPUTED[:count]
            name = "without " + ", ".join(video.removeprefix("video_test_") for video in gone)
            variants[name] = {video: entries for video, entries in truth.items() if video not in gone}
        variants[f"without {AMBIGUOUS!r}"] = _kept(truth, lambda video, entry: entry.get("label") != AMBIGUOUS)
        cliffs = _cliffs_in_diving(truth)
        variants["CliffDiving not counted as Diving"] = _kept(
            truth, lambda video, e: e.get("label") != "Diving" or (video, *map(float, e["segment"])) not in cliffs
        )
    known = {name.removeprefix("v_") for name in found}
    if known:
        variants["only videos with results"] = {v: e for v, e in truth.items() if v.removeprefix("v_") in known}
    filled = {video: entries for video, entries in truth.items() if entries}
    return {
        name: other
        for name, other in variants.items()
        if any(other.values()) and {video: list(entries) for video, entries in other.items() if entries} != filled
    }


def _kept(truth: Truth, keep: Callable[[str, Mapping[str, Any]], bool]) -> Truth:
    return {video: [entry for entry in entries if keep(video, entry)] for video, entries in truth.items()}


def recognize_videos(paths: Iterable[str], num_classes: int | None, trained: Iterable[str] = ()) -> DataProtocol | None:
    """The protocol of a recognizer's test list; None where none is known.

    Args:
        paths: of the tested videos.
        num_classes: of the network, which tells Kinetics-400 from its successors.
        trained: paths of the training list, where it is known.
    """
    names = [PurePath(path.replace("\\", "/")).name.partition(".")[0] for path in paths]
    if not names:
        return None
    groups = [(found[1].lower(), int(found[2])) for name in names if (found := _UCF101.match(name))]
    if len(groups) == len(names):
        return _ucf101(groups, trained)
    if num_classes == 48 and all(map(_DIVING.fullmatch, names)):
        usual = _DIVING48.get(len(names), "neither V1's nor V2's number of videos: say which labels these are")
        return DataProtocol("Diving48", f"{len(names):,} videos ({usual})", len(names))
    if num_classes == 400 and 10_000 <= len(names) <= 19_906 and all(map(_KINETICS.fullmatch, names)):
        usual = _KINETICS400.get(len(names), f"a copy that lacks {19906 - len(names):,}")
        return DataProtocol("Kinetics-400 validation", f"{len(names):,} of 19,906 videos ({usual})", len(names))
    return None


def _ucf101(groups: Sequence[tuple[str, int]], trained: Iterable[str]) -> DataProtocol:
    numbers = {number for _, number in groups}
    split = next((i + 1 for i in range(3) if numbers <= set(range(7 * i + 1, 7 * i + 8))), None)
    official = (3783, 3734, 3696)
    if split is None:
        variant = f"{len(groups):,} videos of groups {min(numbers)} to {max(numbers)}: none of the three test splits"
    else:
        variant = f"split {split}, {len(groups):,} of its {official[split - 1]:,} test videos"
    seen = {(found[1].lower(), int(found[2])) for path in trained if (found := _UCF101.search(path))}
    shared = sum(group in seen for group in groups)
    notes: tuple[str, ...] = ()
    if shared:
        notes = (
            f"{shared:,} of them are from groups (one recording, cut up) that the network was trained on: the figure is too good",
        )
    return DataProtocol("UCF101", variant, len(groups), notes)


def check_same(a: DataProtocol | None, b: DataProtocol | None, names: tuple[str, str]) -> None:
    """Refuse to compare results of different variants.

    Raises:
        DataError: both are known, and differ.
    """
    if a is not None and b is not None and (a.data_set, a.variant) != (b.data_set, b.variant):
        raise DataError(
            f"{names[0]} and {names[1]} were measured under different protocols. {names[0]}: {a.line}. {names[1]}: {b.line}. Test both on one "
            "list, or compare the videos that they have in common with --mixed-protocols."
        )
