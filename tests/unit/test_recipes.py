"""The packaged recipes against the published tables, and the loader's strictness."""

import json

import numpy as np
import pytest
import torch
import yaml

from clipwise.cli.diff import diff_recipes
from clipwise.cli.explain import explain_recipe
from clipwise.convert.weights import convert_state_dict
from clipwise.data.clip_spec import ClipSpec
from clipwise.errors import RecipeError
from clipwise.models.recipe_model import build_model
from clipwise.recipe import (
    ALIASES,
    dump_recipe,
    find_recipe,
    list_recipes,
    load_recipe,
    make_recipe,
)

RECOGNISERS = [n for n in list_recipes() if load_recipe(n).task == "recognition"]

# name: clip_len x frame_interval, classes, init, lr, videos a device, epochs, schedule, warm-up, weight decay, clip, test views.
# Copied from MMAction2 0.24's config files (specification 3.1 and 3.2), not from our recipes.
C = "cosine"
# fmt: off
SLOWONLY = {
    "slowonly_r50_256p_4x16x1_256e_kinetics400_rgb": (4, 16, 400, None, 0.1, 8, 256, C, 0, 1e-4, 40, 30),
    "slowonly_r50_4x16x1_256e_kinetics400_rgb": (4, 16, 400, None, 0.1, 8, 256, C, 0, 1e-4, 40, 30),
    "slowonly_r50_video_4x16x1_256e_kinetics400_rgb": (4, 16, 400, None, 0.3, 24, 256, C, 0, 1e-4, 40, 30),
    "slowonly_r50_256p_8x8x1_256e_kinetics400_rgb": (8, 8, 400, None, 0.1, 8, 256, C, 0, 1e-4, 40, 30),
    "slowonly_r50_8x8x1_256e_kinetics400_rgb": (8, 8, 400, None, 0.1, 8, 256, C, 0, 1e-4, 40, 30),
    "slowonly_imagenet_pretrained_r50_4x16x1_150e_kinetics400_rgb": (4, 16, 400, "imagenet", 0.01, 8, 150, [90, 130], 10, 1e-4, 40, 30),
    "slowonly_imagenet_pretrained_r50_8x8x1_150e_kinetics400_rgb": (8, 8, 400, "imagenet", 0.01, 8, 150, [90, 130], 10, 1e-4, 40, 30),
    "slowonly_nl_embedded_gaussian_r50_4x16x1_150e_kinetics400_rgb": (4, 16, 400, "imagenet", 0.01, 8, 150, [90, 130], 10, 1e-4, 40, 30),
    "slowonly_nl_embedded_gaussian_r50_8x8x1_150e_kinetics400_rgb": (8, 8, 400, "imagenet", 0.01, 8, 150, [90, 130], 10, 1e-4, 40, 30),
    "slowonly_r50_4x16x1_256e_kinetics400_flow": (4, 16, 400, "imagenet", 0.06, 24, 256, C, 34, 1e-4, 40, 30),
    "slowonly_r50_8x8x1_196e_kinetics400_flow": (8, 8, 400, "imagenet", 0.06, 12, 196, C, 34, 1e-4, 40, 30),
    "slowonly_r101_8x8x1_196e_kinetics400_rgb": (8, 8, 400, None, 0.1, 8, 196, C, 34, 1e-4, 40, 30),
    "slowonly_r50_randomresizedcrop_340x256_4x16x1_256e_kinetics400_rgb": (4, 16, 400, None, 0.6, 16, 256, C, 0, 1e-4, 40, 30),
    "slowonly_r50_randomresizedcrop_320p_4x16x1_256e_kinetics400_rgb": (4, 16, 400, None, 0.6, 16, 256, C, 0, 1e-4, 40, 30),
    "slowonly_r50_randomresizedcrop_256p_4x16x1_256e_kinetics400_rgb": (4, 16, 400, None, 0.6, 16, 256, C, 0, 1e-4, 40, 30),
    "slowonly_r50_video_8x8x1_256e_kinetics600_rgb": (8, 8, 600, None, 0.15, 12, 256, C, 0, 1e-4, 40, 30),
    "slowonly_r50_video_8x8x1_256e_kinetics700_rgb": (8, 8, 700, None, 0.15, 12, 256, C, 0, 1e-4, 40, 30),
    "slowonly_imagenet_pretrained_r50_4x16x1_120e_gym99_rgb": (4, 16, 99, "imagenet", 0.03, 24, 120, [90, 110], 0, 1e-4, 40, 30),
    "slowonly_kinetics_pretrained_r50_4x16x1_120e_gym99_flow": (4, 16, 99, "slowonly_r50_4x16x1_256e_kinetics400_flow", 0.03, 24, 120, [90, 110], 0, 1e-4, 40, 10),
    "slowonly_imagenet_pretrained_r50_8x8x1_64e_jester_rgb": (8, 4, 27, "imagenet", 0.1, 8, 64, C, 0, 1e-4, 40, 30),
    "tpn_slowonly_r50_8x8x1_150e_kinetics_rgb": (8, 8, 400, None, 0.01, 8, 150, [75, 125], 0, 1e-4, 40, 30),
    "tpn_imagenet_pretrained_slowonly_r50_8x8x1_150e_kinetics_rgb": (8, 8, 400, "imagenet", 0.01, 8, 150, [75, 125], 0, 1e-4, 40, 30),
}
# name: segments in training, at test, classes, lr, videos a device, epochs, steps, weight decay, clip, test views, test crop px
SEGMENTS = {
    "tpn_tsm_r50_1x1x8_150e_sthv1_rgb": (8, 8, 174, 0.01, 8, 150, [75, 125], 5e-4, 20, 6, 256),
    "tsn_r50_paddle_3seg_45e_kinetics400_rgb": (3, 3, 400, 0.01, 32, 45, [15, 30], 1e-4, None, 1, 224),
    "tsn_r50_paddle_7seg_45e_kinetics400_rgb": (3, 7, 400, 0.01, 32, 45, [15, 30], 1e-4, None, 1, 224),
    "tsn_r50_1x1x3_100e_kinetics400_rgb": (3, 25, 400, 0.01, 32, 100, [40, 80], 1e-4, 40, 10, 224),
    "tsn_r50_320p_1x1x3_100e_kinetics400_rgb": (3, 25, 400, 0.01, 32, 100, [40, 80], 1e-4, 40, 3, 256),
    "tsn_r50_320p_1x1x3_110e_kinetics400_flow": (3, 25, 400, 0.005, 32, 110, [70, 100], 1e-4, 40, 10, 224),
    "tsn_r50_320p_1x1x8_100e_kinetics400_rgb": (8, 25, 400, 0.00375, 12, 100, [40, 80], 1e-4, 40, 3, 256),
    "tsn_r50_320p_1x1x8_110e_kinetics400_flow": (8, 25, 400, 0.001875, 12, 110, [70, 100], 1e-4, 40, 10, 224),
    "tsn_r50_video_320p_1x1x3_100e_kinetics400_rgb": (3, 25, 400, 0.01, 32, 100, [40, 80], 1e-4, 40, 3, 256),
    "tsn_r50_video_1x1x8_100e_kinetics400_rgb": (8, 25, 400, 0.01, 32, 100, [40, 80], 1e-4, 40, 10, 224),
    "tsn_r50_video_1x1x8_100e_kinetics600_rgb": (8, 25, 600, 0.00375, 12, 100, [40, 80], 1e-4, 40, 3, 256),
    "tsn_r50_video_1x1x8_100e_kinetics700_rgb": (8, 25, 700, 0.00375, 12, 100, [40, 80], 1e-4, 40, 3, 256),
    "tsn_r50_dense_1x1x8_100e_kinetics400_rgb": (8, 8, 400, 0.005, 12, 100, [40, 80], 1e-4, 40, 10, 224),
    "tsn_r50_dense_1x1x5_100e_kinetics400_rgb": (5, 8, 400, 0.03, 16, 100, [40, 80], 1e-4, 20, 10, 224),
    "tsn_r50_1x1x8_50e_sthv1_rgb": (8, 8, 174, 0.02, 16, 50, [20, 40], 5e-4, 20, 10, 224),
    "tsn_r50_1x1x3_75e_ucf101_rgb": (3, 25, 101, 0.00128, 32, 75, [], 5e-4, 40, 3, 256),
    "tsm_r50_1x1x8_50e_sthv1_rgb": (8, 8, 174, 0.01, 8, 50, [20, 40], 5e-4, 20, 6, 256),
    "tsm_r50_flip_1x1x8_50e_sthv1_rgb": (8, 8, 174, 0.01, 8, 50, [20, 40], 5e-4, 20, 6, 256),
    "tsm_r50_1x1x16_50e_sthv1_rgb": (16, 16, 174, 0.0075, 6, 50, [20, 40], 5e-4, 20, 6, 256),
    "tsm_r101_1x1x8_50e_sthv1_rgb": (8, 8, 174, 0.01, 8, 50, [20, 40], 5e-4, 20, 6, 256),
    "tsm_r50_1x1x8_50e_sthv2_rgb": (8, 8, 174, 0.0075, 6, 50, [20, 40], 5e-4, 20, 6, 256),
    "tsm_r50_1x1x8_50e_kinetics400_rgb": (8, 8, 400, 0.01, 8, 50, [20, 40], 1e-4, 20, 1, 224),
    "tsm_r50_1x1x8_100e_kinetics400_rgb": (8, 8, 400, 0.01, 8, 100, [40, 80], 1e-4, 20, 1, 224),
    "tsm_r50_dense_1x1x8_50e_kinetics400_rgb": (8, 8, 400, 0.01, 8, 50, [20, 40], 1e-4, 20, 100, 224),
    "tsm_r50_1x1x16_50e_kinetics400_rgb": (16, 16, 400, 0.0075, 6, 50, [20, 40], 1e-4, 20, 10, 224),
    "tsm_nl_embedded_gaussian_r50_1x1x8_50e_kinetics400_rgb": (8, 8, 400, 0.01, 8, 50, [20, 40], 1e-4, 20, 1, 224),
    "tsm_nl_gaussian_r50_1x1x8_50e_kinetics400_rgb": (8, 8, 400, 0.01, 8, 50, [20, 40], 1e-4, 20, 1, 224),
    "tsm_nl_dot_product_r50_1x1x8_50e_kinetics400_rgb": (8, 8, 400, 0.01, 8, 50, [20, 40], 1e-4, 20, 1, 224),
    "tsm_r50_1x1x8_50e_jester_rgb": (8, 8, 27, 0.01, 8, 50, [20, 40], 5e-4, 20, 6, 256),
}
# fmt: on
# Accuracy in percent as the seeds' tables print it: top-1, top-5 or (GYM99) mean class accuracy.
PUBLISHED = {
    "slowonly_r50_256p_4x16x1_256e_kinetics400_rgb": (72.76, 90.51),
    "slowonly_r50_video_4x16x1_256e_kinetics400_rgb": (72.90, 90.82),
    "slowonly_r50_256p_8x8x1_256e_kinetics400_rgb": (74.42, 91.49),
    "slowonly_r50_4x16x1_256e_kinetics400_rgb": (73.02, 90.77),
    "slowonly_r50_8x8x1_256e_kinetics400_rgb": (74.93, 91.92),
    "slowonly_imagenet_pretrained_r50_4x16x1_150e_kinetics400_rgb": (73.39, 91.12),
    "slowonly_imagenet_pretrained_r50_8x8x1_150e_kinetics400_rgb": (75.55, 92.04),
    "slowonly_nl_embedded_gaussian_r50_4x16x1_150e_kinetics400_rgb": (74.54, 91.73),
    "slowonly_nl_embedded_gaussian_r50_8x8x1_150e_kinetics400_rgb": (76.07, 92.42),
    "slowonly_r50_4x16x1_256e_kinetics400_flow": (61.79, 83.62),
    "slowonly_r50_8x8x1_196e_kinetics400_flow": (65.76, 86.25),
    "slowonly_r50_randomresizedcrop_340x256_4x16x1_256e_kinetics400_rgb": (71.61, 90.05),
    "slowonly_r50_randomresizedcrop_320p_4x16x1_256e_kinetics400_rgb": (73.02, 90.77),
    "slowonly_r50_randomresizedcrop_256p_4x16x1_256e_kinetics400_rgb": (72.76, 90.51),
    "slowonly_r50_omni_4x16x1_kinetics400_rgb": (76.8, 92.5),
    "slowonly_r101_8x8x1_196e_kinetics400_rgb": (76.5, 92.7),
    "slowonly_r101_omni_8x8x1_kinetics400_rgb": (80.4, 94.4),
    "slowonly_r50_video_8x8x1_256e_kinetics600_rgb": (77.5, 93.7),
    "slowonly_r50_video_8x8x1_256e_kinetics700_rgb": (65.0, 86.1),
    "slowonly_imagenet_pretrained_r50_4x16x1_120e_gym99_rgb": (79.3, 70.2),
    "slowonly_kinetics_pretrained_r50_4x16x1_120e_gym99_flow": (80.3, 71.0),
    "slowonly_imagenet_pretrained_r50_8x8x1_64e_jester_rgb": (97.2, None),
    "tpn_slowonly_r50_8x8x1_150e_kinetics_rgb": (73.58, 91.35),
    "tpn_imagenet_pretrained_slowonly_r50_8x8x1_150e_kinetics_rgb": (76.59, 92.72),
    "tpn_tsm_r50_1x1x8_150e_sthv1_rgb": (50.80, 79.05),
    "tsn_r50_paddle_3seg_45e_kinetics400_rgb": (66.0, None),
    "tsn_r50_paddle_7seg_45e_kinetics400_rgb": (67.0, None),
}


