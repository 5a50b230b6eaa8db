"""Files as other versions of the tools, other exports of theirs and people's hands write them; segments by hand."""

import io
import json
import zipfile

import pytest

import clipwise
from clipwise.errors import DataError
from helpers import read_annotations as read
from helpers import segment_rows as rows

# ---- Label Studio


def region(first, last, label):
    value = {"ranges": [{"start": first, "end": last}], "timelinelabels": [label]}
    return {"id": "r", "type": "timelinelabels", "from_name": "tl", "to_name": "video", "value": value}


def task(video="/data/upload/1/ab12cd34-a.mp4", **rest):
    return {"id": 1, "data": {"video": video}, **rest}


@pytest.mark.parametrize(
    ("video", "name"),
    [
        ("s3://bucket/dir/My%20video.mp4?x=1", "My video"),
        ("/data/local-files/?d=vids%2Fa%20b.mp4", "a b"),
        ("/data/local-files/?d=vids%5Ca%20b.mp4", "a b"),  # of a server on Windows
        ("https://host/x/a.mp4?token=1", "a"),
        ("http://localhost:8080/data/upload/1/ab12cd34-clip%2001.mp4", "clip 01"),
        ("/tasks/1/presign/?fileuri=czM6Ly9idWNrZXQvdmlkZW9zL2EubXA0", "a"),  # s3://bucket/videos/a.mp4
        ("http://host/tasks/1/resolve/?fileuri=czM6Ly9idWNrZXQvdmlkZW9zL2EubXA0", "a"),
        ("/data/upload/1/ab12cd34-clip_01", "clip_01"),
        ("<video src='/data/upload/3/0123abcd-a.mp4' width=\"100%\"></video>", "a"),
    ],
)
def test_label_studios_places_of_videos(video, name, tmp_path):
    content = [task(video, annotations=[{"id": 3, "result": [region(1, 24, "A")]}])]
    assert rows(read(tmp_path, "a.json", content, fps=24)) == [(name, 0, 1, "A")]


@pytest.mark.parametrize(
    ("rest", "expected"),
    [
        ({"annotations": [{"result": [region(1, 25, "A")]}, {"result": [region(1, 50, "B")]}]}, [(0, 1, "A")]),
        ({"annotations": [{"result": [region(1, 25, "A")]}, {"ground_truth": True, "result": [region(1, 50, "B")]}]}, [(0, 2, "B")]),
        ({"predictions": [{"model_version": "m", "result": [region(1, 50, "C")]}]}, [(0, 2, "C")]),
        ({"annotations": [{"result": [region(1, 25, "A")]}], "predictions": [12]}, [(0, 1, "A")]),  # ids only
        ({"annotations": [], "drafts": [], "predictions": []}, []),
        ({"annotations": [{"result": [region(1, 25, "A")], "last_action": "rejected"}, {"result": [region(1, 50, "B")]}]}, [(0, 2, "B")]),
        ({"annotations": [{"result": [region(1, 25, "A")], "reviews": [{"accepted": False}]}, {"result": [region(1, 50, "B")]}]}, [(0, 2, "B")]),
        ({"completions": [{"result": [region(26, 50, "A")]}]}, [(1, 2, "A")]),  # before 1.0
    ],
)  # fmt: skip
def test_label_studios_annotators_and_predictions(rest, expected, tmp_path):
    assert rows(read(tmp_path, "a.json", [task(**rest)], fps=25)) == [("a", *row) for row in expected]


def test_label_studios_cancelled_annotations_do_not_count(tmp_path):
    cancelled = task(
        annotations=[{"was_cancelled": True, "result": [region(1, 25, "A")]}],
        predictions=[{"result": [region(1, 9, "C")]}],
    )
    with pytest.raises(DataError, match=r"there is no video in it.*1 cancelled annotations, left out"):
        read(tmp_path, "a.json", [cancelled], fps=25)


