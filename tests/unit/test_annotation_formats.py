"""Annotation formats: real files, round trips with what they lose, broken files word for word, and reading as lists to train on."""

import json
import zipfile

import numpy as np
import pytest

from clipwise.cli import main
from clipwise.data.formats.annotation_convert import losses, write_kind
from clipwise.data.formats.annotation_files import read_annotations
from clipwise.data.formats.annotation_kinds import KINDS, kind_name
from clipwise.data.formats.annotation_parts import FormatOptions, VideoFinder, plain_path, video_name
from clipwise.data.formats.annotation_tables import read_any
from clipwise.data.formats.annotations import AnnotationSet, VideoAnnotation
from clipwise.data.formats.detect import detect
from clipwise.data.lists import read_list
from clipwise.errors import ClipwiseWarning, DataError

LENIENT = FormatOptions(strict=False, fps=25.0)


def write(path, content):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(content if isinstance(content, str) else json.dumps(content), encoding="utf-8")
    return path


def rows(found, name):
    video = found.videos[name]
    return [(round(a, 6), round(b, 6), label) for (a, b), label in zip(video.segments.tolist(), video.labels)]


# ---- real files: their formats, and how much is in them (counted by hand or by the tools' own figures)

SAMPLES = [
    ("activitynet/gtad_thumos_gt_8.json", "activitynet", 8, 122, 0),
    ("activitynet/sample_classification_prediction_8.json", "activitynet-results", 8, 0, 8),
    ("activitynet/sample_detection_prediction_8.json", "activitynet-results", 8, 9, 0),
    ("boris/tabular_events.csv", "boris-table", 1, 4, 0),
    ("boris/tabular_events.tsv", "boris-table", 1, 4, 0),
    ("boris/test.boris", "boris", 4, 17, 0),
    ("cvat/docs_example_for_image.xml", "cvat", 1, 0, 1),
    ("cvat/docs_example_for_video.xml", "cvat", 1, 6, 0),
    ("cvat/for_video_tracks.xml", "cvat", 1, 3, 0),
    ("elan/speach_test.eaf", "elan", 1, 11, 0),
    ("epic_kitchens_100/EPIC_100_validation_head.csv", "epic-kitchens", 1, 59, 0),
    ("hmdb51/brush_hair_test_split1.txt", "hmdb51", 100, 0, 100),
    ("kinetics/datumaro_train.json", "kinetics-json", 1, 0, 1),
    ("kinetics/kinetics-400_val_head.csv", "kinetics_csv", 59, 0, 59),
    ("label_studio/json_min_made_by_sdk_2.1.2.json", "label-studio", 1, 2, 0),
    ("label_studio/predictions_import.json", "label-studio", 1, 5, 0),
    ("label_studio/timelinelabels_event.json", "label-studio", 1, 2, 0),
    ("multithumos/piergiaj_multithumos_6.json", "actions-json", 6, 810, 0),
    ("salads50/01-1-activityAnnotation.txt", "salads50", 1, 35, 0),
    ("thumos14/CliffDiving_test.txt", "thumos", 16, 217, 0),
    ("thumos14/gtad_val_Annotation_head.csv", "segments", 5, 29, 0),
    ("ucf101/testlist01_every20th.txt", "ucf101", 190, 0, 190),
    ("ucf101/trainlist01_every40th.txt", "ucf101", 239, 0, 239),
    ("vidat/example_annotation.json", "vidat", 1, 0, 0),
    ("x_anylabeling/sample.json", "x-anylabeling", 1, 1, 0),
]


@pytest.mark.parametrize(("file", "kind", "videos", "segments", "whole"), SAMPLES, ids=[s[0] for s in SAMPLES])
def test_real_files(shared, file, kind, videos, segments, whole):
    path = shared / "data" / "annotation_samples" / file
    assert detect(path) == kind
    found = read_any(path, options=LENIENT)
    assert len(found) == videos
    assert sum(len(v.segments) for v in found.videos.values()) == segments
    assert sum(len(v.whole) for v in found.videos.values()) == whole


def test_what_is_in_real_files(shared):
    samples = shared / "data" / "annotation_samples"

    def read(file, **options):
        return read_any(samples / file, options=FormatOptions(strict=False, **options))

    # the event has its configuration with it: framerate="25.0"
    assert rows(read("label_studio/timelinelabels_event.json"), "opossum_snow_short") == [
        (0.0, 0.4, "Car"),
        (0.16, 0.6, "croquet_ball"),
    ]
    assert (
        read("label_studio/predictions_import.json", fps=25).videos["opossum_snow_short"].scores[0]
        == 0.26830227896571157
    )
    assert rows(read("cvat/for_video_tracks.xml", fps=10), "t") == [
        (1.0, 1.3, "II"),
        (1.0, 1.3, "klhg"),
        (1.3, 1.6, "II"),
    ]
    assert rows(read("boris/tabular_events.tsv"), "video_test_25fps_360s")[0] == (3.3, 7.75, "s")
    project = read("boris/test.boris")
    # of two files the second begins at 179.96 s: 227.765 - 179.96
    assert (47.805, 73.53, "s") in rows(project, "video_test_25fps_360s")
    assert project.videos["video_test_25fps_180s"].duration_s == 179.96
    assert rows(read("elan/speach_test.eaf", layer="marker"), "test")[:2] == [
        (0.83, 5.2, "convo start"),
        (6.89, 16.26, "convo body"),
    ]
    assert rows(read("x_anylabeling/sample.json"), "sample") == [(1.0, 3.5, "run")]
    assert read("x_anylabeling/sample.json").videos["sample"].duration_s == 120.0
    assert read("thumos14/BaseballPitch_val.txt").videos["video_validation_0000266"].subset == "validation"
    assert rows(read("epic_kitchens_100/EPIC_100_validation_head.csv", layer="verb"), "P01_11")[:2] == [
        (0.0, 1.89, "take"),
        (1.56, 2.45, "put"),
    ]
    assert rows(read("salads50/01-1-activityAnnotation.txt"), "01-1")[0] == (53.704269, 76.774251, "cut_tomato_prep")
    flags = read("hmdb51/eat_test_split1.txt")
    assert sorted({v.subset for v in flags.videos.values()}) == ["test", "training"]
    assert sum(v.subset == "training" for v in flags.videos.values()) == 70
    with pytest.raises(DataError, match=r"the length of 'video_test_25fps_180s.mp4' is not known"):
        read("boris/aggregated_events.tsv")
    folder = read_any(samples / "thumos14", "thumos")
    assert (
        folder.videos["video_test_0000131"].labels.count("CliffDiving")
        == folder.videos["video_test_0000131"].labels.count("Diving")
        == 12
    )
    assert "Ambiguous" not in folder.classes


