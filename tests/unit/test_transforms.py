"""Resizing, cropping and mirroring against MMAction2's boxes and OpenCV's pixels; plans; normalization."""

import hashlib
import json
import random
import zlib

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from clipwise.data import crops
from clipwise.data.flip_labels import FLIP_LABEL_MAPS, flip_label
from clipwise.data.size_rules import paddle_size
from clipwise.data.transforms import ClipTransform, normalize_clips, resize_frames
from clipwise.errors import DataError, RecipeError


class PythonRandom:
    """Python's generator behind the one method that positions are drawn with, to replay MMAction2."""

    def __init__(self, seed):
        self.source = random.Random(seed)

    def integers(self, low, high, size=None):
        return self.source.randrange(low, high)


def recipe_image(height, width):
    tag = f"img/{height}x{width}/0".encode()
    return np.random.RandomState(zlib.crc32(tag)).randint(0, 256, (height, width, 3)).astype(np.uint8)


def sha1(images):
    return hashlib.sha1(np.ascontiguousarray(images).tobytes()).hexdigest()[:16]


def _transform(name, args):
    """Our transform, and whether its plan draws positions with Python's generator."""
    if name == "Resize" and args.get("keep_ratio") is False:
        return ClipTransform(resize=tuple(args["scale"]), interpolation="opencv")
    if name == "Resize" and -1 in args["scale"]:
        return ClipTransform(resize=max(args["scale"]), interpolation="opencv")
    if name == "Resize":
        return ClipTransform(resize=tuple(args["scale"]), resize_rule="fit", interpolation="opencv")
    crop = {"CenterCrop": "center", "TenCrop": "ten", "ThreeCrop": "three"}[name]
    return ClipTransform(crop=crop, crop_size=args["crop_size"], interpolation="opencv")


def _random_box(row):
    seed, name, args = row["seed_python_and_numpy"], row["transform"], dict(row["args"])
    if name == "RandomResizedCrop":
        legacy = np.random.RandomState(seed)
        return crops.random_resized_crop_box(row["h"], row["w"], legacy, position_rng=PythonRandom(seed))
    if name == "MultiScaleCrop":
        name_of = {"max_wh_scale_gap": "max_scale_gap"}
        return crops.multi_scale_crop_box(
            row["h"],
            row["w"],
            PythonRandom(seed),
            **{name_of.get(key, key): value for key, value in args.items()},
        )
    transform = ClipTransform(crop="random", crop_size=args["size"])
    return transform.draw(row["h"], row["w"], np.random.RandomState(seed)).boxes[0]


@pytest.mark.parametrize("version", ["0x", "1x"])
def test_boxes_and_pixels_equal_mmaction2(shared, version):
    compared = {}
    for row in json.loads((shared / f"golden/pipeline/crops_{version}.json").read_text())["crops"]:
        name, height, width = row["transform"], row["h"], row["w"]
        image = recipe_image(height, width)
        if name == "ColorJitter":
            continue  # test_augment.py
        if "error" in row:
            with pytest.raises(DataError, match="Resize its short side to 256 first"):
                _transform(name, row["args"]).draw(height, width)
        elif name == "Flip":
            plan = ClipTransform(flip_prob=0.5).draw(height, width, np.random.RandomState(row["seed_python_and_numpy"]))
            assert sha1(plan.apply(image)) == row["sha1"], row
        elif "seed_python_and_numpy" in row:
            left, top, right, bottom = _random_box(row)
            assert [left, top, right, bottom] == row["crop_bbox"], row
            assert sha1(image[top:bottom, left:right]) == row["sha1"], row
        else:
            plan = _transform(name, row["args"]).draw(height, width)
            views = plan.apply(image)
            assert list(views.shape[1:3]) == row["img_shape"], row
            assert len(views) == row["n_imgs"]
            assert sha1(views) == row["sha1"], row
            if "crop_bbox" in row:
                boxes = [list(box) for box in plan.boxes]
                assert (boxes if name in ("TenCrop", "ThreeCrop") else boxes[0]) == row["crop_bbox"], row
        compared[name] = compared.get(name, 0) + 1
    expected = {"Resize": 36, "CenterCrop": 8, "TenCrop": 8, "ThreeCrop": 9, "Flip": 36}
    assert compared == expected | {"RandomResizedCrop": 36, "MultiScaleCrop": 72, "RandomCrop": 36}


def test_flow_mirror_equals_mmaction2_0x(shared):
    golden = json.loads((shared / "golden/pipeline/crops_0x.json").read_text())
    plan = ClipTransform(flip_prob=1, modality="flow").draw(1, 1)
    pixels = np.array(golden["flow_flip_input_xy"], np.uint8).reshape(4, 1, 1, 2)
    assert plan.apply(pixels).reshape(-1, 1).tolist() == golden["flow_flip_output"]