def test_label_studios_target_storage_has_a_file_an_annotation(tmp_path):
    one = {"id": 5, "result": [region(1, 30, "A")], "task": task("a.mp4"), "was_cancelled": False}
    assert rows(read(tmp_path, "5.json", one, fps=30)) == [("a", 0, 1, "A")]
    assert rows(read(tmp_path, "6.json", [one, {**one, "was_cancelled": True}], fps=30)) == [("a", 0, 1, "A")]


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("c.csv", 'annotation_id,annotator,id,lead_time,video,videoLabels\n1,1,1,1.5,a.mp4,"[{""ranges"": [{""start"": 1, ""end"": 10}], ""timelinelabels"": [""A""]}]"\n'),
        ("c.tsv", 'annotation_id\tannotator\tid\tlead_time\tvideo\tvideoLabels\n1\t1\t1\t1.5\ta.mp4\t"[{""ranges"": [{""start"": 1, ""end"": 10}], ""timelinelabels"": [""A""]}]"\n'),
        ("m.json", '[{"video": "a.mp4", "id": 1, "videoLabels": [{"ranges": [{"start": 1, "end": 10}], "timelinelabels": ["A"]}], "annotator": 1, "annotation_id": 1, "lead_time": 1}]'),
    ],
)  # fmt: skip
def test_label_studios_small_exports(name, text, tmp_path):
    assert rows(read(tmp_path, name, text, fps=10)) == [("a", 0, 1, "A")]


LABEL_CONFIG = (
    '<View><Video name="v" value="$video"/><Choices name="ch" toName="v"><Choice value="run"/></Choices></View>'
)


def test_label_studios_names_without_a_suffix_and_texts_of_the_task(tmp_path):
    odd = [{"id": 1, "data": {"clip": "abc123", "fps": 25}, "annotations": [{"result": [region(1, 25, "A")]}]}]
    assert rows(read(tmp_path, "a.json", odd)) == [("abc123", 0, 1, "A")]
    odd[0]["data"]["site"] = "north"
    with pytest.raises(DataError, match=r"no field of its data names a video \(there are clip, fps, site\)"):
        read(tmp_path, "a.json", odd)
    small = {"id": 1, "video": "a.mp4", "title": "Gym", "annotator": 1, "annotation_id": 2, "lead_time": 1.0}
    timed = [{**small, "tl": [{"ranges": [{"start": 1, "end": 25}], "timelinelabels": ["A"]}]}]
    found = read(tmp_path, "b.json", timed, fps=25)
    assert rows(found) == [("a", 0, 1, "A")]
    assert found.videos["a"].whole == ()  # "Gym" is no class
    chosen = [{**small, "ch": "run"}]
    with pytest.raises(DataError, match=r"ch, title hold texts, .* labeling configuration \(--config FILE"):
        read(tmp_path, "c.json", chosen)
    assert read(tmp_path, "c.json", chosen, layer="ch").videos["a"].whole == ("run",)
    (tmp_path / "config.xml").write_text(LABEL_CONFIG)
    assert read(tmp_path, "c.json", chosen).videos["a"].whole == ("run",)


# ---- CVAT


def cvat(body, source="a.mp4", **facts):
    facts = {"start_frame": 0, "stop_frame": 99, "frame_filter": ""} | facts
    task_facts = "".join(f"<{key}>{value}</{key}>" for key, value in facts.items())
    meta = f"<meta><task><id>7</id><name>t</name><size>100</size>{task_facts}<labels><label><name>A</name></label></labels></task>"
    return f'<?xml version="1.0"?><annotations><version>1.1</version>{meta}<source>{source}</source></meta>{body}</annotations>'


def track(*shapes, label="A", more=""):
    boxes = "".join(
        f'<box frame="{f}" outside="{o}" occluded="{c}" keyframe="{k}">{a}</box>' for f, o, c, k, a in shapes
    )
    return f'<track id="0" label="{label}" source="manual"{more}>{boxes}</track>'


