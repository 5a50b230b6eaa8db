"""Every odd or broken file through predict: a result, or one clear error; no crash, no hang."""

import json
import time

import numpy as np
import pytest

import clipwise
from clipwise.errors import DecodeError


@pytest.fixture(scope="module")
def predictor(trained):
    return clipwise.load(trained, device="cpu")


def test_every_odd_video_gives_a_result_or_a_clear_error(shared, predictor):
    folder = shared / "data" / "odd_videos"
    probes = {}
    for line in (folder / "probe.jsonl").read_text().splitlines():
        probe = json.loads(line)
        probes[probe["path"].removeprefix("./")] = probe
    table = []
    for path in sorted(folder.rglob("*")):
        if not path.is_file() or path.suffix in (".jsonl", ".md", ".txt", ".json"):
            continue
        name = str(path.relative_to(folder))
        frames = probes.get(name, {}).get("frames")
        started = time.monotonic()
        try:
            prediction = predictor(path)
        except DecodeError as error:
            message = str(error)
            assert path.name in message, message
            assert "\n" not in message
            table.append((name, frames, message))
        else:
            assert np.isfinite(prediction.scores).all()
            assert prediction.scores.sum() == pytest.approx(1, abs=1e-5)
            assert prediction.num_frames > 0
            if frames:
                assert prediction.num_frames == frames, name
            table.append((name, frames, prediction.num_frames))
        assert time.monotonic() - started < 60
    assert len(table) >= 45
    # What a full sequential decode could read, predict must not refuse.
    refused = [row for row in table if isinstance(row[2], str) and row[1]]
    assert not refused, refused
