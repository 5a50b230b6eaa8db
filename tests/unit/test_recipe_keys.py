"""Keys of recipes: groups, the flat keys of 0.1, keys without effect, other tools' names, and the reference of all keys."""

import math
import re
import warnings

import pytest
import yaml

from clipwise.cli import main
from clipwise.cli.diff import diff_recipes
from clipwise.cli.explain import describe_keys, explain_recipe
from clipwise.engine.checkpoint import make_passport
from clipwise.engine.network import Schedule
from clipwise.errors import CheckpointError, ClipwiseWarning, RecipeError
from clipwise.recipe import (
    GROUPS,
    LocalizationRecipe,
    RecognitionRecipe,
    dump_recipe,
    flatten,
    list_recipes,
    load_recipe,
    make_recipe,
)
from clipwise.recipe.moved import MOVED, in_groups, place_of


def test_groups_are_one_level_deep_and_everyday_keys_flat():
    everyday = {"model", "num_classes", "train_data", "seed", "epochs", "batch_size", "lr", "optimizer", "amp"}
    for kind, groups in GROUPS.items():
        flat = kind.model_fields.keys() - groups
        assert everyday - {"num_classes"} <= flat
        assert len(groups) <= 13
        for group in groups:
            inner = type(kind.model_fields[group].default).model_fields
            assert inner
            assert not any(hasattr(type(field.default), "model_fields") for field in inner.values())


def test_each_task_has_its_own_keys():
    recognition, localization = (set(flatten(load_recipe(n).model_dump())) for n in ("tsm_tiny", "bmn_tiny"))
    assert not {key for key in localization if key.startswith(("augment.", "test.", "distill.", "lists."))}
    assert not {key for key in recognition if key.startswith(("bmn.", "nms."))}
    with pytest.raises(RecipeError, match="unknown key 'mixup'; only recipes of the task 'recognition' have it"):
        load_recipe("bmn_tiny", ["mixup=0.2"])
    with pytest.raises(RecipeError, match="only recipes of the task 'localization' have it"):
        load_recipe("tsm_tiny", ["nms.alpha=0.2"])


# ---------------------------------------------------------------- what moved since 0.1


@pytest.mark.parametrize("kind", [RecognitionRecipe, LocalizationRecipe])
def test_every_moved_key_has_a_place(kind):
    """Each place of the table is a key of one task at least; no flat key of today is in the table, but for `parallel`."""
    places = {key: place_of(kind, key) for key in MOVED}
    keys = flatten(
        kind.model_validate({"model": "x", "task": kind.model_fields["task"].annotation.__args__[0]}).model_dump()
    )
    assert {place for place in places.values() if place} <= keys.keys()
    assert all(any(place_of(k, key) for k in (RecognitionRecipe, LocalizationRecipe)) for key in MOVED)
    assert MOVED.keys() & kind.model_fields.keys() == {"parallel"}


def test_a_flat_override_says_where_it_is_now():
    with pytest.warns(ClipwiseWarning, match=r"command line, mixup=0.2: mixup is augment.mixup now"):
        assert load_recipe("tsm_tiny", ["mixup=0.2"]).augment.mixup == 0.2
    with pytest.warns(ClipwiseWarning, match="parallel is parallel.mode now"):
        recipe = load_recipe("tsm_tiny", ["parallel.static_graph=false", "parallel=fsdp"])
    assert recipe.parallel.mode == "fsdp"
    with pytest.warns(ClipwiseWarning, match=r"distill_from is distill\.from now"):
        assert load_recipe("tsm_tiny", ["distill_from=t.safetensors"]).distill.from_ == "t.safetensors"