def test_opencv_pixels_without_the_shared_folder():
    """Two rows of the golden table: an enlargement and a reduction, rows and columns odd."""
    enlarged = resize_frames(recipe_image(240, 320), (256, 341), "opencv")
    assert sha1(enlarged) == "763a25c5da9d56ae"
    assert enlarged.mean() == pytest.approx(127.35189470307918, abs=1e-9)
    assert sha1(resize_frames(recipe_image(240, 320), (224, 224), "opencv")) == "81ce19e791660da3"


@settings(max_examples=40, deadline=None)
@given(
    source=st.tuples(st.integers(2, 70), st.integers(2, 70)),
    target=st.tuples(st.integers(2, 70), st.integers(2, 70)),
    corner=st.tuples(st.floats(0, 0.9), st.floats(0, 0.9)),
    interpolation=st.sampled_from(["antialias", "opencv"]),
)
def test_a_region_is_cut_from_the_whole_resized_frame(source, target, corner, interpolation):
    frames = np.random.default_rng(1).integers(0, 256, (2, *source, 3), dtype=np.uint8)
    top, left = int(corner[0] * target[0]), int(corner[1] * target[1])
    whole = resize_frames(frames, target, interpolation)
    part = resize_frames(frames, target, interpolation, region=(left, top, target[1], target[0]))
    assert np.array_equal(part, whole[:, top:, left:])
    assert np.array_equal(resize_frames(frames[0], target, interpolation), whole[0])


def test_antialias_keeps_the_mean_where_opencv_drops_pixels():
    stripes = np.zeros((64, 64, 3), np.uint8)
    stripes[:, ::8] = 255
    exact = stripes.mean()
    assert abs(resize_frames(stripes, (16, 16)).mean() - exact) < 1.5
    assert abs(resize_frames(stripes, (16, 16), "opencv").mean() - exact) > 10


@pytest.mark.parametrize(
    ("size", "expected"),
    [((240, 320), (256, 341)), ((360, 640), (256, 455)), ((100, 176), (256, 451)), ((255, 257), (256, 258))],
)
def test_short_side_sizes(size, expected):
    assert ClipTransform(resize=256).draw(*size).resized == expected


def test_paddle_stretches_to_four_by_three():
    assert paddle_size(360, 640, 256) == (256, 341)
    assert paddle_size(640, 360, 256) == (341, 256)
    assert paddle_size(256, 500, 256) == (256, 500)
    assert paddle_size(300, 300, 256) == (256, 341)
    plan = ClipTransform(resize=256, resize_rule="paddle_4x3", crop="center", crop_size=224).draw(256, 343)
    assert plan.boxes == ((60, 16, 284, 240),)  # 59.5 goes to the even number


def test_three_crops_come_left_right_middle():
    assert [box[0] for box in crops.three_crop_boxes(256, 341, size=256)] == [0, 84, 42]
    assert [box[1] for box in crops.three_crop_boxes(341, 256, size=256)] == [0, 84, 42]


def test_ten_crops_of_flow():
    flow = np.random.default_rng(0).integers(0, 256, (20, 30, 2), dtype=np.uint8)
    ours = ClipTransform(crop="ten", crop_size=12, modality="flow").draw(20, 30).apply(flow)
    plain = ClipTransform(crop="ten", crop_size=12).draw(20, 30).apply(flow)
    assert np.array_equal(plain[1], plain[0][:, ::-1])
    assert np.array_equal(ours[1, ..., 0], 255 - plain[1, ..., 0])
    assert np.array_equal(ours[1, ..., 1], plain[1, ..., 1])
    assert np.array_equal(ours[::2], plain[::2])


def test_unfused_pixels_are_those_of_two_steps():
    image = recipe_image(100, 176)
    for interpolation in ("antialias", "opencv"):
        transform = ClipTransform(
            resize=128, crop="random_resized", crop_size=64, interpolation=interpolation, fused=False
        )
        plan = transform.draw(100, 176, np.random.default_rng(3))
        left, top, right, bottom = plan.boxes[0]
        middle = resize_frames(image, (128, 225), interpolation)[top:bottom, left:right]
        assert np.array_equal(plan.apply(image)[0], resize_frames(middle, (64, 64), interpolation))


def test_fused_pixels_are_close_to_two_steps():
    yy, xx = np.mgrid[:240, :320]
    image = np.stack([yy, xx * 0.7, 127 + 90 * np.sin(xx / 20) * np.cos(yy / 25)], -1).astype(np.uint8)
    for seed in range(8):
        for crop in ("random_resized", "multi_scale"):
            views = []
            for fused in (True, False):
                transform = ClipTransform(resize=256, crop=crop, crop_size=112, area_range=(0.3, 1), fused=fused)
                views.append(transform.draw(240, 320, np.random.default_rng(seed)).apply(image).astype(int))
            assert np.abs(views[0] - views[1]).mean() < 2


