"""Fixtures shared by all tests."""

import json
import os
import sys
from pathlib import Path

import numpy as np
import pytest

from helpers import TINY, load_script

REPOSITORY = Path(__file__).resolve().parents[1]


def shared_folder() -> Path | None:
    """The folder with real videos, golden values and annotations, or None where it does not exist."""
    candidate = Path(os.environ.get("CLIPWISE_SHARED", REPOSITORY.parent / "shared"))
    return candidate if candidate.is_dir() else None


@pytest.fixture(scope="session")
def shared() -> Path:
    """``../shared``; the test is skipped without it, and fails if CLIPWISE_REQUIRE_SHARED is set."""
    folder = shared_folder()
    if folder is None:
        reason = "the folder ../shared with real data is not here (set CLIPWISE_SHARED to its path)"
        if os.environ.get("CLIPWISE_REQUIRE_SHARED"):
            pytest.fail(reason)
        pytest.skip(reason)
    return folder


@pytest.fixture(autouse=True)
def no_strangers_left(tmp_path):
    """What a test wrote in its folder or its body, and registered, is unknown to the next, whichever process runs that."""
    from clipwise.io.plugins import Registry

    yield
    strangers = {
        name for name, module in sys.modules.items() if str(getattr(module, "__file__", "")).startswith(str(tmp_path))
    }
    for registry in Registry.every:
        for place, entry in list(registry.entries.items()):
            if entry.make.__module__ in strangers or "<locals>" in entry.make.__qualname__:
                del registry.entries[place]
        registry.by_name = {name: place for name, place in registry.by_name.items() if place in registry.entries}
    for name in strangers:
        del sys.modules[name]


@pytest.fixture(scope="session")
def weights_recipe(shared):
    """The module that draws the weights and inputs of the golden numbers."""
    return load_script(shared / "golden/make_weights.py")


@pytest.fixture(scope="session")
def clips(tmp_path_factory) -> Path:
    """A small video set: train/ and val/ with six classes of real mp4 files."""
    from clipwise.prepare.synthetic import make_clips

    return make_clips(tmp_path_factory.mktemp("clips"), train_per_class=4, val_per_class=2)


@pytest.fixture(scope="session")
def trained(clips, tmp_path_factory) -> Path:
    """A trained checkpoint of tsm_tiny (two epochs: its scores are real, not good)."""
    from clipwise.engine.train import train
    from clipwise.recipe import load_recipe

    folder = tmp_path_factory.mktemp("trained")
    return train(load_recipe("tsm_tiny", TINY), data=str(clips), work_dir=folder, quiet=True).last


@pytest.fixture(scope="session")
def make_sequences():
    """A function that writes feature files (40 rows of 16) with annotations, enough for steps of a small BMN."""

    def make(folder: Path, train: int = 4, val: int = 2) -> Path:
        (folder / "features").mkdir(parents=True)
        database = {}
        for number in range(train + val):
            rng = np.random.default_rng(number)
            np.save(folder / "features" / f"v_{number}.npy", rng.normal(size=(40, 16)).astype(np.float32))
            start = float(rng.integers(1, 5))
            database[f"v_{number}"] = {
                "duration": 10.0,
                "subset": "training" if number < train else "validation",
                "annotations": [{"segment": [start, start + float(rng.integers(2, 4))], "label": "waving"}],
            }
        (folder / "annotations.json").write_text(json.dumps({"database": database}), encoding="utf-8")
        return folder

    return make