def test_a_flat_file_says_what_moved_with_lines_that_still_fit(tmp_path):
    path = tmp_path / "mine.yaml"
    path.write_text(
        "model: tsn_tiny\nnum_segments: 4\nmixup: 0.2\nmomentum: 0.8\nparallel: fsdp\nflip_label_map: {1: 2}\n"
    )
    with pytest.warns(ClipwiseWarning) as caught:
        recipe = load_recipe(path)
    assert str(caught[0].message) == (
        f"{path}: mixup is augment.mixup now, momentum is optim.momentum now, parallel is parallel.mode now, "
        "flip_label_map is augment.flip_label_map now"
    )
    assert (recipe.augment.mixup, recipe.optim.momentum, recipe.parallel.mode) == (0.2, 0.8, "fsdp")
    assert recipe.augment.flip_label_map == {1: 2}
    path.write_text("model: tsn_tiny\nmixup: 2\nflip: 7\n")
    with (
        pytest.raises(RecipeError, match=f"{path}:3: augment.flip: must be a number from 0 to 1, given 7"),
        pytest.warns(),
    ):
        load_recipe(path)
    path.write_text("model: tsn_tiny\nmixup: 0.2\naugment: {mixup: 0.3}\n")
    with pytest.raises(RecipeError, match=f"{path}:2: mixup is augment.mixup now, which is given as well; keep one"):
        load_recipe(path)


def test_a_passport_of_0_1_is_read_in_todays_form():
    recipe = {"model": "tsm_tiny", "mixup": 0.2, "num_segments": 8}
    with pytest.warns(ClipwiseWarning, match="mixup is augment.mixup now"):
        passport = make_passport({"model": "tsm_tiny", "recipe": recipe}, "x.safetensors")
    assert passport.recipe == {"model": "tsm_tiny", "num_segments": 8, "augment": {"mixup": 0.2}}


def test_a_file_may_write_groups_as_a_command_line_does(tmp_path):
    path = tmp_path / "mine.yaml"
    path.write_text("model: tsn_tiny\naugment.mixup: 0.2\naugment: {flip: 0}\nmodel_args.dropout: 0.1\n")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        recipe = load_recipe(path)
    assert (recipe.augment.mixup, recipe.augment.flip, recipe.model_args) == (0.2, 0, {"dropout": 0.1})
    path.write_text("model: tsn_tiny\naugment.mixup: 0.2\naugment: {mixup: 0}\n")
    with pytest.raises(
        RecipeError, match=f"{path}:2: augment.mixup is given as well|{path}:3: key 'augment.mixup' is given twice"
    ):
        load_recipe(path)
    path.write_text("model: tsn_tiny\naugment.mixupp: 0.2\n")
    with pytest.raises(RecipeError, match=f"{path}:2: unknown key 'augment.mixupp'; did you mean 'augment.mixup'"):
        load_recipe(path)


def test_diff_of_an_old_and_a_new_recipe(tmp_path):
    new = load_recipe("tsm_tiny", ["optim.param_groups=all"])
    flat = {old: value for key, value in flatten(load_recipe("tsm_tiny").model_dump(mode="json")).items()
            for old in [next((o for o, p in MOVED.items() if p == key), key)]}  # fmt: skip
    flat["allow_missing"] = flat.pop("test.allow_missing")
    (tmp_path / "old.yaml").write_text(yaml.safe_dump(flat))
    with pytest.warns(ClipwiseWarning):
        old = load_recipe(tmp_path / "old.yaml")
    assert diff_recipes(old, new) == [("optim.param_groups", "no_norm_bias", "all")]


def test_a_flat_dictionary_is_put_in_groups_without_a_word():
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        values = in_groups(
            RecognitionRecipe, {"model": "x", "test_crop": "three", "input.start_index": 0, "parallel": "ddp"}
        )
    assert values == {"model": "x", "test": {"crop": "three"}, "input": {"start_index": 0}, "parallel": {"mode": "ddp"}}


