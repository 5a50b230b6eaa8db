"""What a run refuses or says of its lists: classes and names that differ, labels with holes, validation on training videos, dense windows."""

import os
import shutil

import numpy as np
import pytest

from clipwise.data.clip_spec import ClipSpec
from clipwise.data.lists import read_list
from clipwise.engine.train import train
from clipwise.errors import ClipwiseWarning, DataError
from clipwise.recipe import load_recipe

QUICK = [
    "epochs=1",
    "warmup_epochs=0",
    "batch_size=8",
    "num_workers=0",
    "amp=no",
    "crop_size=32",
    "augment.resize=36",
    "val.resize=36",
    "val.crop_size=32",
]


@pytest.mark.parametrize("count", [4, 10])
def test_num_classes_that_are_not_the_folders_are_refused(clips, tmp_path, count):
    with pytest.raises(
        DataError,
        match=rf"has 6 classes \(cross, grows, moves left, …\), but num_classes is {count}\. Set num_classes=6",
    ):
        train(load_recipe("tsm_tiny", [*QUICK, f"num_classes={count}"]), data=str(clips), work_dir=tmp_path, quiet=True)


def write(path, clips, labels):
    videos = sorted((clips / "train").rglob("*.mp4"))
    path.write_text("".join(f'"{videos[i]}" {label}\n' for i, label in enumerate(labels)))
    return path


def test_a_label_with_too_many_digits_is_refused_at_once(clips, tmp_path):
    source = write(tmp_path / "list.txt", clips, [0, 1, 99999999, 1])
    with pytest.raises(DataError, match="entry 3 has the label 99999999, so there would be 100,000,000 classes"):
        read_list(source)


def test_labels_with_holes_are_refused_unless_asked_for(clips, tmp_path):
    source = write(tmp_path / "list.txt", clips, [0, 1, 9, 0, 1, 9, 0, 1])
    recipe = load_recipe("tsm_tiny", [*QUICK, f"train_data={source}"])
    with pytest.raises(DataError, match=r"the labels 0, 1, 9: of 10 classes 7 have no video\. .* num_classes=10"):
        train(recipe, work_dir=tmp_path / "run", quiet=True, validate=False)
    asked = load_recipe("tsm_tiny", [*QUICK, f"train_data={source}", "num_classes=10"])
    train(asked, work_dir=tmp_path / "run", quiet=True, validate=False)
    source = write(tmp_path / "few.txt", clips, [0, 1, 3, 0, 1, 3])
    train(
        load_recipe("tsm_tiny", [*QUICK, f"train_data={source}"]), work_dir=tmp_path / "few", quiet=True, validate=False
    )


def test_junk_folders_are_no_classes(clips, tmp_path):
    shutil.copytree(clips / "train", tmp_path / "data")
    for name in ("__MACOSX", "$RECYCLE.BIN", "@eaDir", ".git"):
        (tmp_path / "data" / name).mkdir()
        (tmp_path / "data" / name / "._clip.mp4").write_bytes(b"junk")
    assert len(read_list(tmp_path / "data").classes) == 6
    (tmp_path / "data" / "features").mkdir()
    (tmp_path / "data" / "features" / "a.npy").write_bytes(b"x")
    with pytest.raises(DataError, match="features: no videos in 1 of the 7 folders, so they can't be classes"):
        read_list(tmp_path / "data")


def test_features_beside_videos_is_not_a_class(clips, tmp_path):
    shutil.copytree(clips / "train", tmp_path / "videos")
    (tmp_path / "features").mkdir()
    with pytest.raises(DataError, match=r"features: no videos .* give the folder that holds the class folders"):
        read_list(tmp_path)


def test_validation_on_training_videos_is_said_loudly(clips, tmp_path, capsys):
    videos = sorted((clips / "train").rglob("*.mp4"))
    (tmp_path / "train.txt").write_text("".join(f'"{v}" {i // 4}\n' for i, v in enumerate(videos)))
    new = sorted((clips / "val").rglob("*.mp4"))
    shutil.copy(videos[3], tmp_path / "renamed.mp4")
    chosen = [(videos[0], 0), (tmp_path / "renamed.mp4", 0), (new[0], 0), (new[1], 0)]
    (tmp_path / "val.txt").write_text("".join(f'"{v}" {label}\n' for v, label in chosen))
    recipe = load_recipe("tsm_tiny", QUICK)
    options = dict(data=str(tmp_path / "train.txt"), work_dir=tmp_path / "run", max_steps=1)
    train(recipe, val_data=str(tmp_path / "val.txt"), check=True, **options)
    assert "WARNING: 2 of 4 validation videos are training videos, too" in capsys.readouterr().err
    train(recipe, val_data=str(tmp_path / "train.txt"), **options)
    assert "WARNING: 24 of 24 validation videos" in capsys.readouterr().err
    train(recipe, val_data=str(clips / "val"), check=True, **options)
    assert "WARNING" not in capsys.readouterr().err