def views(recipe):
    crops = {"center": 1, "three": 3, "ten": 10}[recipe.test.crop]
    return crops * recipe.test.num_clips * (2 if recipe.test.twice_sample else 1)


@pytest.mark.parametrize("name", SLOWONLY)
def test_clips(name):
    r = load_recipe(name)
    schedule = r.schedule.milestones if r.lr_schedule == "step" else r.lr_schedule
    found = (r.clip_len, r.frame_interval, r.published.num_classes, r.init, r.lr, r.batch_size, r.epochs, schedule)
    assert (*found, r.warmup_epochs, r.weight_decay, r.grad_clip, views(r)) == SLOWONLY[name]
    assert r.base_batch_size == 8 * r.batch_size
    assert r.num_segments is None
    assert (r.crop_size, r.test.crop_size, r.test.average_clips) == (224, 256, "prob")


@pytest.mark.parametrize("name", SEGMENTS)
def test_segments(name):
    r = load_recipe(name)
    found = (
        r.num_segments,
        r.test.num_segments or r.num_segments,
        r.published.num_classes,
        r.lr,
        r.batch_size,
        r.epochs,
    )
    found = (*found, r.schedule.milestones, r.weight_decay, r.grad_clip, views(r), r.test.crop_size)
    assert found == SEGMENTS[name]
    assert r.base_batch_size == 8 * r.batch_size
    assert r.clip_len == (5 if r.modality == "flow" else 1)


