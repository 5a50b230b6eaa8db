"""Frame sampling against MMAction2's own tables, and properties that must hold for any video."""

import json

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from clipwise.data.sampling import sample_frames
from clipwise.data.sampling_variants import dense_sample_frames, paddle_sample_frames
from clipwise.errors import DataError, RecipeError


def _load(shared, name):
    return json.loads((shared / "golden" / name).read_text())


def _ours(row, rule):
    return sample_frames(
        row["total_frames"],
        clip_len=row["clip_len"],
        frame_interval=row["frame_interval"],
        num_clips=row["num_clips"],
        mode="test" if row["test_mode"] else "train",
        rule=rule,
        twice_sample=row.get("twice_sample", False),
        keep_tail_frames=row.get("keep_tail_frames", False),
        temporal_jitter=row.get("temporal_jitter", False),
        out_of_bound=row.get("out_of_bound_opt", "loop"),
        target_fps=row.get("target_fps"),
        fps=row.get("avg_fps"),
        rng=np.random.RandomState(row["numpy_seed"]) if "numpy_seed" in row else None,
    )


@pytest.mark.parametrize(("version", "num_rows"), [("0x", 1188), ("1x", 1185)])
def test_sample_frames_equals_mmaction2(shared, version, num_rows):
    compared = 0
    for row in _load(shared, f"pipeline/sampling_{version}.json")["SampleFrames"]:
        if "error" in row:
            continue
        ours = _ours(row, f"mmaction2_{version[0]}.x")
        expected = np.array(row["frame_inds"]).reshape(-1, row["clip_len"]) - row["start_index"]
        if (
            row.get("twice_sample")
            and version == "0x"
            and row["total_frames"] < row["clip_len"] * row["frame_interval"]
        ):
            expected = np.concatenate([expected, expected])  # the doubling that 0.24 forgets, see sampling.py
        assert ours.tolist() == expected.tolist(), row
        compared += 1
    assert compared == num_rows


def test_one_clip_sampled_twice_does_not_divide_by_zero(shared):
    """MMAction2 1.2 raises in these rows."""
    rows = [row for row in _load(shared, "pipeline/sampling_1x.json")["SampleFrames"] if "error" in row]
    assert len(rows) == 27
    for row in rows:
        ours = _ours(row, "mmaction2_1.x")
        assert ours.shape == (2, row["clip_len"])
        assert ours.max() < row["total_frames"]


@pytest.mark.parametrize("version", ["0x", "1x"])
def test_dense_sample_frames_equals_mmaction2(shared, version):
    rows = _load(shared, f"pipeline/sampling_{version}.json")["DenseSampleFrames"]
    assert len(rows) == 8
    for row in rows:
        ours = dense_sample_frames(
            row["total_frames"],
            clip_len=row["clip_len"],
            frame_interval=row["frame_interval"],
            num_clips=row["num_clips"],
            mode="test" if row["test_mode"] else "train",
            rng=np.random.RandomState(row["numpy_seed"]),
        )
        assert ours.reshape(-1).tolist() == row["frame_inds"], row


def test_second_golden_table(shared):
    rows = _load(shared, "mmaction2_0.24_sampling.json")
    assert len(rows) == 103
    for row in rows:
        if row["op"].startswith("SampleFrames"):
            shape = {
                "clip_len": row["clip_len"],
                "frame_interval": row["interval"],
                "num_clips": row["num_clips"],
            }
            mode = "train" if "train" in row["op"] else "test"
            rng = np.random.RandomState(row["seed"]) if mode == "train" else None
            ours = sample_frames(row["N"], **shape, mode=mode, twice_sample=row.get("twice", False), rng=rng)
            assert ours.reshape(-1).tolist() == row["v024_inds"], row
            if "v12_first_of_clip" in row:
                newer = sample_frames(row["N"], **shape, mode="test", rule="mmaction2_1.x")
                assert newer[:, 0].tolist() == row["v12_first_of_clip"], row
        elif row["op"].startswith("Dense"):
            ours = dense_sample_frames(row["N"], num_clips=row["num_clips"], mode="test")
            assert ours.reshape(-1).tolist() == row["v024_inds"], row


def test_anchors_without_the_shared_folder():
    """A few rows of the specification, so that this file tests something everywhere."""
    first = sample_frames(300, clip_len=4, frame_interval=16, num_clips=10, mode="test")[:, 0]
    assert first.tolist() == [11, 35, 59, 82, 106, 130, 154, 177, 201, 225]
    newer = sample_frames(300, clip_len=4, frame_interval=16, num_clips=10, mode="test", rule="mmaction2_1.x")[:, 0]
    assert newer.tolist() == [0, 28, 56, 84, 112, 139, 167, 195, 223, 251]
    assert sample_frames(40, clip_len=4, frame_interval=16, mode="test").tolist() == [[0, 16, 32, 8]]
    twice = sample_frames(300, clip_len=1, num_clips=8, mode="test", twice_sample=True).reshape(-1)
    assert twice.tolist() == [18, 56, 93, 131, 168, 206, 243, 281, 0, 37, 75, 112, 150, 187, 225, 262]


