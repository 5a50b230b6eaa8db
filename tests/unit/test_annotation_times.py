"""Frames to seconds and back: each tool's rule with numbers computed by hand, at even, broadcast and variable rates."""

import json
from fractions import Fraction

import numpy as np
import pytest

from clipwise.data.formats.annotation_parts import FormatOptions
from clipwise.data.formats.annotation_tables import read_any
from clipwise.data.formats.frame_times import FrameClock, exact_rate, parse_time
from clipwise.errors import DataError


@pytest.mark.parametrize(
    ("given", "exact"),
    [
        (29.97, Fraction(30000, 1001)),
        (29.97003, Fraction(30000, 1001)),
        (23.976, Fraction(24000, 1001)),
        (59.94, Fraction(60000, 1001)),
        (25, Fraction(25)),
        (30, Fraction(30)),
        (12.5, Fraction(25, 2)),
        (14.985, Fraction(15000, 1001)),
    ],
)
def test_broadcast_rates_are_the_exact_fractions(given, exact):
    assert exact_rate(given) == exact


def test_an_even_clock_rounds_half_up_and_gives_every_segment_a_frame():
    clock = FrameClock(exact_rate(29.97))
    assert clock.seconds(30) == pytest.approx(1.001, abs=1e-12)  # 30 frames of 1001/30000 s
    assert clock.frame(1.001) == 30
    assert clock.frames(1.001, 2.002) == (30, 60)
    even = FrameClock(Fraction(10))
    assert even.frame(0.25) == 3  # half way between 2 and 3: up
    assert even.frame(0.249) == 2
    assert even.frames(0.31, 0.32) == (3, 4)
    hour = FrameClock(exact_rate(23.976))
    assert hour.frame(3600.0) == 86314  # 3600 * 24000 / 1001 = 86313.69
    assert FrameClock(Fraction(24)).frame(3600.0) == 86400


def test_a_variable_clock_goes_by_time_stamps():
    bounds = np.array([0.0, 0.1, 0.5, 0.6, 1.6])  # four frames
    clock = FrameClock(Fraction(5, 2), bounds)
    assert [clock.seconds(i) for i in range(5)] == [0.0, 0.1, 0.5, 0.6, 1.6]
    assert clock.frame(0.29) == 1  # nearer to 0.1 than to 0.5
    assert clock.frame(0.31) == 2
    assert clock.frame(0.3) == 2  # equally near: the later
    assert clock.frames(0.1, 0.6) == (1, 3)
    assert clock.frame(1.6) == 4
    assert clock.frame(2.0) == 5  # one frame of 0.4 s behind the end
    assert clock.seconds(5) == pytest.approx(2.0)
    assert clock.duration_s == 1.6


@pytest.mark.parametrize(
    ("text", "seconds"),
    [("12.5", 12.5), (3, 3.0), ("00:01:02.50", 62.5), ("1:02", 62.0), ("01:00:00", 3600.0), ("00:00:01,5", 1.5)],
)
def test_times_as_text(text, seconds):
    assert parse_time(text) == seconds


@pytest.mark.parametrize("text", ["", "x", "nan", "inf", True, None, "1:2:3:4", "1:-2", "9" * 400])
def test_what_is_no_time(text):
    with pytest.raises((ValueError, TypeError)):
        parse_time(text)


def write(path, text):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text if isinstance(text, str) else json.dumps(text), encoding="utf-8")
    return path


def segments(found, name="a"):
    return [tuple(round(t, 6) for t in pair) for pair in found.videos[name].segments.tolist()]


def label_studio(ranges, **more):
    region = {
        "type": "timelinelabels",
        "from_name": "t",
        "to_name": "v",
        "value": {"ranges": ranges, "timelinelabels": ["x"]},
    }
    return [{"data": {"video": "/data/upload/3/0a1b2c3d-a.mp4", **more}, "annotations": [{"result": [region]}]}]


def test_label_studio_counts_from_one_and_includes_both_ends(tmp_path):
    path = write(tmp_path / "a.json", label_studio([{"start": 1, "end": 10}, {"start": 51, "end": 51}]))
    assert segments(read_any(path, options=FormatOptions(fps=25))) == [(0.0, 0.4), (2.0, 2.04)]
    # the declared rate is taken literally: the player multiplies its clock by 29.97, not by 30000/1001
    found = segments(read_any(path, options=FormatOptions(fps=29.97)))
    assert found[0][1] == round(10 / 29.97, 6)