@pytest.mark.parametrize("name", [*SLOWONLY, *SEGMENTS])
def test_the_recipe_samples_the_views_it_promises(name):
    """The recipe's keys as the data pipeline reads them: views, frames and pixels of a test sample and a training sample."""
    r = load_recipe(name)
    rng = np.random.default_rng(0)
    test, train = (ClipSpec.from_recipe(r.model_dump(), mode) for mode in ("test", "train"))
    frames = test.indices(300, rng)
    segments = r.test.num_segments or r.num_segments
    crops = test.transform.num_crops
    expected = SLOWONLY[name][-1] if name in SLOWONLY else SEGMENTS[name][-2]
    assert frames.size * crops == expected * (segments or 1) * r.clip_len
    assert frames.min() >= 0
    assert frames.max() < 300
    plan = test.transform.draw(256, 340, rng)
    assert plan.output == (r.test.crop_size, r.test.crop_size)
    assert train.indices(300, rng).shape == (r.num_segments or 1, r.clip_len)
    assert train.transform.draw(256, 340, rng).output == (224, 224)


def test_a_recipes_network_takes_the_published_weights(shared):
    """Every name and shape of the state dicts that MMAction2 0.24 makes from its configs (no values: meta tensors)."""
    configs = json.loads((shared / "spec" / "recognition_statedict_keys.json").read_text())
    checked = 0
    for config, keys in configs.items():
        name = config.rsplit("/", 1)[-1]
        if "temporal_pool" in name:  # not among the recipes
            continue
        with torch.device("meta"):
            counters = {k: torch.int64 for k in keys if k.endswith("num_batches_tracked")}
            state = {k: torch.empty(shape, dtype=counters.get(k, torch.float32)) for k, shape in keys.items()}
            model = build_model(load_recipe(name), len(state["cls_head.fc_cls.weight"]))
        report = convert_state_dict(state, model)
        assert report.complete, report.summary()
        assert len(report.matched) == len(keys)
        checked += 1
    assert checked == 18


