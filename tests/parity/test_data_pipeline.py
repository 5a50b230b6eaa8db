"""The whole test pipeline (which frames, decoding, resize, crops, order of views) against MMAction2 0.24.1 and 1.2.0.

``golden/pipeline/video_{0x,1x}.json`` hold what the peers made of demo.mp4 with decord, PyAV and OpenCV: frame numbers,
statistics and 24 values of the decoded and of the packed pixels, and a hash. Tolerance: none, the pixels are equal.
"""

import hashlib
import json

import numpy as np
import pytest

from clipwise.data.sampling import sample_frames
from clipwise.data.transforms import ClipTransform
from clipwise.video.decode import open_video

PIPELINES = {
    "slowonly_4x16_test_10x3_256": (
        {"clip_len": 4, "frame_interval": 16, "num_clips": 10},
        {"crop": "three", "crop_size": 256},
    ),
    "slowonly_8x8_val_224": ({"clip_len": 8, "frame_interval": 8}, {"crop": "center", "crop_size": 224}),
    "tsn_val_8_224": ({"clip_len": 1, "num_clips": 8}, {"crop": "center", "crop_size": 224}),
    "tsm_test_8_tencrop_224": ({"clip_len": 1, "num_clips": 8}, {"crop": "ten", "crop_size": 224}),
    "tpn_tsm_test_twice_threecrop_256": (
        {"clip_len": 1, "num_clips": 8, "twice_sample": True},
        {"crop": "three", "crop_size": 256},
    ),
}


def check(pixels, golden):
    assert list(pixels.shape) == golden["shape"]
    assert pixels.dtype == np.uint8
    assert pixels.mean() == pytest.approx(golden["mean"], abs=1e-9)
    assert pixels.std() == pytest.approx(golden["std"], abs=1e-6)
    flat = np.ascontiguousarray(pixels).reshape(-1)
    assert flat[golden["flat_index"]].tolist() == golden["values"]
    views = pixels.reshape(len(pixels), -1).mean(1)
    assert np.allclose(views, golden["per_view_mean"], rtol=0, atol=1e-9)
    assert hashlib.sha1(flat.tobytes()).hexdigest()[:16] == golden["sha1"]


@pytest.mark.parametrize("name", PIPELINES)
@pytest.mark.parametrize("version", ["0x", "1x"])
def test_pipeline_equals_mmaction2(shared, version, name):
    rows = json.loads((shared / f"golden/pipeline/video_{version}.json").read_text())
    video = shared / "data/real_videos/demo.mp4"
    assert hashlib.sha1(video.read_bytes()).hexdigest() == rows["file_sha1"]
    sampling, transform = PIPELINES[name]
    transform = ClipTransform(resize=256, interpolation="opencv", fused=False, **transform)
    golden = rows[f"{name}/pyav"]
    assert rows[f"{name}/decord"] == rows[f"{name}/opencv"] == golden  # the peer's three decoders agree on this file
    with open_video(video) as reader:
        assert reader.num_frames == golden["total_frames"]
        frames = sample_frames(reader.num_frames, mode="test", rule=f"mmaction2_{version[0]}.x", **sampling)
        assert frames.reshape(-1).tolist() == golden["frame_inds"]
        decoded = reader.frames(frames.reshape(-1))
        check(decoded, golden["decoded"])
        plan = transform.draw(reader.height, reader.width)
        views = reader.frames(frames.reshape(-1), transform=plan.apply)  # (clips · L, crops, h, w, C)
    views = np.moveaxis(views, 1, 0)  # crops first, as every format of the peer has them
    crops, _, height, width, colors = views.shape
    if sampling["clip_len"] > 1:
        packed = views.reshape(crops * len(frames), sampling["clip_len"], height, width, colors)
        packed = packed.transpose(0, 4, 1, 2, 3)  # NCTHW
    else:
        packed = views.reshape(-1, height, width, colors).transpose(0, 3, 1, 2)  # NCHW
    check(packed, golden["packed"])
    assert np.array_equal(plan.apply(decoded), views)  # all frames together give the same


def test_frame_numbers_of_frame_folders(shared):
    """Rows of the peers' 10-picture and 5-flow-pair test folders, whose pictures are not here; files count from 1."""
    for version in ("0x", "1x"):
        rows = json.loads((shared / f"golden/pipeline/video_{version}.json").read_text())
        rgb = sample_frames(10, clip_len=1, num_clips=8, mode="test", rule=f"mmaction2_{version[0]}.x")
        assert (rgb.reshape(-1) + 1).tolist() == rows["rawframes_rgb"]["frame_inds"]
        flow = sample_frames(5, clip_len=4, mode="test", rule=f"mmaction2_{version[0]}.x")
        golden = rows["flow_raw_unpacked" if version == "0x" else "flow_raw"]["frame_inds"]
        assert (flow.reshape(-1) + 1).tolist() == golden


def test_default_pixels_stay_near_the_peer_s(shared):
    """The anti-aliased, fused default against MMAction2's two steps, on real frames: another resize, the same picture."""
    with open_video(shared / "data/real_videos/demo.mp4") as reader:
        decoded = reader.frames([20, 100])
    crop = {"crop": "random_resized", "crop_size": 112, "area_range": (0.5, 1.0)}
    for seed in range(5):
        views = []
        for options in ({}, {"interpolation": "opencv", "fused": False}):
            transform = ClipTransform(resize=256, **crop, **options)
            plan = transform.draw(*decoded.shape[1:3], np.random.default_rng(seed))
            views.append(plan.apply(decoded).astype(int))
        assert np.abs(views[0] - views[1]).mean() < 8
        assert abs(views[0].mean() - views[1].mean()) < 1
