"""Augmentations of batches: MMAction2's colors bit for bit, one draw a clip, soft labels that add up."""

import hashlib
import json
import zlib

import numpy as np
import pytest
import torch

from clipwise.data.augment import BatchAugment, color_jitter, cutmix, lighting_jitter, mixup, random_erasing
from clipwise.data.colors import _reciprocal, rotate_hue
from clipwise.data.randaugment import OPERATIONS, apply_operation, rand_augment
from clipwise.errors import RecipeError

FRAMES = torch.from_numpy(np.random.default_rng(0).integers(0, 256, (4, 3, 20, 36, 3), dtype=np.uint8))


def rng(seed=0):
    return np.random.default_rng(seed)


@pytest.mark.parametrize("version", ["0x", "1x"])
def test_color_jitter_equals_mmaction2(shared, version):
    rows = json.loads((shared / f"golden/pipeline/crops_{version}.json").read_text())["crops"]
    rows = [row for row in rows if row["transform"] == "ColorJitter"]
    assert len(rows) == 3
    for row in rows:
        draws = np.random.RandomState(zlib.crc32(f"img/{row['h']}x{row['w']}/0".encode()))
        image = draws.randint(0, 256, (row["h"], row["w"], 3)).astype(np.uint8)
        legacy = np.random.RandomState(row["seed_python_and_numpy"])
        order = legacy.permutation(4).tolist()
        ours = color_jitter(torch.from_numpy(image)[None, None], legacy, order=order).numpy()[0]
        assert hashlib.sha1(ours.tobytes()).hexdigest()[:16] == row["sha1"], row