def test_clips_of_a_300_frame_video():
    """First frames as MMAction2 0.24 computes them (specification 4.1)."""
    rng = np.random.default_rng(0)
    for name in ("slowonly_r50_4x16x1_256e_kinetics400_rgb", "slowonly_r50_8x8x1_256e_kinetics400_rgb"):
        spec = ClipSpec.from_recipe(load_recipe(name).model_dump(), "test")
        assert spec.indices(300, rng)[:, 0].tolist() == [11, 35, 59, 82, 106, 130, 154, 177, 201, 225]
    jester = load_recipe("slowonly_imagenet_pretrained_r50_8x8x1_64e_jester_rgb")
    first = ClipSpec.from_recipe(jester.model_dump(), "test").indices(300, rng)[:, 0]
    assert first.tolist() == [13, 40, 67, 94, 121, 147, 174, 201, 228, 255]
    twice = ClipSpec.from_recipe(load_recipe("tpn_tsm_r50_1x1x8_150e_sthv1_rgb").model_dump(), "test")
    frames = twice.indices(300, rng)[:, 0].tolist()
    assert frames == [18, 56, 93, 131, 168, 206, 243, 281, 0, 37, 75, 112, 150, 187, 225, 262]


@pytest.mark.parametrize("name", PUBLISHED)
def test_every_row_of_the_seeds(name):
    p = load_recipe(name).published
    assert (p.top1, p.top5 or p.mean_class_accuracy) == PUBLISHED[name]