@pytest.mark.parametrize(
    ("file", "said"),
    [
        ("ava/ava_sample.csv", "AVA's table of boxes"),
        ("vidat/example_config.json", "a configuration of Vidat"),
        ("epic_kitchens_100/EPIC_100_verb_classes.csv", "a table of EPIC-KITCHENS' classes"),
        ("epic_kitchens_100/EPIC_100_test_timestamps_head.csv", "list of the test split"),
    ],
)
def test_real_files_that_hold_no_annotations(shared, file, said):
    with pytest.raises(DataError, match=said):
        read_any(shared / "data" / "annotation_samples" / file)


@pytest.mark.parametrize("file", [s[0] for s in SAMPLES if s[3] and "multithumos" not in s[0]])
def test_real_files_become_every_format_that_is_written(shared, file, tmp_path):
    found = read_any(shared / "data" / "annotation_samples" / file, options=LENIENT)
    for kind, entry in KINDS.items():
        if entry.writer is None or kind in ("kinetics-json",):
            continue
        target = tmp_path / (kind if entry.many or (len(found) > 1 and kind in PER_VIDEO) else kind + entry.suffixes[0])
        done = write_kind(found, kind, target, FormatOptions(strict=False, fps=100.0))
        assert done.written
        lost = [line for line in done.lost if "segments" in line and "rounded" not in line]
        assert not lost or kind in ("cvat", "mstcn", "thumos", "epic-kitchens"), (kind, done.lost)


PER_VIDEO = ("cvat", "cvat-tracks", "elan", "x-anylabeling", "vidat")


# ---- round trips

ROUND = AnnotationSet(
    "hand",
    {
        "a": VideoAnnotation(
            "a",
            20.0,
            None,
            np.array([[1.0, 2.5], [2.0, 4.0], [6.25, 7.5]]),
            ("run fast", "sit", "run fast"),
            path="a.mp4",
        ),
        "b": VideoAnnotation("b", 10.0, None, np.array([[0.5, 1.0]]), ("sit",), path="b.mp4"),
    },
    ("run fast", "sit"),
)
EXACT = [
    "activitynet", "activitynet-results", "label-studio", "cvat", "cvat-tracks", "via", "elan", "boris", "x-anylabeling", "fiftyone", "segments",
    "thumos", "charades", "epic-kitchens", "vidat",
]  # fmt: skip


@pytest.mark.parametrize("kind", EXACT)
def test_round_trips_keep_every_segment(kind, tmp_path):
    """All times lie on frames of 20 a second and on milliseconds, so no format may move them."""
    entry = KINDS[kind]
    target = tmp_path / ("out" if entry.many or kind in PER_VIDEO else f"out{entry.suffixes[0]}")
    options = FormatOptions(fps=20.0)
    done = write_kind(ROUND, kind, target, options)
    assert not [line for line in done.lost if "segments" in line], done.lost
    found = read_any(target, kind, options)
    for name in ROUND.videos:
        want = [(a, b, label if kind != "epic-kitchens" else label.strip()) for a, b, label in rows(ROUND, name)]
        assert sorted(rows(found, name)) == sorted(want)


@pytest.mark.parametrize("kind", ["charades", "epic-kitchens", "activitynet", "segments", "cvat"])
def test_dots_in_a_name_belong_to_it(kind, tmp_path):
    """``cam.2024-01-05`` is a name, not a file with a suffix."""
    video = VideoAnnotation("cam.2024-01-05", 9.0, None, np.array([[1.0, 2.5]]), ("sit",), path="cam.2024-01-05")
    target = tmp_path / f"out{KINDS[kind].suffixes[0]}"
    done = write_kind(AnnotationSet("hand", {video.name: video}, ("sit",)), kind, target, FormatOptions(fps=20.0))
    assert not [line for line in done.lost if "video" in line and "length" not in line]
    assert list(read_any(target, kind, FormatOptions(fps=20.0)).videos) == [video.name]


def test_what_a_format_cannot_hold_is_said(tmp_path):
    full = AnnotationSet(
        "hand",
        {"a": VideoAnnotation("a", 20.0, "validation", np.array([[1.0, 2.51234]]), ("run fast",), scores=(0.75,), path="a.mp4"),
         "b": VideoAnnotation("b", 10.0, "validation", np.zeros((0, 2)), (), path="b.mp4")},
        ("run fast", "sit"),
    )  # fmt: skip
    exact = AnnotationSet(
        "hand", {"a": VideoAnnotation("a", 13.036, None, np.array([[1.0, 2.5]]), ("sit",), path="a.mp4")}, ("sit",)
    )
    assert write_kind(exact, "charades", tmp_path / "short.csv", FormatOptions()).lost == [
        "the length of 1 video is rounded, by up to 0.004 s"
    ]
    assert write_kind(full, "segments", tmp_path / "a.csv", FormatOptions()).lost == [
        "1 declared classes without an example"
    ]
    lost = write_kind(full, "elan", tmp_path / "eaf", FormatOptions()).lost
    assert lost == [
        "1 scores",
        "the length of 2 videos",
        "the subset of 2 videos",
        "the times of 1 of 1 segment are rounded, by up to 0.00034 s",
    ]
    lost = write_kind(full, "thumos", tmp_path / "thumos", FormatOptions()).lost
    assert lost[0] == "1 video in which nothing happens"
    lost = write_kind(full, "mstcn", tmp_path / "mstcn", FormatOptions(fps=10)).lost
    assert "the spelling of 1 labels, such as 'run fast'" in lost
    assert losses(ROUND, ROUND) == []
    overlapping = write_kind(ROUND, "mstcn", tmp_path / "two", FormatOptions(fps=10)).lost
    assert "1 of 4 segments (merged with others of their label, overlapping, or not expressible)" in overlapping