# ---------------------------------------------------------------- keys without effect


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["optim.momentum=0.95"], "optim.momentum has no effect with optimizer: adamw; it is for optimizer: sgd"),
        (["optim.nesterov=true"], "optim.nesterov has no effect with optimizer: adamw; it is for optimizer: sgd"),
        (["optimizer=sgd", "optim.betas=[0.8, 0.9]"], "optim.betas has no effect with optimizer: sgd; it is for optimizer: adam or adamw"),
        (["schedule.milestones=[3]"], "schedule.milestones has no effect with lr_schedule: cosine; it is for lr_schedule: step"),
        (["optim.loss_scale=128"], "optim.loss_scale has no effect with amp: bf16; it is for amp: fp16"),
        (["distill.weight=0.3"], "distill.weight has no effect with distill.from: null"),
        (["augment.crop_area=[0.5, 1]"], "augment.crop_area has no effect with augment.crop: random; it is for augment.crop: random_resized"),
        (["parallel.mode=fsdp", "amp=no", "parallel.static_graph=true"], "parallel.static_graph has no effect with parallel.mode: fsdp"),
        (["warmup_epochs=0", "schedule.after_warmup=true"], "schedule.after_warmup has no effect with warmup_epochs: 0.0"),
    ],
)  # fmt: skip
def test_on_a_command_line_a_key_without_effect_is_refused(words, message):
    with pytest.raises(RecipeError, match=re.escape(message)) as caught:
        load_recipe("tsm_tiny", words)
    assert str(caught.value).startswith(f"command line, {words[-1]}: ")


def test_in_a_file_a_key_without_effect_is_warned_about(tmp_path):
    path = tmp_path / "mine.yaml"
    path.write_text("task: localization\nmodel: bmn\noptimizer: adam\noptim: {momentum: 0.95}\n")
    with pytest.warns(ClipwiseWarning, match=f"{path}:4: optim.momentum has no effect with optimizer: adam"):
        assert load_recipe(path).optim.momentum == 0.95
    path.write_text("task: localization\nmodel: mine.nets:net\nbmn: {targets: jjboy}\n")
    with pytest.warns(
        ClipwiseWarning, match=f"{path}:3: bmn has no effect with model: mine.nets:net; it is for model: bmn"
    ):
        load_recipe(path)


def test_what_was_not_asked_for_is_not_warned_about(tmp_path):
    """A full dump has every key at its default; a command line that switches something off leaves the file's details behind."""
    (tmp_path / "dump.yaml").write_text(dump_recipe(load_recipe("tsm_tiny")))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for name in list_recipes():
            load_recipe(name)
        load_recipe(tmp_path / "dump.yaml")
        load_recipe("tsm_tiny", ["warmup_epochs=0"])
        load_recipe("tpn_slowonly_r50_8x8x1_150e_kinetics_rgb", ["optimizer=adamw", "lr_schedule=cosine"])
        make_recipe({"model": "tsm_tiny", "optimizer": "adamw", "optim": {"momentum": 0.95}})


def test_parts_of_the_modern_recipe_can_be_switched_off():
    """What --modern sets was not asked for key by key, so it is no contradiction of what was."""
    modern = load_recipe("tsm_tiny", modern=True)
    assert (modern.augment.mixup, modern.ema_decay, modern.warmup_epochs) == (0.2, 0.999, 4)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        recipe = load_recipe("tsm_r50_1x1x8_50e_sthv1_rgb", ["warmup_epochs=0", "lr_schedule=constant"], modern=True)
    assert (recipe.lr_schedule, recipe.warmup_epochs, recipe.augment.mixup) == ("constant", 0, 0.2)
    assert main(["explain", "tsm_tiny", "--modern", "warmup_epochs=0"]) == 0
    with pytest.raises(RecipeError, match="momentum has no effect"):
        load_recipe("tsm_tiny", ["optim.momentum=0.95"], modern=True)


# ---------------------------------------------------------------- a run shorter than its recipe's warm-up


def test_a_short_run_keeps_the_share_of_its_warmup():
    """tsm_tiny warms up for 5 of 40 epochs."""
    with pytest.warns(ClipwiseWarning) as told:
        recipe = load_recipe("tsm_tiny", ["epochs=2"])
    assert (recipe.epochs, recipe.warmup_epochs) == (2, 0.25)
    assert [str(one.message) for one in told] == [
        "warmup_epochs is 0.25: the recipe warms up for 5 of its 40 epochs, and this run has epochs=2; warmup_epochs=N sets it"
    ]
    factors = [Schedule(recipe, 8).factor(step) for step in range(3)]  # 0.25 epochs of 8 steps: two
    cosine = [0.5 * (1 + math.cos(math.pi * step / 16)) for step in range(3)]
    assert factors == pytest.approx([0.04, 0.52 * cosine[1], cosine[2]])