def test_quotients_equal_opencv_s_tables():
    numbers = np.arange(1, 256)
    for numerator in (255 * 4096, 180 * 4096 // 6):
        ours = _reciprocal(numerator, torch.from_numpy(numbers))
        assert ours.tolist() == np.rint(numerator / numbers).astype(int).tolist()


def test_hue_turns_pure_colors_around_the_circle():
    pure = torch.tensor([[255.0, 0, 0], [0, 255, 0], [0, 0, 255], [9, 9, 9]]).reshape(1, 1, 4, 3)
    turned = rotate_hue(pure, torch.tensor([60]))  # a third of the circle
    assert turned[0, 0].tolist() == [[0, 255, 0], [0, 0, 255], [255, 0, 0], [9, 9, 9]]
    assert torch.equal(rotate_hue(turned, torch.tensor([-60])), pure)


def _lighting_by_the_book(frame, delta, contrast, saturation, angle, coins, contrast_first, noise):
    """The specification of 0.16, step by step for one frame (independent of the composed matrices)."""
    image = frame.astype(np.float64)
    if coins[0]:
        image = image + delta
    yiq = np.array([[0.299, 0.587, 0.114], [0.596, -0.274, -0.321], [0.211, -0.523, 0.311]])
    back = np.array([[1.0, 0.956, 0.621], [1.0, -0.272, -0.647], [1.0, -1.107, 1.705]])
    turn = np.array([[1, 0, 0], [0, np.cos(angle), -np.sin(angle)], [0, np.sin(angle), np.cos(angle)]])

    def by_contrast(x):
        return x * contrast if coins[1] else x

    def by_saturation(x):
        return x * saturation + (x * yiq[0]).sum(-1, keepdims=True) * (1 - saturation) if coins[2] else x

    def by_hue(x):
        return x @ (back @ turn @ yiq).T if coins[3] else x

    steps = [by_contrast, by_saturation, by_hue] if contrast_first else [by_saturation, by_hue, by_contrast]
    for step in steps:
        image = step(image)
    return image + noise


@pytest.mark.parametrize("contrast_first", [True, False])
def test_lighting_jitter_follows_the_specification(contrast_first):
    source = rng(3)
    delta, contrast, saturation = (
        source.uniform(-32, 32, 4),
        source.uniform(0.6, 1.4, 4),
        source.uniform(0.6, 1.4, 4),
    )
    angle = source.uniform(-18, 18, 4) * np.pi
    coins = source.random((4, 4, 3)) > 0.5
    values, vectors = (
        np.array([55.46, 4.794, 1.148]),
        np.array([[-0.5675, 0.7192, 0.4009], [-0.5808, -0.0045, -0.8140], [-0.5836, -0.6948, 0.4203]]),
    )
    noise = [(vectors * c) @ values for c in source.normal(0.0, 1.0, (4, 3)) * 0.1]
    ours = lighting_jitter(FRAMES, rng(3))
    assert ours.dtype == torch.float32
    for clip in range(4):
        for t in range(3):
            expected = _lighting_by_the_book(
                FRAMES[clip, t].numpy(),
                delta[clip],
                contrast[clip],
                saturation[clip],
                angle[clip],
                coins[:, clip, t],
                contrast_first,
                noise[clip],
            )
            assert np.allclose(ours[clip, t].numpy(), expected, atol=1e-3)


def test_the_frames_of_a_clip_change_alike_and_clips_differ():
    still = FRAMES[:, :1].expand(-1, 3, -1, -1, -1)
    same_picture = still[:1].expand(4, -1, -1, -1, -1)
    for change in (color_jitter, lambda frames, source: rand_augment(frames, 2, 9, source)):
        result = change(same_picture, rng(1))
        assert result.dtype == torch.uint8
        assert result.shape == same_picture.shape
        assert torch.equal(result, result[:, :1].expand(-1, 3, -1, -1, -1))
        assert len({result[i].numpy().tobytes() for i in range(4)}) > 1
        assert torch.equal(result, change(same_picture, rng(1)))


@pytest.mark.parametrize("name", OPERATIONS[1:])
def test_every_rand_augment_operation(name):
    clips = FRAMES.float()
    weak = apply_operation(name, clips, torch.zeros(4))
    strong = apply_operation(name, clips, torch.tensor([1.0, -1.0, 0.5, -0.5]))
    assert strong.shape == clips.shape
    assert strong.min() >= 0
    assert strong.max() <= 255
    if name not in ("autocontrast", "equalize", "solarize"):
        assert torch.allclose(weak, clips, atol=1e-2), name  # strength 0 changes nothing
    if name == "solarize":
        assert torch.equal(weak[clips < 255], clips[clips < 255])
    if name != "autocontrast":  # noise fills the whole range already
        assert not torch.allclose(strong, clips, atol=1)


def test_geometric_operations_move_pixels_where_they_should():
    spot = torch.full((1, 1, 21, 41, 3), 128.0)
    spot[0, 0, 10, 20] = 255
    full = torch.ones(1)

    def position(picture):
        return np.unravel_index(int(picture[0, 0, :, :, 0].argmax()), (21, 41))

    assert position(apply_operation("translate_x", spot, full)) == (10, 20 - round(0.45 * 41))
    assert position(apply_operation("translate_y", spot, -full)) == (10 + round(0.45 * 21), 20)
    spot = torch.full((1, 1, 21, 41, 3), 128.0)
    spot[0, 0, 10, 34] = 255  # 14 pixels right of the middle
    turned = position(apply_operation("rotate", spot, full))
    # pixels keep their distance from the middle although the picture is not square
    assert np.hypot(turned[0] - 10, turned[1] - 20) == pytest.approx(14, abs=0.8)
    assert abs(turned[0] - 10) == 7
    assert position(apply_operation("shear_y", spot, full))[0] == round(10 - 0.3 * 14)


def test_equalize_and_autocontrast_use_the_whole_range():
    dull = (FRAMES.float() / 4 + 90).floor()
    stretched = apply_operation("autocontrast", dull, torch.ones(4))
    assert stretched.amin((1, 2, 3)).max() == 0
    assert stretched.amax((1, 2, 3)).min() == pytest.approx(255, abs=1e-3)
    flat = apply_operation("equalize", dull, torch.ones(4))
    assert flat.std() > 2 * dull.std()
    constant = torch.full((1, 1, 4, 4, 3), 7.0)
    assert torch.equal(apply_operation("equalize", constant, torch.ones(1)), constant)
    assert torch.equal(apply_operation("autocontrast", constant, torch.ones(1)), constant)


def test_random_erasing_blanks_one_box_through_all_frames():
    clips = torch.ones(64, 3, 2, 30, 40)
    erased = random_erasing(clips.clone(), 0.5, rng(0)) == 0
    hit = erased.flatten(1).any(1)
    assert 15 < int(hit.sum()) < 50
    for clip in erased[hit]:
        assert torch.equal(clip, clip[:1, :1].expand(3, 2, -1, -1))
        rows, columns = clip[0, 0].any(1).nonzero(), clip[0, 0].any(0).nonzero()
        height, width = rows.max() - rows.min() + 1, columns.max() - columns.min() + 1
        assert int(clip[0, 0].sum()) == height * width  # a full rectangle
    assert torch.equal(random_erasing(clips.clone(), 0.0, rng(0)), clips)


def test_mixup_blends_clips_and_labels_by_the_same_share():
    clips = torch.arange(4.0).reshape(4, 1, 1, 1, 1).expand(4, 3, 2, 5, 5).clone()
    labels = torch.arange(4)
    mixed, soft = mixup(clips, labels, 4, 0.8, rng(1))
    assert soft.shape == (4, 4)
    assert torch.allclose(soft.sum(1), torch.ones(4))
    assert torch.allclose(mixed[:, 0, 0, 0, 0], (soft * torch.arange(4.0)).sum(1))
    assert not torch.allclose(mixed, clips)


def test_cutmix_labels_are_the_areas():
    clips = torch.arange(4.0).reshape(4, 1, 1, 1, 1).expand(4, 3, 2, 16, 16).clone()
    for seed in range(6):
        mixed, soft = cutmix(clips, torch.arange(4), 4, 1.0, rng(seed))
        for i in range(4):
            share = [(mixed[i, 0, 0] == k).float().mean().item() for k in range(4)]
            assert share == pytest.approx(soft[i].tolist(), abs=1e-6)
        assert torch.equal(mixed[:, :, 0], mixed[:, :, 1])
    assert torch.equal(clips, torch.arange(4.0).reshape(4, 1, 1, 1, 1).expand(4, 3, 2, 16, 16))


def test_multi_hot_labels_are_mixed_as_they_are():
    labels = torch.tensor([[1.0, 1.0, 0.0], [0.0, 0.0, 1.0]])
    _, soft = mixup(torch.zeros(2, 3, 1, 4, 4), labels, 3, 0.5, rng(2))
    assert float(soft.sum()) == pytest.approx(3)


def test_a_recipe_without_augmentation_changes_nothing():
    plain = BatchAugment()
    clips, labels = torch.rand(4, 3, 2, 5, 5), torch.arange(4)
    assert plain.pixels(FRAMES, rng()) is FRAMES
    assert all(a is b for a, b in zip(plain.blend(clips, labels, rng()), (clips, labels)))


def test_the_recipe_s_keys_reach_their_augmentation():
    labels = torch.arange(4)
    assert BatchAugment(color_jitter="mmaction2_0.24").pixels(FRAMES, rng()).dtype == torch.uint8
    assert BatchAugment(color_jitter="mmaction2_0.16").pixels(FRAMES, rng()).dtype == torch.float32
    assert not torch.equal(BatchAugment(rand_augment=(2, 9)).pixels(FRAMES, rng()), FRAMES)
    clips = torch.rand(4, 3, 2, 16, 16)
    for keys in ({"mixup": 0.2}, {"cutmix": 1.0}, {"mixup": 0.2, "cutmix": 1.0}):
        _, soft = BatchAugment(**keys, num_classes=5).blend(clips.clone(), labels, rng())
        assert soft.shape == (4, 5)
    erased, same = BatchAugment(random_erasing=1.0).blend(clips.clone(), labels, rng())
    assert (erased == 0).any()
    assert same is labels


def test_errors_say_what_is_allowed():
    with pytest.raises(RecipeError, match=r"'mmaction2_0.24' and 'mmaction2_0.16'"):
        BatchAugment(color_jitter="0.20")
    with pytest.raises(RecipeError, match="need num_classes"):
        BatchAugment(mixup=0.2)