@pytest.mark.parametrize(
    ("attribute", "data", "rate"),
    [
        ('frameRate="30"', {}, 30.0),
        ('framerate="12.5"', {}, 12.5),
        ('frameRate="0.04"', {}, 25.0),  # below 1: the length of a frame
        ("", {}, 24.0),
        ('frameRate="$rate"', {"rate": "50"}, 50.0),
    ],
)
def test_the_declared_rate_of_label_studio(tmp_path, attribute, data, rate):
    config = f'<View><View><Video name="v" value="$video" {attribute}/></View><TimelineLabels name="t" toName="v"><Label value="x"/></TimelineLabels></View>'
    write(tmp_path / "config.xml", config)
    path = write(tmp_path / "a.json", label_studio([{"start": 1, "end": 100}], **data))
    assert segments(read_any(path)) == [(0.0, round(100 / rate, 6))]


def test_label_studio_without_a_declared_rate_is_refused(tmp_path):
    path = write(tmp_path / "a.json", label_studio([{"start": 1, "end": 10}]))
    with pytest.raises(
        DataError, match=r"counts frames at the rate that its labeling configuration declares.*lists\.fps"
    ):
        read_any(path)


CVAT = """<annotations><version>1.1</version><meta><task><name>t</name><size>100</size><start_frame>{start}</start_frame>
<stop_frame>{stop}</stop_frame><frame_filter>{step}</frame_filter><labels><label><name>run</name></label></labels></task>
<source>a.mp4</source></meta>{body}</annotations>"""


def box(frame, outside):
    return f'<box frame="{frame}" outside="{outside}" keyframe="1" xtl="0" ytl="0" xbr="9" ybr="9"/>'


@pytest.mark.parametrize(
    ("shapes", "step", "spans"),
    [
        ([(10, 0), (20, 1)], "", [(10, 20)]),  # the outside frame is the first without
        ([(10, 0), (20, 1), (30, 0)], "", [(10, 20), (30, 100)]),  # on again; no outside: until stop_frame + 1
        ([(0, 0), (1, 0), (2, 0), (3, 1)], "", [(0, 3)]),  # every frame listed
        ([(10, 0), (13, 1), (16, 1)], "step=3", [(10, 13)]),
        ([(96, 0), (99, 0)], "step=3", [(96, 102)]),  # a shape's end is its frame + step
        ([(20, 1), (10, 0)], "", [(10, 20)]),  # any order
    ],
)
def test_cvat_tracks(tmp_path, shapes, step, spans):
    body = f'<track id="0" label="run">{"".join(box(*s) for s in shapes)}</track>'
    path = write(tmp_path / "a.xml", CVAT.format(start=0, stop=99, step=step, body=body))
    found = read_any(path, options=FormatOptions(fps=10))
    assert segments(found) == [(a / 10, b / 10) for a, b in spans]
    assert found.vocabulary == ("run",)
    exact = read_any(path, options=FormatOptions(fps=29.97)).videos["a"].segments
    assert exact[0, 0] == pytest.approx(spans[0][0] * 1001 / 30000, abs=1e-12)


def test_cvat_tags_run_together(tmp_path):
    frames = {"run": [5, 6, 7, 20], "sit": [6, 7]}
    images = "".join(
        f'<image id="{i}" name="frame_{i:06d}" width="9" height="9">'
        + "".join(f'<tag label="{label}"/>' for label, at in frames.items() if i in at)
        + "</image>"
        for i in range(30)
    )
    found = read_any(
        write(tmp_path / "a.xml", CVAT.format(start=0, stop=29, step="", body=images)), options=FormatOptions(fps=10)
    )
    rows = list(zip(segments(found), found.videos["a"].labels))
    assert rows == [((0.5, 0.8), "run"), ((0.6, 0.8), "sit"), ((2.0, 2.1), "run")]


def test_cvat_tags_on_nothing_but_first_frames_label_whole_videos(tmp_path):
    body = '<image id="0" name="frame_000000"><tag label="run"/></image>'
    found = read_any(write(tmp_path / "a.xml", CVAT.format(start=0, stop=29, step="", body=body)))
    assert found.videos["a"].whole == ("run",)


def test_vidat_ends_include_the_last_marked_frame(tmp_path):
    action = {"start": 1.0, "end": 2.0, "action": 1, "object": 0, "color": "", "description": ""}
    late = action | {"start": 9.9, "end": 10.0}
    video = {"src": "video/a.mp4", "fps": 10, "frames": 100, "duration": 10.0, "height": 1, "width": 1}
    content = {
        "version": "2.1.0",
        "annotation": {"video": video, "actionAnnotationList": [action, late]},
        "config": {"actionLabelData": [{"id": 0, "name": "default"}, {"id": 1, "name": "run"}]},
    }
    assert segments(read_any(write(tmp_path / "a.json", content))) == [(1.0, 2.1), (9.9, 10.0)]


def test_fiftyone_support_counts_from_one_and_includes_both_ends(tmp_path):
    content = {
        "classes": ["run"],
        "labels": {"a": [{"label": 0, "support": [31, 60]}, {"label": "sit", "timestamps": ["00:00:01.500", 2]}]},
    }
    found = read_any(write(tmp_path / "labels.json", content), options=FormatOptions(fps=30))
    assert list(zip(segments(found), found.videos["a"].labels)) == [((1.0, 2.0), "run"), ((1.5, 2.0), "sit")]


