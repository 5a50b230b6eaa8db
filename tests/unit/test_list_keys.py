"""Keys of ``lists`` have their effect in every command that reads a list, and are refused or named where they have none."""

import json

import pytest

import clipwise
from clipwise.cli import main
from clipwise.data.lists import read_part
from clipwise.errors import ClipwiseWarning, DataError, RecipeError

SHORT = ["epochs=1", "warmup_epochs=0", "num_workers=0", "amp=no", "batch_size=8"]


@pytest.fixture(scope="module")
def export(clips, tmp_path_factory):
    """A Label Studio export without its configuration, so that nothing reads it without ``lists.fps``; six videos, six classes."""
    folder = tmp_path_factory.mktemp("export")
    tasks = []
    for number, video in enumerate(sorted((clips / "val").rglob("*.mp4"))[::2]):
        value = {"ranges": [{"start": 1, "end": 12}], "timelinelabels": [video.parent.name]}
        region = {"id": "r", "type": "timelinelabels", "from_name": "l", "to_name": "v", "value": value}
        tasks.append({"id": number, "data": {"video": str(video)}, "annotations": [{"id": number, "result": [region]}]})
    path = folder / "export.json"
    path.write_text(json.dumps(tasks), encoding="utf-8")
    return path


@pytest.fixture(scope="module")
def scored(trained, clips, tmp_path_factory):
    folder = tmp_path_factory.mktemp("scored")
    assert main(["test", str(trained), "--data", str(clips / "val"), "--out", str(folder / "scores.json")]) == 0
    return folder / "scores.json"


def commands(export, trained, scored, out):
    return {
        "test": ["test", trained, "--data", export],
        "analyze": ["analyze", trained, "--data", export, "--no-masks", "--no-importance", "--num-workers", "0"],
        "bench": ["bench", trained, "--data", export, "--runs", "1", "--seconds", "0", "--limit", "2"],
        "export": ["export", trained, "--format", "torch", "--out", out / "a.pt2", "--check-clips", export],
        "check": ["check", export, "--depth", "short"],
        "fuse": ["fuse", scored, "--labels", export],
        "shards": ["prepare", "shards", export, out / "shards"],
    }


@pytest.mark.parametrize("verb", ["test", "analyze", "bench", "export", "check", "fuse", "shards"])
def test_every_command_takes_the_keys(verb, export, trained, scored, tmp_path, capsys):
    words = [*map(str, commands(export, trained, scored, tmp_path)[verb])]
    assert main(words) == 2, "without the rate the export cannot be read"
    assert "lists.fps" in capsys.readouterr().err
    code = main([*words, "lists.fps=25"])
    message = capsys.readouterr().err
    assert "lists.fps" not in message
    if verb in ("test", "analyze", "bench", "check"):
        assert code in (0, 1), message
    else:  # the list was read; that its entries are parts of videos is another matter
        assert code in (0, 2), message


def test_knn_reads_one_file_by_its_subsets(clips, tmp_path, capsys):
    import numpy as np

    rows = ["path,label,split"]
    (tmp_path / "features").mkdir()
    for part in ("train", "val"):
        for number, video in enumerate(sorted((clips / part).rglob("*.mp4"))):
            rows.append(f"{video},{video.parent.name},{part}")
            target = tmp_path / "features" / f"{video.stem}.npy"
            np.save(target, np.full((2, 4), float(number), np.float32))
    (tmp_path / "all.csv").write_text("\n".join(rows), encoding="utf-8")
    words = [str(tmp_path / "features"), "lists.train_subset=train", "lists.val_subset=val"]
    table = str(tmp_path / "all.csv")
    assert main(["knn", *words, "--train", table, "--val", table, "--json"]) == 0
    answer = json.loads(capsys.readouterr().out)
    assert (answer["train"], answer["val"]) == (24, 12)


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("a.csv", "path,label,split\na.mp4,x,train\nb.mp4,y,train\nc.mp4,x,test\n"),
        ("a.json", '[{"path": "a.mp4", "label": "x", "subset": "train"}, {"path": "b.mp4", "label": "y", "subset": "train"}, {"path": "c.mp4", "label": "x", "subset": "test"}]'),
        ("k.csv", "label,youtube_id,time_start,time_end,split\nx,a,0,10,train\ny,b,0,10,train\nx,c,0,10,test\n"),
    ],
)  # fmt: skip
def test_lists_with_a_column_of_subsets(name, text, tmp_path):
    (tmp_path / name).write_text(text, encoding="utf-8")
    assert len(clipwise.read_list(tmp_path / name)) == 3
    assert len(clipwise.read_list(tmp_path / name, subset="training")) == 2
    assert "c" in clipwise.read_list(tmp_path / name, subset="test").entry(0)
    with pytest.raises(DataError, match=r"has no subset 'val'; it has test, train\."):
        clipwise.read_list(tmp_path / name, subset="val")


@pytest.mark.parametrize("kind", ["folder", "text"])
def test_plain_lists_refuse_what_has_no_effect(kind, clips, tmp_path):
    source = clips / "val"
    if kind == "text":
        source = tmp_path / "val.txt"
        source.write_text("".join(f"{p} 0\n" for p in (clips / "val").rglob("*.mp4")), encoding="utf-8")
    with pytest.raises(DataError, match=r"is a (plain list|folder of classes) with no subsets .*; leave subset out"):
        clipwise.read_list(source, subset="train")
    with pytest.raises(DataError, match=r"no frame numbers and one kind of labels; leave fps, layer out"):
        clipwise.read_list(source, fps=25, layer="verb")


def test_training_refuses_a_subset_of_a_plain_list_and_names_other_keys(clips):
    with pytest.raises(DataError, match=r"lists\.train_subset=training: .* is a folder of classes with no subsets"):
        read_part(clips / "train", {"lists": {"train_subset": "training"}}, "train")
    with pytest.warns(ClipwiseWarning, match=r"lists\.layer=verb without effect: .*one kind of labels"):
        assert len(read_part(clips / "train", {"lists": {"layer": "verb"}}, "train")) == 24


def test_a_checkpoints_subset_does_not_stop_a_test_on_a_folder(clips):
    """The recipe of the checkpoint speaks of the list it was trained on; the folder is another."""
    lists = {"val_subset": "validation", "fps": 25.0}
    with pytest.warns(
        ClipwiseWarning, match=r"lists\.val_subset=validation, lists\.fps=25\.0 without effect: .* no subsets"
    ) as seen:
        assert len(read_part(clips / "val", {"lists": lists}, "val")) == 12
    assert len(seen) == 1


def test_commands_without_a_recipe_take_no_other_key(clips):
    from clipwise.cli.list_keys import list_keys

    with pytest.raises(RecipeError, match=r"lr=0\.1: without a recipe only lists\.…, data_root and multi_label"):
        list_keys(["lr=0.1"])
    with pytest.raises(RecipeError, match=r"lists\.subset"):
        list_keys(["lists.subset=train"])
    assert list_keys(["lists.fps=25"])["lists"]["fps"] == 25
