"""What `clipwise localize` looks at: videos, feature files, folders of either, and files with the features of many videos."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any


@dataclass(frozen=True)
class LocalizedInput:
    """A video or a video's features."""

    name: str
    """Without directory and suffix."""
    source: str
    """What the user knows it by."""
    store: Any = None
    """The file with the features of many videos that holds it."""

    @property
    def is_video(self) -> bool:
        from clipwise.data.formats.feature_formats import SUFFIXES

        return self.store is None and Path(self.source).suffix.lower() not in SUFFIXES

    def read(self, localizer: Any) -> Any:
        """What the localizer takes."""
        if self.store is None:
            return self.source
        self.store.channels_first = localizer.channels_first
        return self.store.read(self.name)

    def facts(self) -> dict[str, Any]:
        """Duration and rate, where a file with many videos tells them; the localizer itself knows those of other inputs."""
        return {} if self.store is None else self.store.facts(self.name)


def expand_localized(words: list[str]) -> list[LocalizedInput]:
    """Inputs as `predict` takes them, folders of feature files, and files with the features of many videos."""
    from clipwise.data.feature_dataset import FeatureStore
    from clipwise.data.formats.feature_collections import find_collection
    from clipwise.data.formats.feature_formats import SUFFIXES
    from clipwise.data.videolist import VIDEO_SUFFIXES
    from clipwise.infer.inputs import expand_inputs

    items: list[LocalizedInput] = []
    for word in words:
        path = Path(word)
        suffixes = {p.suffix.lower() for p in path.iterdir()} if path.is_dir() else set()
        if many := find_collection(path):
            store = FeatureStore(many)
            items += [LocalizedInput(name, store.where(name), store) for name in store.names]
        elif suffixes & set(SUFFIXES) and not suffixes & VIDEO_SUFFIXES:
            store = FeatureStore(path)
            items += [LocalizedInput(Path(file).stem, file) for file in map(store.where, store.names)]
        else:
            for item in expand_inputs([word], (".txt",)):
                name = Path(item).name if Path(item).is_dir() else Path(item).stem
                items.append(LocalizedInput(name, item))
    return items
