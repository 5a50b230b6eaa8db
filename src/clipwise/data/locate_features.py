"""Where a localization run's files are: what was named, or the only candidates in the data folder."""

from dataclasses import dataclass
from pathlib import Path

from clipwise.data.formats.feature_formats import SUFFIXES
from clipwise.errors import DataError


@dataclass(frozen=True)
class DataPlace:
    """Where a run's files are."""

    folder: Path | None
    features: Path
    annotations: Path


def find_data(data: str | None, features: str | None = None, annotations: str | None = None) -> DataPlace:
    """Features and annotations: those that are named, or the only candidate in the data folder.

    Args:
        data: folder, or an annotation file beside which the features lie.
        features, annotations: as the recipe names them.

    Raises:
        DataError: nothing, or more than one candidate; they are listed.
    """
    folder = Path(data) if data else None
    if folder is not None and folder.is_file():
        if features is None:
            raise DataError(f"{data} is a file; set features=FOLDER beside it, or give the folder that holds both.")
        return DataPlace(folder.parent, in_folder(features, folder.parent), folder)
    if folder is not None and not folder.is_dir():
        raise DataError(f"data folder {data} does not exist.")
    if folder is None and not features:
        raise DataError(
            "no training data: give --data FOLDER with features and annotations, or set features and annotations."
        )
    if folder is None and not annotations:
        raise DataError("features are set but annotations are not: set annotations=FILE.json.")
    if features:
        where = in_folder(features, folder)
    else:
        assert folder is not None
        where = _only(
            _feature_candidates(folder), folder, "features", "a folder of feature files, or one .npz with all"
        )
    if annotations:
        return DataPlace(folder, where, in_folder(annotations, folder))
    assert folder is not None
    return DataPlace(
        folder, where, _only(_annotation_candidates(folder), folder, "annotations", "a JSON file with them")
    )


def in_folder(path: str | Path, folder: Path | None) -> Path:
    """A path of the recipe: inside the data folder if it is there, else as it stands."""
    inside = folder / path if folder is not None else None
    return inside if inside is not None and inside.exists() else Path(path)


def _feature_candidates(folder: Path) -> list[Path]:
    files = [p for p in folder.iterdir() if p.is_file() and not p.name.startswith(".")]
    found = [p for p in files if p.suffix == ".npz" or (p.suffix == ".npy" and p.with_suffix(".txt").is_file())]
    loose = not found and any(p.suffix in SUFFIXES and p.suffix != ".csv" for p in files)
    for child in sorted(p for p in folder.iterdir() if p.is_dir()):
        if (child / "recipe.yaml").is_file():  # a run, whose states are .pt files too
            continue
        if next((p for p in child.iterdir() if p.suffix in SUFFIXES), None):
            found.append(child)
    return [*found, folder] if loose else found


def _annotation_candidates(folder: Path) -> list[Path]:
    found = []
    for place in (folder, folder / "activitynet_annotations", folder / "annotations"):
        for path in sorted(place.glob("*.json")) if place.is_dir() else ():
            with open(path, encoding="utf-8", errors="replace") as file:
                start = file.read(4096)
            if '"annotations"' in start or '"database"' in start:
                found.append(path)
    return found


def _only(candidates: list[Path], folder: Path, key: str, what: str) -> Path:
    if not candidates:
        made = " `clipwise features` makes them from videos." if key == "features" else ""
        raise DataError(f"{folder} holds no {key}: {what} is looked for there. Set {key}=PATH.{made}")
    if len(candidates) > 1:
        names = ", ".join(str(p.relative_to(folder)) for p in candidates)
        raise DataError(
            f"{folder} holds several candidates for {key}: {names}. Choose one: {key}={candidates[0].relative_to(folder)}."
        )
    return candidates[0]
