"""Fixtures shared by all tests."""

import os
from pathlib import Path

import pytest

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
