"""Fixtures of the server's tests."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pytest

from clipwise.prepare.synthetic import write_video

sys.path.insert(0, str(Path(__file__).parent))  # for serving.py and webdriver.py beside this file


@pytest.fixture(scope="session")
def server():
    """A server with the usual limits."""
    from serving import start_server

    running, stop = start_server()
    yield running
    stop()


@pytest.fixture(scope="session")
def videos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """``levels.mp4``: 2 s dark, 2 s bright, 2 s dark; ``bright.mp4``: 1 s."""
    folder = tmp_path_factory.mktemp("videos")
    noise = np.random.default_rng(0).integers(0, 20, (25, 72, 96, 3), np.uint8)
    dark, bright = noise + 20, noise + 215
    write_video(folder / "levels.mp4", np.concatenate([dark, dark, bright, bright, dark, dark]))
    write_video(folder / "bright.mp4", bright)
    return folder