def said(name):
    return f'<attribute name="action">{name}</attribute>'


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (cvat(track((10, 0, 0, 1, ""), (20, 1, 0, 1, ""), (50, 0, 1, 1, ""), (60, 1, 0, 1, ""))), [(1, 2, "A"), (5, 6, "A")]),  # occluded is visible
        (cvat(track((10, 0, 0, 1, ""))), [(1, 10, "A")]),  # to the end
        (cvat(track(*[(i, 0, 0, int(i == 10), "") for i in range(10, 20)], (20, 1, 0, 1, ""))), [(1, 2, "A")]),  # every frame listed
        (cvat(track((10, 0, 0, 1, ""), (13, 0, 0, 1, ""), (16, 1, 0, 1, "")), start_frame=10, stop_frame=40, frame_filter="step=3"), [(1, 1.6, "A")]),
        (cvat("".join(f'<image id="{i}" name="dir/frame_{i:06d}.PNG"><tag label="A"/></image>' for i in (13, 16)), start_frame=10, stop_frame=40, frame_filter="step=3"), [(1.3, 1.9, "A")]),
        (cvat('<track id="0" label="A"><polygon frame="0" outside="0" points="1,1"/><polygon frame="4" outside="1" points="1,1"/></track>'), [(0, 0.4, "A")]),
        (cvat('<track id="0" label="A"><box frame="10" outside="False"/><box frame="20" outside="True"/></track>'), [(1, 2, "A")]),
        (cvat(track((24, 0, 0, 1, ""), (30, 1, 0, 1, ""), (31, 1, 0, 0, ""), (40, 0, 0, 1, ""), (50, 1, 0, 1, ""))), [(2.4, 3, "A"), (4, 5, "A")]),
        (cvat('<track id="0" label="A"><skeleton frame="3"><points outside="0"/></skeleton><skeleton frame="9"><points outside="1"/></skeleton></track>'), [(0.3, 0.9, "A")]),
    ],
)  # fmt: skip
def test_cvats_tracks_and_tags(text, expected, tmp_path):
    assert rows(read(tmp_path, "a.xml", text, fps=10)) == [("a", *row) for row in expected]


def test_cvats_attribute_as_label_and_an_unknown_one(tmp_path):
    text = cvat(
        track((10, 0, 0, 1, said("walk")), (20, 0, 0, 1, said("run")), (30, 1, 0, 1, said("run")), label="person")
    )
    assert rows(read(tmp_path, "a.xml", text, fps=10, layer="action")) == [("a", 1, 2, "walk"), ("a", 2, 3, "run")]
    with pytest.raises(DataError, match=r"no attribute 'activity' \(layer\); it has action\."):
        read(tmp_path, "a.xml", text, fps=10, layer="activity")


def test_cvats_jobs_projects_and_zips(tmp_path):
    job = cvat(track((60, 0, 0, 1, ""), (70, 1, 0, 1, "")), start_frame=50).replace("task>", "job>")
    assert rows(read(tmp_path, "a.xml", job, fps=10)) == [("a", 6, 7, "A")]
    tasks = "".join(
        f"<task><id>{i}</id><name>t{i}</name><size>20</size><source>{name}</source><subset>{subset}</subset></task>"
        for i, name, subset in ((4, "x.mp4", "Train"), (5, "y.mp4", "Validation"))
    )
    body = track((0, 0, 0, 1, ""), (5, 1, 0, 1, ""), more=' task_id="4"') + track((5, 0, 0, 1, ""), more=' task_id="5"')
    text = f"<annotations><meta><project><id>1</id><tasks>{tasks}</tasks></project></meta>{body}</annotations>"
    found = read(tmp_path, "p.xml", text, fps=10)
    assert rows(found) == [("x", 0, 0.5, "A"), ("y", 0.5, 2, "A")]
    assert [video.subset for video in found.videos.values()] == ["Train", "Validation"]
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w") as archive:
        archive.writestr("obj.names", "x")
    with pytest.raises(DataError, match=r'Export from CVAT as "CVAT for video 1\.1"'):
        read(tmp_path, "a.zip", packed.getvalue(), fps=10)


# ---- VIA, ELAN


def test_the_json_export_of_via_2_is_refused_by_name(tmp_path):
    with pytest.raises(DataError, match="VIA 1 or 2, which annotate images"):
        read(tmp_path, "a.json", {"a.jpg12": {"filename": "a.jpg", "size": 12, "regions": [], "file_attributes": {}}})


SLOTS = {"t1": 0, "t2": 1000, "t4": 2500, "u1": None, "u2": None}
MEDIA = '<MEDIA_DESCRIPTOR MEDIA_URL="file:///C:/x/a.mp4" MIME_TYPE="video/mp4"/>'