def test_predictions_for_label_studio_carry_scores_and_a_configuration(tmp_path):
    scored = AnnotationSet(
        "p", {"a": VideoAnnotation("a", 20.0, None, np.array([[1.0, 2.0]]), ("run",), scores=(0.5,), path="a.mp4")}
    )
    write_kind(scored, "label-studio", tmp_path / "p.json", FormatOptions(fps=25.0))
    (task,) = json.loads((tmp_path / "p.json").read_text(encoding="utf-8"))
    (region,) = task["predictions"][0]["result"]
    assert task["data"] == {"video": "a.mp4", "fps": 25.0}
    assert region["value"] == {"ranges": [{"start": 26, "end": 50}], "timelinelabels": ["run"]}
    assert (region["score"], region["from_name"], region["to_name"], region["type"]) == (
        0.5,
        "videoLabels",
        "video",
        "timelinelabels",
    )
    assert 'frameRate="$fps"' in (tmp_path / "p_config.xml").read_text(encoding="utf-8")
    config = write(
        tmp_path / "mine" / "c.xml",
        '<View><Video name="v" value="$film" frameRate="30"/><TimelineLabels name="t" toName="v"><Label value="runs"/></TimelineLabels></View>',
    )
    with pytest.raises(DataError, match=r"no label 'run'; did you mean 'runs'\?"):
        write_kind(scored, "label-studio", tmp_path / "q.json", FormatOptions(config=config))


# ---- tools' own ways


def test_via_attributes_choices_and_backwards_segments(tmp_path):
    project = {
        "project": {"pid": "__VIA_PROJECT_ID__", "vid_list": ["1"]},
        "config": {},
        "attribute": {
            "1": {"aname": "action", "anchor_id": "FILE1_Z2_XY0", "type": 4, "options": {"0": "run", "1": "sit"}},
            "2": {"aname": "place", "anchor_id": "FILE1_Z0_XY0", "type": 2, "options": {"0": "in", "1": "out"}},
        },
        "file": {"1": {"fid": 1, "fname": "my video.mp4", "type": 4, "loc": 1, "src": ""}},
        "view": {"1": {"fid_list": [1]}},
        "metadata": {
            "1_a": {"vid": 1, "flg": 0, "z": [1.5, 3.25], "xy": [], "av": {"1": "1"}},
            "1_b": {"vid": "1", "flg": 0, "z": [9, 8], "xy": [], "av": {"1": "free text"}},
            "1_c": {"vid": "1", "flg": 0, "z": [2.0], "xy": [2, 1, 1, 5, 5], "av": {}},
            "1_d": {"vid": "1", "flg": 0, "z": [], "xy": [], "av": {"2": "0,1"}},
        },
    }
    found = read_any(write(tmp_path / "p.json", project))
    assert rows(found, "my video") == [(1.5, 3.25, "sit"), (8.0, 9.0, "free text")]
    assert found.videos["my video"].whole == ("in", "out")
    project["attribute"]["3"] = {"aname": "who", "anchor_id": "FILE1_Z2_XY0", "type": 1, "options": {}}
    path = write(tmp_path / "q.json", project)
    with pytest.raises(DataError, match=r"several attributes \(action, who\)"):
        read_any(path)
    assert len(rows(read_any(path, options=FormatOptions(layer="action")), "my video")) == 2
    with pytest.raises(DataError, match="did you mean 'action'"):
        read_any(path, options=FormatOptions(layer="acton"))