def test_a_warmup_that_fits_stays(tmp_path):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert load_recipe("tsm_tiny", ["epochs=6"]).warmup_epochs == 5
        assert load_recipe("tsm_tiny", ["epochs=3", "warmup_epochs=1"]).warmup_epochs == 1
        assert load_recipe("tsm_tiny", ["epochs=2"], modern=True).warmup_epochs == 0.2
    (tmp_path / "mine.yaml").write_text("model: tsm_tiny\nepochs: 5\nwarmup_epochs: 5\n")
    for words in ((), ("epochs=3",)):  # a file that contradicts itself
        with pytest.raises(RecipeError, match="must be shorter than epochs"):
            load_recipe(tmp_path / "mine.yaml", words)


# ---------------------------------------------------------------- other tools' names


@pytest.mark.parametrize(
    ("word", "key"),
    [
        ("learning_rate", "lr"), ("lr0", "lr"), ("bs", "batch_size"), ("batch", "batch_size"), ("videos_per_gpu", "batch_size"),
        ("per_device_train_batch_size", "batch_size"), ("wd", "weight_decay"), ("backbone", "model"), ("pretrained", "init"),
        ("load_from", "init"), ("image_size", "crop_size"), ("imgsz", "crop_size"), ("workers", "num_workers"),
        ("max_epochs", "epochs"), ("total_epochs", "epochs"), ("num_train_epochs", "epochs"), ("opt", "optimizer"),
        ("gradient_accumulation_steps", "accumulate"), ("clip_grad", "grad_clip"), ("fp16", "amp"), ("warmup", "warmup_epochs"),
        ("smoothing", "augment.label_smoothing"), ("mixup_alpha", "augment.mixup"), ("report_to", "log.trackers"),
        ("drop_path_rate", "model_args.drop_path"), ("Batch-Size", "batch_size"), ("momentun", "optim.momentum"), ("epohcs", "epochs"),
    ],
)  # fmt: skip
def test_the_words_of_other_tools(word, key):
    with pytest.raises(RecipeError, match=re.escape(f"unknown key {word!r}; did you mean {key!r}?")):
        load_recipe("tsm_tiny", [f"{word}=1"])


@pytest.mark.parametrize(
    ("word", "hint"), [("gpus", "torchrun"), ("work_dir", "--work-dir"), ("data", "--data"), ("resume", "--resume")]
)
def test_what_is_no_key_but_an_option(word, hint):
    with pytest.raises(RecipeError, match=f"unknown key '{word}'; .*{hint}"):
        load_recipe("tsm_tiny", [f"{word}=1"])


@pytest.mark.parametrize("word", ["hidden", "xyz", "foo", "q", "temporal_context"])
def test_nothing_rather_than_nonsense(word):
    with pytest.raises(RecipeError) as caught:
        load_recipe("tsm_tiny", [f"{word}=1"])
    assert (
        str(caught.value)
        == f"command line, {word}=1: unknown key '{word}'; `clipwise explain RECIPE --keys` lists the keys"
    )


