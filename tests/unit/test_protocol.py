"""Variants of known data sets: recognized by the names and numbers of their videos, named, measured under each, kept apart."""

import json

import pytest

from clipwise.cli import main
from clipwise.tasks.protocol import recognize_segments, recognize_videos, variants_of

SPLITS = {1: range(1, 8), 2: range(8, 15), 3: range(15, 22)}


def thumos(ambiguous=True):
    """213 annotated test videos, the three disputed ones among them; two cliff dives, both annotated as dives too."""
    names = [f"video_test_{n:07}" for n in (270, 1292, 1496, *range(2000, 2210))]
    truth = {name: [{"segment": [1.0, 3.0], "label": f"class{n % 18}"}] for n, name in enumerate(names)}
    truth["video_test_0001292"] = [{"segment": [2.0, 9.0], "label": "Ambiguous"}] if ambiguous else []
    for number in (2000, 2001):
        for label in ("CliffDiving", "Diving"):
            truth[f"video_test_{number:07}"].append({"segment": [10.0, 12.0], "label": label})
    return truth


def test_thumos_is_named_by_its_videos():
    full = recognize_segments(thumos())
    assert (full.data_set, full.videos) == ("THUMOS14 test", 213)
    assert "Ambiguous" in full.line
    fewer = thumos(ambiguous=False)
    assert "212 annotated videos, without 0001292" in recognize_segments(fewer).line
    del fewer["video_test_0000270"], fewer["video_test_0001496"]
    assert recognize_segments(fewer).variant == "210 annotated videos, without 0001292, 0000270, 0001496"
    fewer["video_test_0002001"].pop()  # the dive that is a cliff dive as well
    assert "1 of 2 CliffDiving segments are not Diving as well" in recognize_segments(fewer).line
    assert recognize_segments({"a": [], "b": []}) is None


def test_activitynet_and_how_much_of_it():
    def truth(count):
        return {f"{n:011}": [{"segment": [0, 1], "label": str(n % 200)}] for n in range(count)}

    assert "4,926 of 4,926" in recognize_segments(truth(4926)).line
    assert "BSN" in recognize_segments(truth(4728)).line
    assert "lacks 200" in recognize_segments(truth(4726)).line
    assert recognize_segments(truth(5981)) is None  # HACS


def test_the_real_activitynet_is_bsn_s(shared):
    from clipwise.data.formats.annotation_files import read_annotations

    everything = read_annotations(shared / "data" / "activitynet" / "anet_anno_action.json")
    assert recognize_segments(everything.subset("validation").ground_truth()).videos == 4728


@pytest.mark.parametrize("split", SPLITS)
def test_ucf101_by_its_groups(split):
    paths = [f"x/Archery/v_Archery_g{g:02}_c01.avi" for g in SPLITS[split]]
    found = recognize_videos(paths, 101)
    assert found.variant.startswith(f"split {split}, 7 of its {[3783, 3734, 3696][split - 1]:,}")
    assert not found.notes
    leaked = recognize_videos(paths, 101, [f"y/v_Archery_g{SPLITS[split][0]:02}_c04.avi", "v_Basketball_g01_c01.avi"])
    assert "1 of them are from groups" in leaked.line
    assert "none of the three" in recognize_videos([*paths, "v_Archery_g25_c01.avi"], 101).line


def test_kinetics_and_diving48_by_their_numbers():
    def ids(count, tail=""):
        return [f"a/{n:011}{tail}.mp4" for n in range(count)]

    assert "MMAction2" in recognize_videos(ids(19796), 400).line
    assert "lacks 506" in recognize_videos(ids(19400, "_000010_000020"), 400).line
    assert recognize_videos(ids(19796), 600) is None
    assert "V2 test" in recognize_videos(ids(1970, "_00001"), 48).line
    assert "V1 test" in recognize_videos(ids(2096, "_00001"), 48).line
    assert recognize_videos(["a.mp4"], 48) is None