ELAN = """<?xml version="1.0" encoding="UTF-8"?>
<ANNOTATION_DOCUMENT FORMAT="3.0" VERSION="3.0"><HEADER MEDIA_FILE="" TIME_UNITS="milliseconds">
<MEDIA_DESCRIPTOR MEDIA_URL="file:///C:/Users/me/sound.wav" MIME_TYPE="audio/x-wav"/>
<MEDIA_DESCRIPTOR MEDIA_URL="file:///C:/my%20videos/a%20b.mp4" MIME_TYPE="video/mp4" TIME_ORIGIN="500"/></HEADER>
<TIME_ORDER><TIME_SLOT TIME_SLOT_ID="t1" TIME_VALUE="1000"/><TIME_SLOT TIME_SLOT_ID="t2"/><TIME_SLOT TIME_SLOT_ID="t3" TIME_VALUE="3000"/></TIME_ORDER>
<TIER TIER_ID="actions" LINGUISTIC_TYPE_REF="x">
<ANNOTATION><ALIGNABLE_ANNOTATION ANNOTATION_ID="a1" TIME_SLOT_REF1="t1" TIME_SLOT_REF2="t2" CVE_REF="c1"><ANNOTATION_VALUE>old</ANNOTATION_VALUE></ALIGNABLE_ANNOTATION></ANNOTATION>
<ANNOTATION><ALIGNABLE_ANNOTATION ANNOTATION_ID="a2" TIME_SLOT_REF1="t2" TIME_SLOT_REF2="t3"><ANNOTATION_VALUE> sit </ANNOTATION_VALUE></ALIGNABLE_ANNOTATION></ANNOTATION></TIER>
<TIER TIER_ID="wave" LINGUISTIC_TYPE_REF="y"><ANNOTATION><ALIGNABLE_ANNOTATION ANNOTATION_ID="a3" TIME_SLOT_REF1="t1" TIME_SLOT_REF2="t3"><ANNOTATION_VALUE/></ALIGNABLE_ANNOTATION></ANNOTATION></TIER>
<TIER TIER_ID="parts" PARENT_REF="actions" LINGUISTIC_TYPE_REF="y">
<ANNOTATION><REF_ANNOTATION ANNOTATION_ID="r1" ANNOTATION_REF="a1"><ANNOTATION_VALUE>p</ANNOTATION_VALUE></REF_ANNOTATION></ANNOTATION>
<ANNOTATION><REF_ANNOTATION ANNOTATION_ID="r2" ANNOTATION_REF="a1" PREVIOUS_ANNOTATION="r1"><ANNOTATION_VALUE>q</ANNOTATION_VALUE></REF_ANNOTATION></ANNOTATION></TIER>
<LINGUISTIC_TYPE LINGUISTIC_TYPE_ID="x" CONTROLLED_VOCABULARY_REF="v"/><LINGUISTIC_TYPE LINGUISTIC_TYPE_ID="y"/>
<CONTROLLED_VOCABULARY CV_ID="v"><CV_ENTRY_ML CVE_ID="c1"><CVE_VALUE>run</CVE_VALUE></CV_ENTRY_ML><CV_ENTRY_ML CVE_ID="c2"><CVE_VALUE>sit</CVE_VALUE></CV_ENTRY_ML></CONTROLLED_VOCABULARY>
</ANNOTATION_DOCUMENT>"""


def test_elan_origin_free_slots_vocabulary_and_dependent_tiers(tmp_path):
    path = write(tmp_path / "x.eaf", ELAN)
    found = read_any(path)
    # the free slot lies half way, 500 ms of the video come before the document's zero; nobody wrote into the tier "wave"
    assert rows(found, "a b") == [(1.5, 2.5, "run"), (1.5, 3.5, "wave"), (2.5, 3.5, "sit")]
    assert found.vocabulary == ("run", "sit")
    parts = read_any(path, options=FormatOptions(layer="parts"))
    assert rows(parts, "a b") == [(1.5, 2.0, "p"), (2.0, 2.5, "q")]
    with pytest.raises(DataError, match="no tier 'action'; did you mean 'actions'"):
        read_any(path, options=FormatOptions(layer="action"))


def test_label_studio_annotators_choices_and_nested_labels(tmp_path):
    def choice(*names):
        return {"type": "choices", "from_name": "c", "to_name": "v", "value": {"choices": list(names)}}

    taxonomy = {"type": "taxonomy", "from_name": "c", "to_name": "v", "value": {"taxonomy": [["Sport", "Run"]]}}
    tasks = [
        {"id": 1, "data": {"video": "/data/local-files/?d=set%20one/a.mp4"},
         "annotations": [{"was_cancelled": True, "result": [choice("no")]}, {"result": [choice("x")]}, {"result": [choice("A", "B")], "ground_truth": True}]},
        {"id": 2, "data": {"video": "s3://bucket/set/b.mp4"}, "annotations": [{"result": [taxonomy]}]},
        {"id": 3, "data": {"video": "c.mp4"}, "annotations": [{"result": []}]},
        {"id": 4, "data": {"video": "d.mp4"}, "annotations": [{"was_cancelled": True, "result": [choice("no")]}]},
    ]  # fmt: skip
    found = read_any(write(tmp_path / "e.json", tasks))
    assert {name: v.whole for name, v in found.videos.items()} == {"a": ("A", "B"), "b": ("Sport/Run",), "c": ()}
    assert any("1 tasks with several annotations" in note for note in found.notes)
    small = [{"video": "a.mp4", "id": 1, "class": "A", "annotator": 1, "annotation_id": 2, "lead_time": 1.0, "created_at": "x"},
             {"video": "b.mp4", "id": 2, "class": {"choices": ["A", "B"]}, "annotator": 1, "annotation_id": 3, "lead_time": 1.0}]  # fmt: skip
    found = read_any(write(tmp_path / "m.json", small))
    assert {name: v.whole for name, v in found.videos.items()} == {"a": ("A",), "b": ("A", "B")}


def test_a_label_beyond_all_numbers_is_refused(tmp_path):
    path = write(tmp_path / "list.txt", "a.mp4 0\nb.mp4 999999999999\n")
    with pytest.raises(DataError, match="line 2: the label 999999999999 is too large; classes are counted from 0"):
        read_list(path)


def test_label_studio_tables(tmp_path):
    regions = '[{""ranges"":[{""start"":1,""end"":25}],""timelinelabels"":[""run""]}]'
    text = f'annotation_id,annotator,created_at,id,lead_time,updated_at,video,videoLabels\n5,1,x,9,1.5,x,/data/upload/1/0a1b2c3d-a.mp4,"{regions}"\n'
    assert rows(read_any(write(tmp_path / "e.csv", text), options=FormatOptions(fps=25)), "a") == [(0.0, 1.0, "run")]


def test_newer_tables_of_boris(tmp_path):
    head = "Observation id,Observation date,Observation type,Source,Media duration (s),FPS (frame/s),Subject,Behavior,Behavior type,Start (s),Stop (s),Duration (s),Media file name"
    body = "o,2024-01-01,Media file,player #1:a.mp4,20.5,25,No focal subject,s,STATE,1.000,2.500,1.5,d/a.mp4\no,2024-01-01,Media file,player #1:a.mp4,20.5,25,x,p,POINT,3,3,NA,d/a.mp4\n"
    found = read_any(write(tmp_path / "a.csv", f"{head}\n{body}"), options=LENIENT)
    assert (rows(found, "a"), found.videos["a"].duration_s) == ([(1.0, 2.5, "s")], 20.5)