def test_values_that_cannot_be():
    for word, message in (
        ("log.trackers=[foo]", "each 'tensorboard', 'wandb', 'mlflow', 'swanlab' or 'trackio'"),
        ("crop_size=7", "crop_size: must be a whole number of at least 16"),
    ):
        with pytest.raises(RecipeError, match=re.escape(message)):
            load_recipe("tsm_tiny", [word])
    message = "warmup_epochs (5) must be shorter than epochs (3); warmup_epochs=0 turns the warm-up off"
    for modern in (False, True):
        with pytest.raises(RecipeError, match=re.escape(message)):
            load_recipe("tsm_tiny", ["epochs=3", "warmup_epochs=5"], modern=modern)
    from clipwise.models import create_model

    with pytest.raises(RecipeError, match="shift_div is 0; a TSM shifts"):
        create_model("tsm_tiny", shift_div=0)


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--epochs", "3"], "epochs=3"),
        (["--lr=0.1"], "lr=0.1"),
        (["--learning-rate", "0.1", "--mixup", "0.2"], "lr=0.1 augment.mixup=0.2"),
        (["--batch-size", "4"], "batch_size=4"),
    ],
)
def test_keys_given_as_options(words, said, capsys):
    assert main(["train", "tsm_tiny", "--data", "x", *words]) == 2
    assert capsys.readouterr().err.strip().endswith(f". Keys of the recipe are written key=value: {said}")


def test_a_recipe_where_a_checkpoint_is_expected_and_the_other_way_round(tmp_path, capsys):
    (tmp_path / "a.mp4").write_bytes(b"x")
    (tmp_path / "r.yaml").write_text("model: tsm_tiny\n")
    for words, said in (
        (["predict", "tsm_tiny", str(tmp_path / "a.mp4")], "tsm_tiny is a recipe where a checkpoint is expected"),
        (
            ["predict", str(tmp_path / "a.mp4"), str(tmp_path / "a.mp4")],
            "is a video, not a checkpoint",
        ),
        (["test", str(tmp_path / "r.yaml")], "is a recipe, not a checkpoint (.safetensors)"),
        (["train", "best.safetensors", "--data", "x"], "best.safetensors is a checkpoint where a recipe is expected"),
        (["test", "best.safetensors", "tsm_tiny"], "usage: clipwise test [RECIPE] CKPT"),
    ):
        assert main(words) == 2
        assert said in capsys.readouterr().err


# ---------------------------------------------------------------- explain


def test_a_batch_larger_than_the_list_is_reported(clips, tmp_path, capsys):
    from clipwise.engine.train import train

    recipe = load_recipe(
        "tsm_tiny", ["epochs=1", "warmup_epochs=0", "batch_size=500", "num_workers=0", "crop_size=32", "amp=no"]
    )
    train(recipe, data=str(clips), work_dir=tmp_path, validate=False)
    assert "batch_size 500 (x 1) exceeds the list's" in capsys.readouterr().err


def test_steps_are_optimizer_steps():
    """100 samples in batches of 1, four batches a step: 25 steps an epoch (issue: explain said 100)."""
    recipe = load_recipe("tsm_tiny", ["batch_size=1", "accumulate=4", "epochs=2", "warmup_epochs=0"])
    facts = explain_recipe(recipe, num_samples=100)
    assert facts["steps"] == "25 an epoch, 50 in all (100 samples); 4 batches a step, 100 batches an epoch"


def test_the_reference_names_every_key_and_is_a_recipe(tmp_path):
    for name in (
        "tpn_tsm_r50_1x1x8_150e_sthv1_rgb",
        "slowonly_nl_embedded_gaussian_r50_4x16x1_150e_kinetics400_rgb",
        "bmn_tiny",
    ):
        recipe = load_recipe(name)
        text = describe_keys(recipe)
        (tmp_path / f"{name}.yaml").write_text(text, encoding="utf-8")
        assert load_recipe(tmp_path / f"{name}.yaml") == recipe
        values = yaml.safe_load(text)
        assert flatten(values).keys() - {"schema"} == flatten(recipe.model_dump()).keys()
        described = sum("  # " in line for line in text.splitlines())
        assert described >= len(flatten(recipe.model_dump())) - 3  # texts of several lines have no comment
    assert "momentum: 0.95" in describe_keys(
        make_recipe({"model": "x", "optimizer": "adam", "optim": {"momentum": 0.95}})
    )


def test_checkpoint_errors_are_of_their_kind(tmp_path):
    from clipwise.engine.checkpoint import read_passport

    path = tmp_path / "list.txt"
    path.write_text("a.mp4 0\n")
    with pytest.raises(CheckpointError, match="is a list, not a checkpoint"):
        read_passport(path)