def test_a_label_a_frame(tmp_path):
    truth = "background\n" * 15 + "take\n" * 30 + "pour\n" * 15
    write(tmp_path / "groundTruth" / "a.txt", truth.removesuffix("\n"))  # the last frame counts without a newline, too
    write(tmp_path / "mapping.txt", "0 background\n1 take\n2 pour\n")
    write(tmp_path / "splits" / "train.split1.bundle", "a.txt\n")
    found = read_any(tmp_path, options=FormatOptions(fps=15))
    video = found.videos["a"]
    assert list(zip(segments(found), video.labels)) == [((1.0, 3.0), "take"), ((3.0, 4.0), "pour")]
    assert (video.duration_s, video.num_frames, video.subset) == (4.0, 60, "training")


def test_breakfast_frames_count_from_one(tmp_path):
    found = read_any(write(tmp_path / "a.txt", "1-30 SIL\n31-45 take_cup\n"), options=FormatOptions(fps=15))
    assert segments(found) == [(0.0, 2.0), (2.0, 3.0)]


def test_salads_are_microseconds_of_three_levels(tmp_path):
    text = "53704269 76774251 cut_tomato_prep\n76774251 105911773 cut_tomato_core\n53704269 268768513 cut_and_mix_ingredients\n"
    path = write(tmp_path / "01-1-activityAnnotation.txt", text)
    assert segments(read_any(path), "01-1")[0] == (53.704269, 76.774251)
    assert len(segments(read_any(path), "01-1")) == 2
    middle = read_any(path, options=FormatOptions(layer="mid"))
    assert (segments(middle, "01-1"), middle.videos["01-1"].labels) == ([(53.704269, 105.911773)], ("cut_tomato",))
    high = read_any(path, options=FormatOptions(layer="high"))
    assert high.videos["01-1"].labels == ("cut_and_mix_ingredients",)


def test_frames_of_a_table_count_from_zero(tmp_path):
    path = write(tmp_path / "a.csv", "video,label,start_frame,end_frame\na.mp4,run,30,60\n")
    assert segments(read_any(path, options=FormatOptions(fps=29.97))) == [(1.001, 2.002)]


def test_epic_kitchens_goes_by_time_stamps(tmp_path):
    head = "narration_id,participant_id,video_id,narration_timestamp,start_timestamp,stop_timestamp,start_frame,stop_frame,narration,"
    head += "verb,verb_class,noun,noun_class,all_nouns,all_noun_classes\n"
    rows = "P01_11_0,P01,P01_11,00:00:00.56,00:00:00.00,00:01:01.89,1,113,take plate,take,0,plate,2,['plate'],[2]\n"
    rows += "P01_11_1,P01,P01_11,00:00:01.70,00:00:01.56,00:00:02.45,93,147,grab dish,grab,0,dish,2,['dish'],[2]\n"
    path = write(tmp_path / "EPIC_100_validation.csv", head + rows)
    found = read_any(path)
    assert segments(found, "P01_11") == [(0.0, 61.89), (1.56, 2.45)]
    assert found.videos["P01_11"].labels == ("take plate", "take plate")  # the classes are the same
    assert read_any(path, options=FormatOptions(layer="noun")).videos["P01_11"].labels == ("plate", "plate")


def test_a_variable_rate_through_cvat(tmp_path):
    """A file whose frames come at 0.0, 0.1 … 0.9 s and then every half second: frame numbers go by these, and come back."""
    import av

    path = tmp_path / "a.mkv"
    with av.open(str(path), "w") as container:
        stream = container.add_stream("mpeg4", rate=10)
        stream.width = stream.height = 64
        stream.codec_context.time_base = Fraction(1, 1000)
        times = [*range(0, 1000, 100), *range(1000, 6000, 500)]
        for i, time in enumerate(times):
            frame = av.VideoFrame.from_ndarray(np.full((64, 64, 3), 10 * i, np.uint8), format="rgb24")
            frame.pts, frame.time_base = time, Fraction(1, 1000)
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    from clipwise.data.formats.annotation_convert import write_kind

    table = write(tmp_path / "a.csv", "video,label,start,end\na.mkv,run,0.5,2.0\n")
    from clipwise.data.formats.annotation_parts import VideoFinder

    options = FormatOptions(videos=VideoFinder(tmp_path))
    done = write_kind(read_any(table), "cvat", tmp_path / "o.xml", options)
    text = (tmp_path / "o.xml").read_text(encoding="utf-8")
    assert text.count("<tag ") == 7  # frames 5 to 11: 0.5 … 0.9, 1.0, 1.5
    assert segments(read_any(tmp_path / "o.xml", options=options)) == [(0.5, 2.0)]
    assert not done.lost