@pytest.mark.parametrize("name", [n for n in RECOGNISERS if not n.endswith("_tiny")])
def test_family_facts(name):
    """What holds for all rows of a family (specification 3.0 to 3.4), and the points where rows differ from it."""
    r = load_recipe(name)
    family = "tpn" if "tpn" in name else name.split("_")[0]
    assert r.optimizer == "sgd"
    assert r.optim.momentum == 0.9
    assert r.optim.nesterov == (family == "tpn")
    assert r.optim.param_groups == ("tsm" if family == "tsm" else "all")
    assert r.schedule.by == ("iteration" if "jester" in name and family == "slowonly" else "epoch")
    assert r.schedule.warmup_start == 0.1
    assert not r.schedule.after_warmup
    dropout = {"slowonly": 0.5, "tpn": 0.5, "tsm": 0.5, "tsn": 0.4}[family]
    if family == "tsn" and ("dense_1x1x5" in name or "sthv1" in name):
        dropout = 0.5
    if "paddle" not in name:
        assert r.model_args["dropout"] == dropout
        assert (r.input.interpolation, r.input.fused_resize, r.test.rule) == ("opencv", False, "mmaction2_0.x")
    if family == "tsm" or (family == "tsn" and ("dense" in name or "sthv1" in name)):
        assert r.augment.num_fixed_crops == 13
    native = (
        "kinetics600" in name or "kinetics700" in name or family == "tpn" or "jester" in name or "tsn_r50_video" in name
    )
    assert r.augment.resize == (None if native else 256)
    if r.modality == "flow":
        assert (r.input.mean, r.input.std) == ([128, 128], [128, 128])
        assert r.val.crop_size == (224 if family == "tsn" else 256)
    flips = 0.0 if "sthv" in name and family in ("tsm", "tsn") and "flip" not in name else 0.5
    assert r.augment.flip == flips
    assert r.augment.color_jitter == (
        {True: "mmaction2_0.16", False: "mmaction2_0.24"}["tsm" in name] if family == "tpn" else None
    )


def test_non_local_and_pyramid_settings():
    for name in list_recipes():
        if "_nl_" in name:
            args = load_recipe(name).model_args
            assert args["non_local"] in name
            assert args["non_local_use_scale"] == name.startswith("slowonly")
    assert load_recipe("tpn_slowonly_r50_8x8x1_150e_kinetics_rgb").model_args["flow"] == "cascade"


def test_paddle_reader():
    r = load_recipe("tsn_r50_paddle_7seg_45e_kinetics400_rgb")
    assert (r.sampling, r.input.resize_rule, r.augment.crop, r.input.interpolation) == (
        "paddle",
        "paddle_4x3",
        "random",
        "antialias",
    )
    assert r.published.num_train_samples == 224684
    assert r.model == "tsn_r50_paddle"


