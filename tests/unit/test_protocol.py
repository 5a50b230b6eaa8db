"""Variants of known data sets: recognized by the names and numbers of their videos, named, measured under each, kept apart."""

import json

import pytest

from clipwise.cli import main
from clipwise.errors import DataError
from clipwise.tasks.protocol import check_same, recognize_segments, recognize_videos, variants_of

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


def scored_variants(tmp_path, capsys, truth, found, subset):
    """What `eval-detections --variants` says."""
    gt = {"database": {v: {"subset": subset, "duration": 20.0, "annotations": e} for v, e in truth.items()}}
    (tmp_path / "gt.json").write_text(json.dumps(gt))
    (tmp_path / "found.json").write_text(json.dumps({"results": found}))
    files = [str(tmp_path / "found.json"), str(tmp_path / "gt.json")]
    assert main(["eval-detections", *files, "--subset", subset, "--variants", "--tiou", "0.5", "--json"]) == 0
    return json.loads(capsys.readouterr().out)[files[0]]


def test_ambiguous_and_cliff_dives_are_scored_both_ways(tmp_path, capsys):
    """Nothing is found of 2 of 21 classes, Diving (all of it cliff dives) and Ambiguous; each variant leaves one out."""
    truth = thumos()
    found = {
        v: [{**e, "score": 0.9} for e in entries if e["label"] not in ("Diving", "Ambiguous")]
        for v, entries in truth.items()
    }
    said = scored_variants(tmp_path, capsys, truth, found, "test")
    assert said["mAP"] == pytest.approx(19 / 21)
    for name in ("without 'Ambiguous'", "CliffDiving not counted as Diving"):
        assert said["variants"][name]["mAP"] == pytest.approx(19 / 20)
        assert said["variants"][name]["difference"] == pytest.approx(19 / 20 - 19 / 21)
    assert "'Ambiguous' among the labels" in said["protocol"]["variant"]


def test_missing_videos_of_activitynet_are_scored_both_ways(tmp_path, capsys):
    """BSN's list found without a fault is 4,728 of 4,926 actions: each class's AP is the share of its actions found."""
    truth = {f"v_{n:011}": [{"segment": [0, 9], "label": str(n % 200)}] for n in range(4926)}
    found = {v: [{**e[0], "score": 0.9}] for v, e in list(truth.items())[:4728]}
    said = scored_variants(tmp_path, capsys, truth, found, "validation")
    shares = [len(range(c, 4728, 200)) / len(range(c, 4926, 200)) for c in range(200)]
    assert said["protocol"]["variant"] == "4,926 of 4,926 annotated videos (all videos)"
    assert said["mAP"] == pytest.approx(sum(shares) / 200)
    assert said["variants"]["only videos with results"]["mAP"] == pytest.approx(1)


@pytest.mark.parametrize(
    ("counts", "tail", "num_classes", "said"),
    [
        ((1970, 2096), "_00001", 48, ("V2 test", "V1 test")),
        ((19796, 19400), "_000010_000020", 400, ("MMAction2's and Paddle's copy", "a copy that lacks 506")),
    ],
    ids=["diving48", "kinetics400"],
)
def test_compare_refuses_other_labels_and_other_copies(tmp_path, capsys, counts, tail, num_classes, said):
    files = []
    for count in counts:
        rows = [{"path": f"a/{n:011}{tail}.mp4", "label": n % num_classes, "scores": None} for n in range(count)]
        files.append(tmp_path / f"{count}.json")
        files[-1].write_text(json.dumps({"classes": list(map(str, range(num_classes))), "results": rows}))
    assert main(["compare", *map(str, files)]) == 2
    told = capsys.readouterr().err
    assert "measured under different protocols" in told
    assert all(word in told for word in said)


def test_mixed_ground_truths_are_refused():
    """Each variant of THUMOS14 and of ActivityNet against each other one, and none against itself."""
    full = thumos()
    plain = {v: [e for e in entries if e["label"] != "Ambiguous"] for v, entries in full.items()}
    fewer = {v: entries for v, entries in plain.items() if v != "video_test_0000270"}
    fewest = {v: entries for v, entries in fewer.items() if v != "video_test_0001496"}
    single = {v: [e for e in entries if e["label"] != "Diving"] for v, entries in plain.items()}
    anet = [{f"{n:011}": [{"segment": [0, 1], "label": str(n % 200)}] for n in range(k)} for k in (4926, 4728, 4700)]
    known = [recognize_segments(truth) for truth in (full, plain, fewer, fewest, single, *anet)]
    assert [p.videos for p in known] == [213, 212, 211, 210, 212, 4926, 4728, 4700]
    for n, one in enumerate(known):
        check_same(one, one, ("a", "b"))
        for other in known[:n]:
            with pytest.raises(DataError, match="different protocols"):
                check_same(one, other, ("a", "b"))


def test_results_of_localizers_are_compared_under_one_ground_truth(tmp_path, capsys):
    for name in ("a", "b"):
        (tmp_path / f"{name}.json").write_text(
            json.dumps({"results": {"v": [{"segment": [0, 1], "label": "x", "score": 1}]}})
        )
    assert main(["compare", str(tmp_path / "a.json"), str(tmp_path / "b.json")]) == 2
    assert "clipwise eval-detections A B GROUND_TRUTH" in capsys.readouterr().err


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


def test_the_prefix_of_activitynet_s_names_is_no_other_video(tmp_path, capsys):
    """In the results, the ground truth, both or neither; the same video under both names is refused."""
    entry, row = {"segment": [0, 9], "label": "a"}, {"segment": [0, 9], "label": "a", "score": 0.9}
    files = [str(tmp_path / "found.json"), str(tmp_path / "gt.json")]
    for truth in ("v_x", "x"):
        video = {"subset": "validation", "duration": 20.0, "annotations": [entry]}
        (tmp_path / "gt.json").write_text(json.dumps({"database": {truth: video}}))
        for name in ("v_x", "x"):
            (tmp_path / "found.json").write_text(json.dumps({"results": {name: [row]}}))
            for verb, key in (("eval-detections", "mAP"), ("eval-proposals", "AR@1")):
                assert main([verb, *files, "--json"]) == 0
                said = capsys.readouterr()
                assert said.err == ""
                assert (json.loads(said.out) | json.loads(said.out).get("results", {}))[files[0]][key] == 1
    (tmp_path / "found.json").write_text(json.dumps({"results": {"v_x": [row], "x": [row]}}))
    assert main(["eval-detections", *files]) == 2
    assert "'x' and 'v_x', which are one video" in capsys.readouterr().err