def eaf(tiers, media=MEDIA, file="", kind="", vocabulary="", units="milliseconds"):
    slots = "".join(
        f'<TIME_SLOT TIME_SLOT_ID="{k}"' + (f' TIME_VALUE="{v}"/>' if v is not None else "/>") for k, v in SLOTS.items()
    )
    head = f'<HEADER MEDIA_FILE="{file}" TIME_UNITS="{units}">{media}</HEADER><TIME_ORDER>{slots}</TIME_ORDER>'
    kinds = f'<LINGUISTIC_TYPE LINGUISTIC_TYPE_ID="d"{kind}/>{vocabulary}'
    return f'<?xml version="1.0"?><ANNOTATION_DOCUMENT FORMAT="3.0">{head}{tiers}{kinds}</ANNOTATION_DOCUMENT>'


def tier(name, *annotations, parent=""):
    more = f' PARENT_REF="{parent}"' if parent else ""
    body = "".join(f"<ANNOTATION>{one}</ANNOTATION>" for one in annotations)
    return f'<TIER TIER_ID="{name}" LINGUISTIC_TYPE_REF="d"{more}>{body}</TIER>'


def aligned(key, first, last, text, more=""):
    times = f'TIME_SLOT_REF1="{first}" TIME_SLOT_REF2="{last}"'
    return f'<ALIGNABLE_ANNOTATION ANNOTATION_ID="{key}" {times}{more}><ANNOTATION_VALUE>{text}</ANNOTATION_VALUE></ALIGNABLE_ANNOTATION>'


def referring(key, to, text, before=""):
    more = f' PREVIOUS_ANNOTATION="{before}"' if before else ""
    return f'<REF_ANNOTATION ANNOTATION_ID="{key}" ANNOTATION_REF="{to}"{more}><ANNOTATION_VALUE>{text}</ANNOTATION_VALUE></REF_ANNOTATION>'


WHOLE = tier("A", aligned("a1", "t1", "t4", "walk"))


@pytest.mark.parametrize(
    ("text", "layer", "expected"),
    [
        (eaf(WHOLE + tier("B", aligned("b", "t1", "t2", "out"))), None, [("a", 0, 1, "out"), ("a", 0, 2.5, "walk")]),
        (eaf(WHOLE + tier("P", referring("p1", "a1", "x"), referring("p2", "a1", "y", "p1"), parent="A")), "P", [("a", 0, 1.25, "x"), ("a", 1.25, 2.5, "y")]),
        (eaf(WHOLE + tier("P", referring("p1", "a1", "x"), parent="A") + tier("Q", referring("q1", "p1", "z"), parent="P")), "Q", [("a", 0, 2.5, "z")]),
        (eaf(WHOLE + tier("S", aligned("s1", "t1", "u1", "x"), aligned("s2", "u1", "t4", "y"), parent="A")), "S", [("a", 0, 1.25, "x"), ("a", 1.25, 2.5, "y")]),
        (eaf(WHOLE, MEDIA.replace("/>", ' TIME_ORIGIN="1500"/>')), None, [("a", 1.5, 4, "walk")]),
        (eaf(WHOLE, '<MEDIA_DESCRIPTOR MEDIA_URL="file:///a.wav" MIME_TYPE="audio/x-wav"/>' + MEDIA.replace("/>", ' TIME_ORIGIN="500"/>')), None, [("a", 0.5, 3, "walk")]),
        (eaf(WHOLE, MEDIA.replace("a.mp4", "my%20video.mp4").replace("/>", ' RELATIVE_MEDIA_URL="./my%20video.mp4"/>')), None, [("my video", 0, 2.5, "walk")]),
        (eaf(WHOLE, MEDIA.replace("/>", ' TIME_ORIGIN="-0"/>') + '<LINKED_FILE_DESCRIPTOR LINK_URL="file:///x.csv" TIME_ORIGIN="700"/>'), None, [("a", 0, 2.5, "walk")]),
        (eaf(WHOLE, media="", file="file:///x/b.mpg"), None, [("b", 0, 2.5, "walk")]),  # before 2.0
        (eaf(tier("run", aligned("a1", "t1", "t4", ""))), None, [("a", 0, 2.5, "run")]),
    ],
)  # fmt: skip
def test_elans_tiers_media_and_origins(text, layer, expected, tmp_path):
    assert rows(read(tmp_path, "a.eaf", text, layer=layer)) == expected