def test_clips_of_kinetics_under_their_ids(tmp_path):
    text = "label,youtube_id,time_start,time_end,split\nabseiling,-abc,417,427,val\n"
    path = write(tmp_path / "val.csv", text)
    write(tmp_path / "v" / "abseiling" / "-abc.mp4", "")
    assert read_list(path, root=tmp_path / "v").path(0) == str(tmp_path / "v" / "abseiling" / "-abc.mp4")


def test_boris_alternates_and_splits_files(tmp_path):
    events = [
        [1.0, "", "s", "", ""],
        ["2.5", "", "s", "", ""],
        [4.0, "x", "s", "", "", 100],
        [8.0, "", "p", "", ""],
        [15.0, "x", "s", "", ""],
        [18.0, "", "s", "", ""],
    ]
    project = {
        "behaviors_conf": {"0": {"code": "s", "type": "State event with coding map"}, "1": {"code": "p", "type": "Point event"}},
        "observations": {"o": {"type": "MEDIA", "file": {"1": ["d/a.mp4", "d/b.mp4"], "2": []}, "events": events,
                               "media_info": {"length": {"d/a.mp4": 10.0, "d/b.mp4": 20.0}}}},
    }  # fmt: skip
    path = write(tmp_path / "p.boris", project)
    with pytest.raises(DataError, match="state events without an end"):
        read_any(path)
    found = read_any(path, options=LENIENT)
    assert rows(found, "a") == [(1.0, 2.5, "s"), (4.0, 10.0, "s")]
    assert rows(found, "b") == [(0.0, 5.0, "s")]


def test_cvat_zip_projects_attributes_and_skeletons(tmp_path):
    xml = """<annotations><meta><project><tasks>
      <task><id>7</id><name>one</name><size>10</size><source>a.mp4</source></task><task><id>8</id><name>two</name><size>10</size><source>b.mp4</source></task>
      </tasks></project></meta>
      <track id="0" label="person" task_id="7"><box frame="0" outside="0"><attribute name="action">run</attribute></box>
      <box frame="4" outside="0"><attribute name="action">sit</attribute></box><box frame="6" outside="1"><attribute name="action">sit</attribute></box></track>
      <track id="1" label="bones" task_id="8"><skeleton frame="2" keyframe="1"><points label="1" outside="0" points="1,1"/></skeleton>
      <skeleton frame="5" keyframe="1"><points label="1" outside="1" points="1,1"/></skeleton></track></annotations>"""
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as archive:
        archive.writestr("annotations.xml", xml)
    found = read_any(tmp_path / "a.zip", options=FormatOptions(fps=10))
    assert (rows(found, "a"), rows(found, "b")) == ([(0.0, 0.6, "person")], [(0.2, 0.5, "bones")])
    actions = read_any(tmp_path / "a.zip", options=FormatOptions(fps=10, layer="action"))
    assert rows(actions, "a") == [(0.0, 0.4, "run"), (0.4, 0.6, "sit")]


def test_charades_quotes_negatives_and_late_ends(tmp_path):
    write(tmp_path / "Charades_v1_classes.txt", "c000 Holding some clothes\nc092 Watching TV\n")
    head = "id,subject,scene,quality,relevance,verified,script,objects,descriptions,actions,length\n"
    text = (
        head
        + 'AB12C,X,"Room, small",6,7,Yes,"He said ""no"", then left","a;b","x;y",c092 11.90 21.20;c000 0.00 40.00;c000 5.0 5.0,30.58\n'
    )
    text += "ZZ99Z,X,R,6,7,Yes,s,o,d,,12.00\n"
    found = read_any(write(tmp_path / "Charades_v1_train.csv", text))
    assert rows(found, "AB12C") == [(0.0, 30.58, "Holding some clothes"), (11.9, 21.2, "Watching TV")]
    assert (found.videos["ZZ99Z"].labels, found.videos["ZZ99Z"].duration_s, found.videos["ZZ99Z"].subset) == (
        (),
        12.0,
        "training",
    )


def test_tables_with_other_names_separators_and_marks(tmp_path):
    text = "\ufeffVideo_ID;Class;Start_Time;Stop;Score\r\n'-abc;run, fast;0:01.5;00:00:03;0.5\r\n-abc;;;;\r\n\r\nq;sit;;;\r\n"
    found = read_any(write(tmp_path / "a.csv", text))
    assert rows(found, "-abc") == [(1.5, 3.0, "run, fast")]
    assert (found.videos["-abc"].scores, found.videos["q"].whole) == ((0.5,), ("sit",))
    hacs = "classname,youtube_id,subset,start,end,label\nrun,abc,training,1.0,3.0,1\nrun,abc,training,5.0,7.0,-1\n"
    found = read_any(write(tmp_path / "hacs.csv", hacs))
    assert (rows(found, "abc"), found.videos["abc"].subset) == ([(1.0, 3.0, "run")], "training")


# ---- broken files

LS = [
    {
        "data": {"video": "a.mp4"},
        "annotations": [
            {
                "result": [
                    {"type": "timelinelabels", "value": {"ranges": [{"start": 5, "end": 2}], "timelinelabels": ["x"]}}
                ]
            }
        ],
    }
]


def variant(**value):
    return [{"data": {"video": "a.mp4"}, "annotations": [{"result": [{"type": "timelinelabels", "value": value}]}]}]