# MMAction2's DenseSampleFrames in test mode, by hand: 164 frames have 101 windows of 64; ten starts from 0 to 100 in equal steps
# (100 / 9 = 11.1…, whole part); within a window 8 frames 64 // 8 = 8 apart.
STARTS = [0, 11, 22, 33, 44, 55, 66, 77, 88, 100]


@pytest.mark.parametrize("mode", ["val", "test"])
@pytest.mark.parametrize(
    "name",
    [
        "tsn_r50_dense_1x1x8_100e_kinetics400_rgb",
        "tsn_r50_dense_1x1x5_100e_kinetics400_rgb",
        "tsm_r50_dense_1x1x8_50e_kinetics400_rgb",
    ],
)
def test_dense_sampling_validates_on_ten_windows(name, mode):
    """The 1x1x5 recipe trains on 5 frames of a window, and is validated and tested on 8, as its config has it."""
    spec = ClipSpec.from_recipe(load_recipe(name).model_dump(), mode)
    expected = [start + 8 * k for start in STARTS for k in range(8)]
    np.testing.assert_array_equal(spec.indices(164, np.random.default_rng(0)).reshape(-1), expected)
    assert spec.num_segments == 8


def test_an_imported_dense_config_validates_on_ten_windows(shared):
    """As the importer makes it: keys of the recipe alone, without num_clips of the test."""
    values = load_recipe("tsm_tiny", ["sampling=dense", "num_segments=8", "test.num_clips=1"]).model_dump()
    assert ClipSpec.from_recipe(values, "val").indices(164, np.random.default_rng(0)).shape == (80, 1)


def test_multi_scale_crops_stay_inside_a_slightly_smaller_image():
    from clipwise.data.crops import multi_scale_crop_box

    for height, width in ((222, 300), (300, 223), (222, 222), (223, 224)):
        for seed in range(60):
            left, top, right, bottom = multi_scale_crop_box(
                height, width, np.random.default_rng(seed), input_size=224, num_fixed_crops=13
            )
            assert 0 <= left < right <= width
            assert 0 <= top < bottom <= height


def test_a_dense_run_validates_as_it_is_tested(clips, tmp_path):
    """Same crop, same windows: validation and test give the same scores."""
    from clipwise.engine.test import evaluate

    recipe = load_recipe(
        "tsm_tiny",
        [
            *QUICK,
            "sampling=dense",
            "num_segments=8",
            "test.num_clips=10",
            "test.resize=36",
            "test.crop_size=32",
            "test.crop=center",
            "test.twice_sample=false",
        ],
    )
    result = train(recipe, data=str(clips), work_dir=tmp_path, quiet=True)
    tested = evaluate(result.last, data=clips / "val")
    np.testing.assert_allclose(np.stack(result.validation.scores), np.stack(tested.scores), rtol=1e-5)


def test_links_to_a_folder_above_are_left_out(clips, tmp_path, capsys):
    """One in the training folder became a class with all videos; one in the validation folder an unknown class."""
    from clipwise.cli import main

    for part in ("train", "val"):
        (tmp_path / part).mkdir()
        for name in sorted(os.listdir(clips / part))[:2]:
            (tmp_path / part / name).symlink_to(clips / part / name)  # elsewhere: a class
    (tmp_path / "train/self").symlink_to(".")
    (tmp_path / "train" / sorted(os.listdir(clips / "train"))[0]).unlink()
    first = sorted(os.listdir(clips / "train"))[0]
    shutil.copytree(clips / "train" / first, tmp_path / "train" / first)
    (tmp_path / "train" / first / "up").symlink_to("../..")
    (tmp_path / "val/again").symlink_to(tmp_path)
    with pytest.warns(ClipwiseWarning) as warned:
        assert main(["check", str(tmp_path)]) == 0
    assert "train: 8 entries, 2 classes" in capsys.readouterr().out
    assert {str(each.message) for each in warned} == {
        f"{tmp_path}/train/self is a link to {tmp_path}/train, which holds it; it is left out.",
        f"{tmp_path}/val/again is a link to {tmp_path}, which holds it; it is left out.",
    }