def test_elans_vocabulary_in_several_languages_is_one(tmp_path):
    values = '<CVE_VALUE LANG_REF="und">new</CVE_VALUE><CVE_VALUE LANG_REF="deu">neu</CVE_VALUE>'
    vocabulary = (
        f'<CONTROLLED_VOCABULARY CV_ID="cv"><CV_ENTRY_ML CVE_ID="c1">{values}</CV_ENTRY_ML></CONTROLLED_VOCABULARY>'
    )
    text = eaf(
        tier("A", aligned("a1", "t1", "t4", "old", ' CVE_REF="c1"')),
        kind=' CONTROLLED_VOCABULARY_REF="cv"',
        vocabulary=vocabulary,
    )
    found = read(tmp_path, "a.eaf", text)
    assert rows(found) == [("a", 0, 2.5, "new")]
    assert found.vocabulary == ("new",)
    with pytest.raises(DataError, match="its times are PAL-frames; ELAN writes milliseconds"):
        read(tmp_path, "b.eaf", eaf(WHOLE, units="PAL-frames"))


# ---- X-AnyLabeling


def test_x_anylabelings_frames_and_its_image_side_cars(tmp_path):
    one = {"version": "1.0.0", "type": "video_classification", "video": "a.mp4", "fps": 25.0, "labels": ["A"]}
    frames = {**one, "segments": [{"id": 1, "label": "A", "start_frame": 25, "end_frame": 50}]}
    assert rows(read(tmp_path, "a.json", frames)) == [("a", 1, 2, "A")]
    with pytest.raises(DataError, match=r"it has frames only, and fps is missing"):
        read(tmp_path, "a.json", {**frames, "fps": 0})
    with pytest.raises(DataError, match="side-car of an image"):
        read(tmp_path, "b.json", {"version": "3.2.1", "flags": {"A": True}, "shapes": [], "checked": False})


# ---- tables


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("\ufeffvideo;label;start;end\r\na.mp4;walk;1,5;2,5\r\n", (1.5, 2.5)),
        ("video;label;start;end\na.mp4;walk;00:00:01,5;00:01:02,25\n", (1.5, 62.25)),
        ("video,label,start,end\na.mp4,walk,1:02,1:03.5\n", (62, 63.5)),
        ("Video Name,Label,Start Time,End Time\na.mp4,walk,1.0,2.0\n", (1, 2)),
        ("video_id,action_label,Start (s),Stop (s)\na,walk,1,2\n", (1, 2)),
        ("filename,begin_s,end_s,label\na.mp4,1,2,walk\n", (1, 2)),
        ("file,class,start_sec,end_sec\na.mp4,walk,1,2\n", (1, 2)),
        ("video,label,onset,offset\na.mp4,walk,1,2\n", (1, 2)),
        ("video,label,start,duration\na.mp4,walk,1,2\n", (1, 3)),
        ("video,label,start_ms,end_ms\na.mp4,walk,1000,2500\n", (1, 2.5)),
        ("video,label,start_frame,end_frame,fps\na.mp4,walk,30,60,29.97\n", (1.001, 2.002)),
        ("video\tlabel\tstart\tend\na.mp4\twalk\t1\t2\n", (1, 2)),
        ("sep=;\nvideo;label;start;end\na.mp4;walk;1;2\n", (1, 2)),
        ("# made by hand\nvideo,label,start,end\na.mp4,walk,1,2\n", (1, 2)),
        ("a.mp4,walk,1,2\n", (1, 2)),
        ("a.mp4;00:01;00:02;walk\n", (1, 2)),
    ],
)
def test_tables_by_other_names(text, expected, tmp_path):
    assert rows(read(tmp_path, "s.csv", text)) == [("a", *expected, "walk")]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (
            "video,label,start_pts,end_pts\na.mp4,walk,1,2\n",
            r"the columns start_pts, end_pts look like times of segments",
        ),
        ("video,label,start\na.mp4,walk,1\n", r"the columns start look like times .*start and duration"),
        ("video,label,start,end\na.mp4,walk,one,2\n", r"line 2: 'one' is not a number"),
        ("video,label,start,end\na.mp4,walk,1,2,3\n", r"line 2: 5 columns, but the header has 4"),
        ("video,label,start,end\na.mp4,Größe,1,2\n".encode("latin-1"), r"line 2: the label is not UTF-8 text"),
    ],
)
def test_tables_that_are_refused(text, message, tmp_path):
    with pytest.raises(DataError, match=message):
        read(tmp_path, "s.csv", text)