@pytest.mark.parametrize(
    ("name", "content", "said"),
    [
        ("a.xml", '<!DOCTYPE a [<!ENTITY x "y"><!ENTITY z "&x;&x;">]><annotations>&z;</annotations>', "declares the entity 'x'"),
        ("a.xml", '<!DOCTYPE a [<!ENTITY x SYSTEM "file:///etc/passwd">]><annotations>&x;</annotations>', "declares the entity 'x'"),
        ("a.eaf", "<ANNOTATION_DOCUMENT><TIER></ANNOTATION_DOCUMENT>", r"a\.eaf, line 1: not valid XML \(mismatched tag\)"),
        ("a.xml", "<annotations>" * 200 + "</annotations>" * 200, "more than 100 elements deep"),
        ("a.xml", "<View><Video name='v' value='$v'/></View>", "a labeling configuration of Label Studio"),
        ("a.xml", "<mpeg7/>", "root <mpeg7> is not known"),
        ("a.xml", "", r"not valid XML \(no element found\)"),
        ("a.json", "{", "line 1: not valid JSON"),
        ("a.json", {"_via_img_metadata": {}}, "VIA 1 or 2"),
        ("a.json", {"shapes": [], "imagePath": "x.jpg"}, "side-car of an image"),
        ("a.json", LS, "frames 5 to 2: segments that end before they start"),
        ("a.json", variant(ranges=[{"start": 0, "end": 2}], timelinelabels=["x"]), "frame 0, but frames count from 1"),
        ("a.json", variant(ranges=[{"start": 1, "end": 10**12}], timelinelabels=["x"]), "more than a video can have"),
        ("a.json", variant(ranges=[{"start": 1.5, "end": 3}], timelinelabels=["x"]), "1.5 is not a frame number"),
        ("a.json", variant(ranges={"start": 1}, timelinelabels=["x"]), "'ranges' must be a list"),
        ("a.json", variant(ranges=[{"start": 1, "end": 3}], timelinelabels=[{}]), "is not a label"),
        ("a.json", variant(timelinelabels=["x"]), "no 'ranges'"),
        ("a.csv", "video,label,start,end\na.mp4,x,3,1\n", "from 3 to 1 s: segments that end before they start"),
        ("a.csv", "video,label,start,end\na.mp4,x,-3,1\n", "starts at -3 s, before the video"),
        ("a.csv", "video,label,start,end\na.mp4,x,1,nan\n", "'nan' is not a number"),
        ("a.csv", "video,label,start,end\na.mp4,x,1,1e12\n", "longer than a video can be"),
        ("a.csv", "video,label,start,end\na.mp4,x,1\n", "line 2: 3 columns, but the header has 4"),
        ("a.csv", "video,label,start,end\n,x,1,2\n", "is not the name of a video"),
        ("a.csv", "video,label,start,end\na.mp4,,1,2\n", "segments without a label"),
        ("a.csv", "video,label,start_frame,end_frame\na.mp4,x,0,2\n", "segments are given in frames"),
        ("Run_val.txt", "video_validation_0000001  1.0 2.0\nvideo_validation_0000001 2.0\n", "line 2: expected `video start end`"),
        ("a.json", {"classes": ["x"], "labels": {"a": [{"label": 0}]}}, "'support' .* or 'timestamps' .* is needed"),
        ("a.json", {"classes": ["x"], "labels": {"a": [{"label": 3, "timestamps": [0, 1]}]}}, "label 3 is out of range; there are 1 class"),
        ("a.json", {"database": {"a": {"annotations": [{"segment": ["5", "1"], "label": "x"}]}}}, "from 5 to 1 s"),
        ("a.json", {"database": {"a": {"annotations": [{"segment": [1], "label": "x"}]}}}, r"\[1\] is not \[start, end\]"),
    ],
    ids=lambda value: None if isinstance(value, (dict, list)) else value[:40],
)  # fmt: skip
def test_broken_files_are_refused_in_a_sentence(tmp_path, name, content, said):
    path = write(tmp_path / name, content)
    kind = "thumos" if name.endswith(".txt") else "auto"
    with pytest.raises(DataError, match=said) as error:
        read_any(path, kind, FormatOptions(fps=None if "frame" in str(content)[:40] else 25))
    assert str(tmp_path) in str(error.value)


def test_lenient_reading_leaves_out_and_counts(tmp_path):
    table = "video,label,start,end\na.mp4,x,3,1\na.mp4,x,2,2\na.mp4,,1,2\na.mp4,x,-0.5,2\na.mp4,x,-5,2\na.mp4,x,1,2\n"
    found = read_any(write(tmp_path / "a.csv", table), options=FormatOptions(strict=False))
    assert rows(found, "a") == [(0.0, 2.0, "x"), (1.0, 2.0, "x")]
    assert [note.split(": ", 1)[1].split(", the first")[0] for note in found.notes] == [
        "1 segments that end before they start, left out",
        "1 segments of no length, left out",
        "1 segments without a label, left out",
        "1 segments that begin before the video, cut at 0",
        "1 segments that begin before the video, left out",
    ]


def test_labels_outside_the_classes_and_harmless_spellings(tmp_path):
    path = write(tmp_path / "a.csv", "video,label,start,end\na.mp4,High_Jump,1,2\n")
    assert read_any(path, options=FormatOptions(classes=["high jump", "run"])).videos["a"].labels == ("high jump",)
    with pytest.raises(
        DataError, match="the label 'High_Jump' is not among the 1 known class; did you mean 'High Jumps'"
    ):
        read_any(path, options=FormatOptions(classes=["High Jumps"]))


def test_a_frame_beyond_the_end_is_cut_or_refused(tmp_path):
    content = {"samples": [{"filepath": "/nowhere/a.mp4", "metadata": {"frame_rate": 10.0, "total_frame_count": 50, "duration": 5.0}, "tags": ["validation"],
               "found": {"_cls": "TemporalDetections", "detections": [{"label": "x", "support": [41, 55]}, {"label": "x", "support": [1, 500]}]}}]}  # fmt: skip
    path = write(tmp_path / "samples.json", content)
    with pytest.raises(DataError, match="ends with frame 499, the video has 50 frames"):
        read_any(path)
    found = read_any(path, options=FormatOptions(strict=False))
    assert rows(found, "a") == [(0.0, 5.0, "x"), (4.0, 5.0, "x")]
    assert found.videos["a"].subset == "validation"