def test_a_stack_of_frames_equals_frame_by_frame():
    frames = np.random.default_rng(0).integers(0, 256, (4, 48, 64, 3), dtype=np.uint8)
    for crop in ("none", "random_resized", "multi_scale", "random", "center", "three", "ten"):
        resize = 32 if crop != "random" else 40
        transform = ClipTransform(resize=resize, crop=crop, crop_size=32 if crop != "none" else None, flip_prob=0.5)
        plan = transform.draw(48, 64, np.random.default_rng(5))
        together = plan.apply(frames)
        assert np.array_equal(together, np.stack([plan.apply(frame) for frame in frames], 1)), crop
        assert together.shape == (transform.num_crops, 4, *plan.output, 3)


@settings(max_examples=200, deadline=None)
@given(
    height=st.integers(40, 300),
    width=st.integers(40, 300),
    crop=st.sampled_from(["random_resized", "multi_scale", "random", "center", "three", "ten"]),
    fixed=st.sampled_from([5, 13]),
    size=st.integers(8, 60),
    seed=st.integers(0, 3),
)
def test_any_box_lies_inside_its_frame(height, width, crop, fixed, size, seed):
    transform = ClipTransform(
        resize=size if crop == "three" else 64,
        crop=crop,
        crop_size=size,
        flip_prob=0.5,
        num_fixed_crops=fixed,
    )
    plan = transform.draw(height, width, np.random.default_rng(seed))
    for left, top, right, bottom in plan.boxes:
        assert 0 <= left < right <= plan.resized[1]
        assert 0 <= top < bottom <= plan.resized[0]
        box = (left, top, right, bottom)
        left, top, right, bottom = crops.box_in_source(box, plan.source, plan.resized)
        assert 0 <= left < right <= width
        assert 0 <= top < bottom <= height
    assert plan.output == (size, size)


def test_labels_follow_the_mirror():
    assert ClipTransform(flip_prob=1).draw(4, 4).flipped
    assert not ClipTransform().draw(4, 4).flipped
    assert not ClipTransform(crop="ten", crop_size=2).draw(4, 4).flipped
    assert [flip_label(label, "sthv1") for label in (2, 4, 30, 41, 52, 66, 3)] == [4, 2, 41, 30, 66, 52, 3]
    several = np.zeros(8, np.float32)
    several[[0, 3]] = 1
    assert np.flatnonzero(flip_label(several, {0: 1, 1: 0})).tolist() == [1, 3]
    for mapping in FLIP_LABEL_MAPS.values():
        assert all(mapping[mapping[label]] == label for label in mapping)
    with pytest.raises(RecipeError, match="sthv1, sthv2"):
        flip_label(0, "sth")


def test_normalization_matches_the_formula_and_moves_channels():
    clips = torch.randint(0, 256, (2, 3, 8, 5, 4, 3), dtype=torch.uint8)
    mean, std = [123.675, 116.28, 103.53], [58.395, 57.12, 57.375]
    ours = normalize_clips(clips, mean, std)
    assert ours.shape == (2, 3, 3, 8, 5, 4)
    expected = (clips.double().numpy() - mean) / std
    assert np.allclose(ours.numpy(), np.moveaxis(expected, -1, -4), atol=1e-6)
    assert ours[0].is_contiguous(memory_format=torch.channels_last_3d)
    flow = normalize_clips(torch.full((1, 2, 2, 10), 192, dtype=torch.uint8), [128, 64], [128, 128])
    assert flow.shape == (10, 1, 2, 2)
    assert flow[:, 0, 0, 0].tolist() == [0.5, 1.0] * 5
    assert normalize_clips(clips, mean, std, dtype=torch.bfloat16).dtype == torch.bfloat16
    as_float = clips[0, 0].float()
    normalize_clips(as_float, mean, std)
    assert torch.equal(as_float, clips[0, 0].float())  # a caller's float clips are not overwritten


def test_errors_say_what_to_do():
    with pytest.raises(DataError, match="crop of 224 x 224 does not fit into a frame of 100 x 176"):
        ClipTransform(crop="center", crop_size=224).draw(100, 176)
    with pytest.raises(RecipeError, match="'none', 'random_resized'"):
        ClipTransform(crop="centre", crop_size=224)
    with pytest.raises(RecipeError, match="needs crop_size"):
        ClipTransform(crop="center")
    with pytest.raises(RecipeError, match="wants two numbers"):
        ClipTransform(resize=256, resize_rule="fixed")
    with pytest.raises(RecipeError, match="is random"):
        ClipTransform(flip_prob=0.5).draw(10, 10)
    with pytest.raises(RecipeError, match="from 0 to 1"):
        ClipTransform(flip_prob=50)
    with pytest.raises(DataError, match="frame size changes within the video"):
        ClipTransform(resize=8).draw(10, 10).apply(np.zeros((12, 10, 3), np.uint8))
    with pytest.raises(RecipeError, match=r"mean \(of length 2\) .* the clips have 3"):
        normalize_clips(torch.zeros(1, 2, 2, 3, dtype=torch.uint8), [1, 2], [1, 2])