# ---- data sets


def test_thumos_classes_with_the_numbers_of_ucf101(tmp_path):
    (tmp_path / "detclasslist.txt").write_text("9 BasketballDunk\n7 BaseballPitch\n")
    found = read(tmp_path, "BaseballPitch_val.txt", "video_validation_0000266  72.8 76.4\r\n")
    assert rows(found) == [("video_validation_0000266", 72.8, 76.4, "BaseballPitch")]
    assert found.vocabulary == ("BaseballPitch", "BasketballDunk")


@pytest.mark.parametrize(
    "content",
    [
        {"database": {"abc": {"duration": "10.0", "subset": "training", "annotations": [{"segment": ["1.0", "2.0"], "label": "x"}]}}},
        {"database": {"v_abc": {"annotations": [{"segment": [1, 2], "label": "x", "label_id": 3}]}}},
        {"abc": {"duration": 10, "subset": "training", "annotations": [{"segment": [1, 2], "label": "x"}]}},
        {"results": {"v_abc": [{"score": "0.5", "segment": ["1", "2"], "label": "x"}]}},
    ],
)  # fmt: skip
def test_activitynets_forms(content, tmp_path):
    assert rows(read(tmp_path, "a.json", content)) == [("abc", 1, 2, "x")]


def test_captions_are_no_classes(tmp_path):
    with pytest.raises(DataError, match="these are captions of segments"):
        read(tmp_path, "a.json", {"abc": {"timestamps": [[1, 2]], "duration": 10.0, "sentences": ["a man"]}})


def test_epic_kitchens_55(tmp_path):
    head = "uid,participant_id,video_id,narration,start_timestamp,stop_timestamp,start_frame,stop_frame,verb,verb_class,noun,noun_class,all_nouns,all_noun_classes"
    row = "0,P01,P01_01,open door,00:00:00.14,1:00:03.37,8,202,open,2,door,8,['door'],[8]"
    found = read(tmp_path, "EPIC_train_action_labels.csv", f"{head}\n{row}\n")
    assert rows(found) == [("P01_01", 0.14, 3603.37, "open door")]


def published(folder, files):
    for name, content in files.items():
        (folder / name).parent.mkdir(exist_ok=True)
        (folder / name).write_text(content if isinstance(content, str) else json.dumps(content))
    found = clipwise.read_list(folder / next(iter(files)))
    return [(found.entry(i) + found.suffix, found.class_name(int(found.label(i)))) for i in range(len(found))]


def test_kinetics_whose_first_clips_are_gone(tmp_path):
    rows = "".join(f"archery,xy-{i},1,11,validate\n" for i in range(4))
    files = {"val.csv": f"label,youtube_id,time_start,time_end,split\n{rows}", "archery/xy-3_000001_000011.mkv": ""}
    assert published(tmp_path, files)[0] == ("archery/xy-0_000001_000011.mkv", "archery")


@pytest.mark.parametrize("labels", [{"Holding it": "1", "Spinning it": "0"}, {"0": "Spinning it", "1": "Holding it"}])
def test_something_something_with_labels_of_either_direction(labels, tmp_path):
    row = {"id": "7", "label": "spinning a cube", "template": "Spinning [it]", "placeholders": ["cube"]}
    assert published(tmp_path, {"train.json": [row], "labels.json": labels, "7.webm": ""}) == [
        ("7.webm", "Spinning it")
    ]
    assert clipwise.read_list(tmp_path / "train.json").classes == ["Spinning it", "Holding it"]


def test_jester_with_a_header(tmp_path):
    text = 'video_id,label,frames,label_id,shape,format\n34870,Drumming Fingers,2,5,"(100, 176)",.jpg\n'
    assert published(tmp_path, {"Train.csv": text, "34870/00001.jpg": "", "34870/00002.jpg": ""}) == [
        ("34870", "Drumming Fingers")
    ]