@pytest.mark.parametrize(
    ("num_frames", "segment_len", "source", "expected"),
    [
        (30, 1, "pkl", [[4], [14], [24]]),
        (30, 1, "mp4", [[4], [14], [24]]),
        (31, 4, "pkl", [[3, 4, 5, 6], [13, 14, 15, 16], [23, 24, 25, 26]]),
        (31, 4, "mp4", [[4, 5, 6, 7], [14, 15, 16, 17], [24, 25, 26, 27]]),
        (8, 4, "pkl", [[0, 1, 2, 3], [2, 3, 4, 5], [4, 5, 6, 7]]),
        (2, 1, "pkl", [[0], [1], [0]]),
    ],
)
def test_paddle_test_frames(num_frames, segment_len, source, expected):
    ours = paddle_sample_frames(num_frames, num_segments=3, segment_len=segment_len, mode="test", source=source)
    assert ours.tolist() == expected


def test_paddle_train_frames_reach_both_ends_of_a_part():
    rng = np.random.default_rng(0)
    drawn = np.stack([paddle_sample_frames(31, num_segments=3, rng=rng)[:, 0] for _ in range(300)])
    assert drawn.min(0).tolist() == [0, 10, 20]
    assert drawn.max(0).tolist() == [9, 19, 29]


sizes = {"num_frames": st.integers(1, 400), "clip_len": st.integers(1, 9), "num_clips": st.integers(1, 12)}


@settings(max_examples=300, deadline=None)
@given(
    **sizes,
    frame_interval=st.integers(1, 20),
    mode=st.sampled_from(["train", "test"]),
    rule=st.sampled_from(["mmaction2_0.x", "mmaction2_1.x"]),
    twice=st.booleans(),
    tail=st.booleans(),
    jitter=st.booleans(),
    bound=st.sampled_from(["loop", "repeat_last"]),
    target_fps=st.sampled_from([None, 7.5, 30.0]),
    seed=st.integers(0, 5),
)
def test_any_clip_lies_inside_its_video(
    num_frames, clip_len, num_clips, frame_interval, mode, rule, twice, tail, jitter, bound, target_fps, seed
):
    frames = sample_frames(
        num_frames,
        clip_len=clip_len,
        frame_interval=frame_interval,
        num_clips=num_clips,
        mode=mode,
        rule=rule,
        twice_sample=twice,
        keep_tail_frames=tail,
        temporal_jitter=jitter,
        out_of_bound=bound,
        target_fps=target_fps,
        fps=24.0,
        rng=np.random.default_rng(seed),
    )
    clips = num_clips * (2 if twice and mode == "test" else 1)
    assert frames.shape == (clips, clip_len)
    assert frames.dtype == np.int64
    assert frames.min() >= 0
    assert frames.max() < num_frames
    if bound == "repeat_last" and target_fps is None and not jitter:
        assert (np.diff(frames, axis=1) >= 0).all()


@settings(max_examples=100, deadline=None)
@given(**sizes, seed=st.integers(0, 5), mode=st.sampled_from(["train", "test"]))
def test_other_samplers_stay_inside(num_frames, clip_len, num_clips, seed, mode):
    rng = np.random.default_rng(seed)
    dense = dense_sample_frames(num_frames, clip_len=clip_len, num_clips=num_clips, mode=mode, rng=rng)
    assert dense.shape == (num_clips * (10 if mode == "test" else 1), clip_len)
    paddle = paddle_sample_frames(num_frames, num_segments=num_clips, segment_len=clip_len, mode=mode, rng=rng)
    assert paddle.shape == (num_clips, clip_len)
    for frames in (dense, paddle):
        assert frames.min() >= 0
        assert frames.max() < num_frames


def test_train_draws_depend_on_the_generator_only():
    def draw(seed):
        return sample_frames(300, clip_len=4, frame_interval=8, num_clips=3, rng=np.random.default_rng(seed)).tolist()

    assert draw(1) == draw(1)
    assert draw(1) != draw(2)


def test_errors_say_what_to_do():
    with pytest.raises(DataError, match="0 frames"):
        sample_frames(0, clip_len=1, mode="test")
    with pytest.raises(RecipeError, match=r"rng=numpy.random.default_rng"):
        sample_frames(30, clip_len=1)
    with pytest.raises(RecipeError, match="clip_len is 0"):
        sample_frames(30, clip_len=0, mode="test")
    with pytest.raises(RecipeError, match="pass fps"):
        sample_frames(30, clip_len=1, mode="test", target_fps=30)
    with pytest.raises(RecipeError, match="'train' and 'test'"):
        sample_frames(30, clip_len=1, mode="val")
    with pytest.raises(RecipeError, match=r"'mmaction2_0.x', 'mmaction2_1.x'"):
        sample_frames(30, clip_len=1, mode="test", rule="2.x")
