"""Recipe keys of the input that reach the frames: resize rule, temporal jitter, decoder."""

import numpy as np
import pytest

from clipwise.data.clip_spec import ClipSpec
from clipwise.data.dataset import ClipDataset
from clipwise.data.lists import read_list
from clipwise.errors import MissingExtraError
from clipwise.recipe import load_recipe
from clipwise.video import decode


def spec(mode, *words):
    return ClipSpec.from_recipe(load_recipe("slowonly_tiny", words).model_dump(), mode)


def test_fit_keeps_the_shape_within_both_sides():
    """96 x 72 into 64 x 64: the long side becomes 64, the short one 48."""
    fitted = spec("test", "input.resize_rule=fit", "test.resize=[64, 64]", "test.crop_size=48")
    assert fitted.transform.draw(72, 96).resized == (48, 64)
    assert spec("test", "test.resize=[64, 64]", "test.crop_size=48").transform.draw(72, 96).resized == (64, 64)


def test_temporal_jitter_moves_each_frame_by_less_than_the_interval():
    words = ["clip_len=8", "frame_interval=4", "input.temporal_jitter=true"]
    train, plain = spec("train", *words), spec("train", *words[:2])
    rows = [train.indices(200, np.random.default_rng(i))[0] for i in range(20)]
    starts = [plain.indices(200, np.random.default_rng(i))[0] for i in range(20)]
    moves = np.array(rows) - np.array(starts)
    assert set(np.unique(moves)) == {0, 1, 2, 3}
    assert (np.diff(starts) == 4).all()
    assert (
        spec("val", *words).indices(200, np.random.default_rng(0)) == spec("val", *words[:2]).indices(200, None)
    ).all()


def test_the_decoder_of_the_recipe_opens_the_files(clips, monkeypatch):
    opened = []

    def remember(source, *, backend="auto", timeout_s=None, **options):
        opened.append(backend)
        return decode.open_video(source, timeout_s=timeout_s)

    monkeypatch.setattr("clipwise.data.clip_spec.open_video", remember)
    videos = read_list(clips / "val")
    ClipDataset(videos, spec("val"))[0]
    ClipDataset(videos, spec("val", "input.video_backend=torchcodec"))[0]
    assert opened == ["pyav", "torchcodec"]


def test_a_decoder_that_is_not_installed_ends_the_run(clips, monkeypatch):
    """It is no fault of the videos: none is replaced or counted as wrong."""
    monkeypatch.setitem(__import__("sys").modules, "torchcodec", None)
    monkeypatch.setitem(__import__("sys").modules, "torchcodec.decoders", None)
    dataset = ClipDataset(read_list(clips / "val"), spec("val", "input.video_backend=torchcodec"))
    with pytest.raises(MissingExtraError, match="codec"):
        dataset[0]