def test_variants_are_measured_with_their_difference(tmp_path, capsys):
    """Everything is found but one video that two of the variants leave out, so they score 100 %."""
    truth = thumos(ambiguous=False)
    gt = {"database": {v: {"subset": "test", "duration": 20.0, "annotations": e} for v, e in truth.items()}}
    found = {v: [{**e, "score": 0.9} for e in entries] for v, entries in truth.items() if v != "video_test_0000270"}
    (tmp_path / "gt.json").write_text(json.dumps(gt))
    (tmp_path / "found.json").write_text(json.dumps({"results": found}))
    words = ["eval-detections", str(tmp_path / "found.json"), str(tmp_path / "gt.json"), "--thumos", "--subset", "test"]
    assert main([*words, "--variants", "--json"]) == 0
    said = json.loads(capsys.readouterr().out)[str(tmp_path / "found.json")]
    assert said["protocol"]["videos"] == 212
    # class0 has 12 videos, one of which was not found: its AP is 11/12, the other 19 classes are perfect
    assert said["mAP"] == pytest.approx(1 - 1 / 12 / 20)
    assert said["variants"]["without 0001292, 0000270"]["mAP"] == 1
    assert said["variants"]["without 0001292, 0000270"]["difference"] == pytest.approx(1 / 12 / 20)
    assert said["variants"]["only videos with results"]["mAP"] == 1
    assert "without 0001292" not in said["variants"]  # nothing is annotated there
    assert main([*words, "--variants"]) == 0
    out = capsys.readouterr().out
    assert "protocol: THUMOS14 test: 212 annotated videos" in out
    assert "+0.42" in out
    (tmp_path / "own.json").write_text(json.dumps({"database": {"a": gt["database"]["video_test_0002000"]}}))
    assert variants_of({"a": [{"segment": [0, 1], "label": "x"}]}, ["a"]) == {}


def result_of(paths):
    rows = [
        {"path": p, "label": n % 2, "label_name": "ab"[n % 2], "prediction": n % 2, "prediction_name": "ab"[n % 2],
         "score": 0.9, "correct": True, "error": None, "scores": [0.9, 0.1][:: 1 - 2 * (n % 2)]}
        for n, p in enumerate(paths)
    ]  # fmt: skip
    return json.dumps({"classes": ["a", "b"], "metrics": {}, "failures": {}, "results": rows})


def test_compare_refuses_mixed_protocols(tmp_path, capsys):
    for name, groups in (("one", range(1, 8)), ("two", range(5, 12))):
        (tmp_path / f"{name}.json").write_text(result_of([f"v_Archery_g{g:02}_c01.avi" for g in groups]))
    both = ["compare", str(tmp_path / "one.json"), str(tmp_path / "two.json")]
    assert main(both) == 2
    said = capsys.readouterr().err
    assert "split 1" in said
    assert "--mixed-protocols" in said
    assert main([*both, "--mixed-protocols", "--resamples", "100"]) == 0
    assert "8 videos are in only one" in capsys.readouterr().out
    assert main(["compare", str(tmp_path / "one.json"), str(tmp_path / "one.json"), "--resamples", "100"]) == 0


def test_the_test_verb_names_it(trained, clips, tmp_path, capsys):
    for number, video in enumerate(sorted((clips / "val").rglob("*.mp4"))):
        place = (
            tmp_path
            / "val"
            / video.parent.name
            / f"v_{video.parent.name.replace(' ', '')}_g{number % 7 + 1:02}_c01.mp4"
        )
        place.parent.mkdir(parents=True, exist_ok=True)
        place.symlink_to(video)
    assert main(["test", str(trained), "--data", str(tmp_path / "val"), "--json"]) == 0
    printed = capsys.readouterr()
    assert json.loads(printed.out)["protocol"]["data"]["data_set"] == "UCF101"
    assert "protocol: UCF101: split 1, " in printed.err