def test_omnisource_rows_have_sources():
    for name in ("slowonly_r50_omni_4x16x1_kinetics400_rgb", "slowonly_r101_omni_8x8x1_kinetics400_rgb"):
        r = load_recipe(name)
        assert {s.kind for s in r.sources} == {"image", "video", "untrimmed"}
        assert any("not published" in note for note in r.notes)


@pytest.mark.parametrize("name", RECOGNISERS)
def test_file_reads_well(name):
    path = find_recipe(name)
    text = path.read_text(encoding="utf-8")
    assert text.startswith("# ")
    assert max(map(len, text.splitlines())) <= 130
    assert "model" in yaml.safe_load(text)
    if not name.endswith("_tiny"):
        recipe = load_recipe(name)
        assert recipe.paper
        assert recipe.notes
        assert recipe.published.top1 is not None


@pytest.mark.parametrize("name", RECOGNISERS)
def test_dump_and_explain(name):
    recipe = load_recipe(name)
    again = make_recipe(yaml.safe_load(dump_recipe(recipe)))
    assert again == recipe
    assert not diff_recipes(recipe, again)
    facts = explain_recipe(recipe, num_devices=8)
    assert str(recipe.batch_size * 8) in facts["effective batch"]
    if recipe.base_batch_size:
        assert facts["learning rate"] == f"{recipe.lr:g}"


def test_names_of_mmaction2_configs_are_found():
    path = "configs/recognition/tpn/tpn_slowonly_r50_8x8x1_150e_kinetics_rgb.py"
    assert load_recipe(path).name == "tpn_slowonly_r50_8x8x1_150e_kinetics_rgb"
    for alias, name in ALIASES.items():
        assert load_recipe(f"/configs/recognition/slowonly/{alias}.py").name == name
    with pytest.raises(RecipeError, match="did you mean 'tpn_slowonly_r50_8x8x1_150e_kinetics_rgb'"):
        load_recipe("tpn_slowonly_r50_8x8x1_150e_kinetic_rgb")
    with pytest.raises(RecipeError, match="does not exist"):
        load_recipe("missing.yaml")


def write(tmp_path, text):
    path = tmp_path / "mine.yaml"
    path.write_text(text, encoding="utf-8")
    return path


def test_all_problems_at_once_with_their_lines(tmp_path):
    path = write(
        tmp_path,
        "model: tsn_tiny\nnum_segments: 4\ntotal_epochs: 5\nlr: fast\npublished: {topp1: 3}\naugment: {flip: 2}\n",
    )
    with pytest.raises(RecipeError) as caught:
        load_recipe(path)
    lines = str(caught.value).splitlines()
    assert f"{path}:3: unknown key 'total_epochs'; did you mean 'epochs'?" in lines
    assert any(line.startswith(f"{path}:4: lr: ") and line.endswith("given 'fast'") for line in lines)
    assert f"{path}:5: unknown key 'published.topp1'; did you mean 'published.top1'?" in lines
    assert any(line.startswith(f"{path}:6: augment.flip: ") for line in lines)
    assert len(lines) == 4


def test_other_mistakes(tmp_path):
    for text, message in (
        ("clip_len: 8\n", "key 'model' is missing"),
        ("- a\n- b\n", "a recipe is a list of `key: value` lines"),
        ("model: [1\n", "not valid YAML"),
        ("model: tsn_tiny\nmodel: tsm_tiny\n", "mine.yaml:2: key 'model' is given twice"),
        ("model: tsn_tiny\nmodality: flow\n", "input.mean and input.std need 2 values"),
        ("model: tsn_tiny\nmodel_args: {in_channels: 5}\n", "in_channels is 5"),
        (
            "model: tsn_tiny\nnum_segments: 3\ntest: {num_clips: 10}\n",
            "for segments use test.num_segments or test.twice_sample",
        ),
        ("model: tsn_tiny\nepochs: 5\nwarmup_epochs: 5\n", "must be shorter than epochs"),
    ):
        with pytest.raises(RecipeError) as caught:
            load_recipe(write(tmp_path, text))
        assert message in str(caught.value)