def test_names_of_formats():
    assert kind_name("Label_Studio") == "label-studio"
    assert kind_name("csv") == "segments"
    assert kind_name("xanylabeling") == "x-anylabeling"
    with pytest.raises(DataError, match="did you mean 'elan'"):
        kind_name("elam")
    with pytest.raises(DataError, match="is read, but not written"):
        kind_name("ucf101", writing=True)


def test_names_of_videos():
    assert plain_path("/data/upload/12/0a1b2c3d-my%20clip.mp4") == "my clip.mp4"
    assert plain_path("file:///C:/videos/a%20b.mp4") == "C:/videos/a b.mp4"
    assert plain_path(r"C:\videos\a.mp4") == "C:/videos/a.mp4"
    assert video_name("https://host/x/v_abc.mp4?token=1") == "abc"
    assert video_name("some.name.without.suffix") == "some.name.without.suffix"


def test_two_files_of_one_name_are_told_apart_by_their_folders(tmp_path):
    for folder in ("one", "two"):
        write(tmp_path / folder / "a.mp4", "")
    finder = VideoFinder(tmp_path)
    assert finder.find("two/a.mp4") == tmp_path / "two" / "a.mp4"
    with pytest.raises(DataError, match="could be"):
        finder.find("elsewhere/a.mp4")
    found = read_any(write(tmp_path / "t.csv", "video,label,start,end\none/a.mp4,x,1,2\ntwo/a.mp4,x,3,4\n"))
    assert list(found.videos) == ["one/a", "two/a"]


# ---- as lists to train on


def test_every_format_is_a_list_to_train_on(tmp_path):
    """Segments become clips with times; the classes are the declared ones."""
    for name in ("a", "b"):
        write(tmp_path / "videos" / f"{name}.mp4", "")
    for kind, entry in KINDS.items():
        if entry.writer is None or kind == "kinetics-json":
            continue
        target = tmp_path / kind / ("out" if entry.many or kind in PER_VIDEO else f"out{entry.suffixes[0]}")
        write_kind(ROUND, kind, target, FormatOptions(fps=20.0))
        format = kind if kind in ("cvat-tracks", "activitynet-results") else "auto"
        videos = read_list(target, root=tmp_path / "videos", fps=20.0, format=format)
        spans = sorted(
            (videos.entry(i).removesuffix(".mp4").removesuffix(videos.suffix), videos.span(i))
            for i in range(len(videos))
        )
        if kind != "mstcn":  # where one of the two that overlap is lost
            assert spans == [("a", (1.0, 2.5)), ("a", (2.0, 4.0)), ("a", (6.25, 7.5)), ("b", (0.5, 1.0))], kind
        assert [c.replace("_", " ").strip() for c in videos.classes] == ["run fast", "sit"], kind
        assert videos.path(0) == str(tmp_path / "videos" / "a.mp4"), kind


def test_lists_of_whole_videos_and_published_splits(tmp_path):
    write(tmp_path / "classInd.txt", "1 ApplyEyeMakeup\r\n2 Archery\r\n")
    train = write(tmp_path / "trainlist01.txt", "ApplyEyeMakeup/v_A_g08_c01.avi 1\r\nArchery/v_B_g08_c01.avi 2\r\n")
    write(tmp_path / "testlist01.txt", "Archery/v_B_g01_c01.avi\r\n")
    videos = read_list(train)
    assert (videos.classes, videos.labels.tolist()) == (["ApplyEyeMakeup", "Archery"], [0, 1])
    assert read_list(tmp_path / "testlist01.txt").labels.tolist() == [1]
    from clipwise.data.lists import find_splits

    assert find_splits(train).val == tmp_path / "testlist01.txt"
    hmdb = tmp_path / "hmdb"
    for name in ("eat", "run"):
        write(hmdb / f"{name}_test_split1.txt", f"[x]!_{name}_0.avi 1 \n{name}_1.avi 2 \n{name}_2.avi 0 \n")
        write(hmdb / f"{name}_test_split2.txt", f"{name}_9.avi 1 \n")
    write(tmp_path / "files" / "eat" / "[x]!_eat_0.avi", "")
    videos = read_list(hmdb, root=tmp_path / "files", subset="train")
    assert [videos.entry(i) for i in range(len(videos))] == ["eat/[x]!_eat_0.avi", "run/[x]!_run_0.avi"]
    assert len(read_list(hmdb, subset="test")) == 2
    write(
        tmp_path / "d48" / "Diving48_vocab.json",
        [["Back", "15som", "05Twis", "FREE"], ["Back", "15som", "15Twis", "FREE"]],
    )
    diving = write(
        tmp_path / "d48" / "Diving48_V2_train.json",
        [
            {"vid_name": "x1", "label": 1, "start_frame": 0, "end_frame": 9},
            {"vid_name": "x2", "label": 0, "start_frame": 0, "end_frame": 9},
        ],
    )
    assert read_list(diving).classes == ["Back+15som+05Twis+FREE", "Back+15som+15Twis+FREE"]
    assert read_list(diving).labels.tolist() == [1, 0]


def test_several_labels_of_one_span(tmp_path):
    table = write(tmp_path / "a.csv", "video,label,start,end\na.mp4,x,1,2\na.mp4,y,1,2\na.mp4,y,5,6\n")
    videos = read_list(table, multi_label=True)
    assert videos.labels.tolist() == [[1.0, 1.0], [0.0, 1.0]]
    assert read_list(table).labels.tolist() == [0, 1, 1]