def test_a_wrong_value_is_told_what_is_allowed():
    for override, message in (
        ("lr=abc", "lr: must be a number above 0, given 'abc'"),
        ("lr=.inf", "lr: must be a number above 0, given inf"),
        ("epochs=2.5", "epochs: must be a whole number of at least 1, given 2.5"),
        ("optimizer=sdg", "optimizer: must be 'sgd', 'adam' or 'adamw', given 'sdg'"),
        ("augment.flip=1.5", "augment.flip: must be a number from 0 to 1, given 1.5"),
        ("ema_decay=1", "ema_decay: must be a number above 0 and below 1, or null, given 1"),
        (
            "compile=maybe",
            "compile: must be true or false, or 'default', 'max-autotune' or 'reduce-overhead', given 'maybe'",
        ),
        ("seed=null", "seed: must be a whole number from 0 to 9223372036854775807, given null"),
        (
            "crop_size=[1,2,3]",
            "crop_size: must be a whole number of at least 16, or a list of 2 (each a whole number of at least 16), or null, given [1, 2, 3]",
        ),
        (
            "optim.betas=[0.9]",
            "optim.betas: must be a list of 2 (each a number of at least 0 and below 1), given [0.9]",
        ),
        ("input.mean=[a,b,c]", "input.mean: must be a list (each a number), given ['a', 'b', 'c']"),
        ("published.top1=high", "published.top1: must be a number, or null, given 'high'"),
        ("published=3", "published: must be a dictionary, given 3"),
        (
            "augment.flip_label_map=x",
            "augment.flip_label_map: must be 'sthv1', 'sthv2' or 'jester', or a dictionary, or null, given 'x'",
        ),
        (
            "sources=[{name: a, data: b, kind: x}]",
            "sources.0.kind: must be 'video', 'image', 'untrimmed' or 'rawframes', given 'x'",
        ),
        ("sources=[{name: a}]", "key 'sources.0.data' is missing"),
        ("sources=[{name: a, data: b, nam: x}]", "unknown key 'sources.0.nam'; did you mean 'name'?"),
        ("task=detection", "task: must be 'recognition' or 'localization', given 'detection'"),
    ):
        with pytest.raises(RecipeError) as caught:
            load_recipe("tsm_tiny", [override])
        assert str(caught.value) == f"command line, {override}: {message}"


def test_overrides():
    r = load_recipe(
        "tsm_tiny", ["lr=0.5", "model_args.dropout=0.2", "augment.resize=null", "sources=[]", "init=imagenet"]
    )
    assert (r.lr, r.model_args, r.augment.resize, r.sources, r.init) == (0.5, {"dropout": 0.2}, None, [], "imagenet")
    with pytest.raises(RecipeError, match=r"command line, lrr=1: unknown key 'lrr'; did you mean 'lr'"):
        load_recipe("tsm_tiny", ["lrr=1"])
    with pytest.raises(RecipeError, match="not of the form key=value"):
        load_recipe("tsm_tiny", ["lr"])
    with pytest.raises(RecipeError, match=r"lr holds 0\.004, it is not a group of keys"):
        load_recipe("tsm_tiny", ["lr.x=1"])


def test_diff():
    a, b = (load_recipe(f"slowonly_r50_{n}_256e_kinetics400_rgb") for n in ("4x16x1", "8x8x1"))
    assert diff_recipes(a, b) == [("clip_len", 4, 8), ("frame_interval", 16, 8)]


def test_explain_says_what_the_linear_rule_gives():
    r = load_recipe("slowonly_r50_8x8x1_256e_kinetics400_rgb")
    facts = explain_recipe(r, num_devices=1)
    assert (
        facts["learning rate"] == "0.1, meant for a global batch of 64; the linear rule gives 0.0125 (--auto-scale-lr)"
    )
    assert facts["steps"] == "30055 an epoch, 7694080 in all (240436 samples)"
    assert facts["test views"].startswith("30 = 10 clips x 3 crops of 8 frames at 256 px")
    assert any("meant for 8 x 8 = 64" in note for note in facts["differs from the published run or surprises"])
    scaled = explain_recipe(load_recipe(r.name, ["auto_scale_lr=true"]), num_devices=16)
    assert scaled["learning rate"] == "0.2 = 0.1 x 128 / 64"


def test_a_recipe_shows_what_differs_from_the_defaults():
    shown = repr(load_recipe("tsm_tiny", ["epochs=50"]))
    assert shown.startswith(
        "RecognitionRecipe(name='tsm_tiny', model='tsm_tiny', epochs=50, batch_size=16, optimizer='adamw', lr=0.004"
    )
    assert "schedule=Schedule(by='iteration', warmup_start=0.04)" in shown
    assert len(shown) < 700