def test_segments_win_over_labels_of_whole_videos(tmp_path):
    table = write(tmp_path / "a.csv", "video,label,start,end\na.mp4,x,1,2\na.mp4,y,,\nb.mp4,x,,\n")
    with pytest.warns(ClipwiseWarning, match="the segments are taken"):
        assert read_list(table).labels.tolist() == [0]


def test_a_missing_video_stays_in_the_list_for_the_audit(tmp_path):
    table = write(tmp_path / "a.csv", "video,label,start,end\nset/a.mp4,x,1,2\nset/b.mp4,y,1,2\n")
    write(tmp_path / "elsewhere" / "b.mp4", "")
    videos = read_list(table, root=tmp_path / "elsewhere")
    assert videos.missing().tolist() == [0]
    assert videos.entry(1) == "b.mp4"


# ---- for localization


def test_a_localizer_reads_annotations_of_a_tool(make_sequences, tmp_path):
    """Lengths come from a table, subsets too; the run is planned as with ActivityNet's file."""
    from clipwise.engine.device import make_accelerator
    from clipwise.engine.localization import LocalizationTask
    from clipwise.engine.log import RunLog
    from clipwise.recipe import load_recipe

    data = make_sequences(tmp_path)
    given = read_annotations(data / "annotations.json")
    (data / "annotations.json").unlink()
    write_kind(given, "via", data / "project.json", FormatOptions())
    table = "video,subset,duration\n" + "".join(f"{n},{v.subset},{v.duration_s}\n" for n, v in given.videos.items())
    write(data / "video_info.csv", table)
    task = LocalizationTask(load_recipe("bmn_tiny", []), make_accelerator(), RunLog(None, quiet=True), data=str(data))
    assert task.train_videos.ground_truth() == given.subset("training").ground_truth()
    assert task.val_videos.ground_truth() == given.subset("validation").ground_truth()
    assert task.train_videos.fingerprint() == given.subset("training").fingerprint()
    (data / "video_info.csv").unlink()
    with pytest.raises(DataError, match=r"the length of 6 of 6 videos is not known.*input\.videos"):
        LocalizationTask(load_recipe("bmn_tiny", []), make_accelerator(), RunLog(None, quiet=True), data=str(data))


# ---- the command line


def test_convert_and_report(tmp_path, capsys):
    table = write(tmp_path / "a.csv", "video,label,start,end,score\na.mp4,run,1.0,2.0,0.5\n")
    assert main(["prepare", "annotations", str(table), str(tmp_path / "a.eaf"), "--to", "elan"]) == 0
    said = capsys.readouterr().out
    assert said == f"1 video, 1 segment as elan: {tmp_path / 'a.eaf'}\nlost: 1 scores\n"
    assert (
        main(["prepare", "annotations", str(tmp_path / "a.eaf"), str(tmp_path / "b.json"), "--to", "label-studio"]) == 2
    )
    assert "Give the frame rate (--fps" in capsys.readouterr().err
    words = [
        "prepare",
        "annotations",
        str(tmp_path / "a.eaf"),
        str(tmp_path / "b.json"),
        "--to",
        "label-studio",
        "--to-fps",
        "25",
        "--json",
    ]
    assert main(words) == 0
    told = json.loads(capsys.readouterr().out)
    assert (told["format"], told["segments"], told["lost"]) == ("label-studio", 1, [])
    assert main(["prepare", "annotations", str(table), str(tmp_path / "x"), "--to", "elann"]) == 2
    assert "did you mean 'elan'" in capsys.readouterr().err


def test_predictions_as_pre_annotations(trained, clips, tmp_path, capsys):
    video = next((clips / "val").rglob("*.mp4"))
    target = tmp_path / "found.eaf"
    assert main(["predict", str(trained), str(video), "--annotations", str(target)]) == 0
    told = capsys.readouterr()
    assert f"1 video, 0 segments, 1 label of whole videos as elan: {target}" in told.err
    found = read_any(target)
    assert len(found.videos[video.stem].segments) == 1
    assert (
        main(
            [
                "localize",
                str(trained),
                str(video),
                "--threshold",
                "0.05",
                "--annotations",
                str(tmp_path / "p.json"),
                "--format",
                "label-studio",
            ]
        )
        == 0
    )
    (task,) = json.loads((tmp_path / "p.json").read_text(encoding="utf-8"))
    assert task["data"]["video"] == str(video)
    assert task["predictions"][0]["result"][0]["value"]["timelinelabels"]
    assert main(["predict", str(trained), str(video), "--annotations", str(tmp_path / "p.json")]) == 2
    assert "say which format with --format" in capsys.readouterr().err
    assert main(["predict", str(trained), str(video), "--format", "elan"]) == 2
    assert "--format has no effect without --annotations" in capsys.readouterr().err


@pytest.mark.parametrize(
    "kind", ["activitynet", "elan", "segments", "label-studio", "via", "cvat", "thumos", "boris", "vidat"]
)
def test_a_disk_that_is_full_leaves_no_half_of_a_file(kind, tmp_path, monkeypatch, capsys):
    from clipwise.cli import main

    content = {
        "database": {"v": {"duration": 9, "subset": "training", "annotations": [{"segment": [1, 2], "label": "x"}]}}
    }
    (tmp_path / "in.json").write_text(json.dumps(content))

    def full(self, data, *args, **options):
        self.open("wb").write(b"half")
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("pathlib.Path.write_bytes", full)
    monkeypatch.setattr("pathlib.Path.write_text", full)
    target = tmp_path / ("out" if kind in ("elan", "cvat", "thumos", "vidat") else "out.json")
    code = main(["prepare", "annotations", str(tmp_path / "in.json"), str(target), "--to", kind, "--fps", "25"])
    assert code == 1, capsys.readouterr().err
    assert "No space left on device" in capsys.readouterr().err
    left = [path.name for path in tmp_path.rglob("*") if path.is_file()]
    assert left == ["in.json"]
