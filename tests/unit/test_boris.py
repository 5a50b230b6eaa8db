"""BORIS: projects and exported tables of several versions; segments by hand, rules as the tool's source has them."""

import pytest

from clipwise.errors import DataError
from helpers import read_annotations as read
from helpers import segment_rows as rows


def boris(*events, files=None, **more):
    info = {"length": {"a.mp4": 20.0, "b.mp4": 10.0}, "fps": {"a.mp4": 25.0}}
    observation = {
        "type": "MEDIA",
        "file": files or {"1": ["a.mp4"], "2": []},
        "time offset": 0.0,
        "events": list(events),
        "media_info": info,
    }
    kinds = {"0": {"code": "walk", "type": "State event"}, "1": {"code": "jump", "type": "Point event"}}
    return {"project_format_version": "7.0", "behaviors_conf": kinds, "observations": {"o": {**observation, **more}}}


START, STOP = [1.0, "", "walk", "", ""], [3.0, "", "walk", "", ""]


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        (boris(START, STOP), [("a", 1, 3)]),
        (boris([*START, 25], [*STOP, 75], [2.0, "", "jump", "", "", 50]), [("a", 1, 3)]),  # 8: frame index behind; a point event
        (boris(["1.0", *START[1:]], ["3.0", *STOP[1:]]), [("a", 1, 3)]),
        (boris(START, STOP, files=["a.mp4"]), [("a", 1, 3)]),  # a list of files
        (boris(START, STOP, files={"1": [], "2": ["b.mp4"]}), [("b", 1, 3)]),
        (boris([18.0, *START[1:]], [23.0, *STOP[1:]], files={"1": ["a.mp4", "b.mp4"]}), [("a", 18, 20), ("b", 0, 3)]),
    ],
)  # fmt: skip
def test_boris_projects(content, expected, tmp_path):
    assert rows(read(tmp_path, "p.boris", content)) == [(*row, "walk") for row in expected]


AGGREGATED = "Observation id,Source,Media duration (s),Subject,Behavior,Behavior type,Start (s),Stop (s),Media file name,Image index start\no1,player #1:/v/a.mp4,20.0,s,walk,STATE,1.0,3.5,/v/a.mp4,25\n"
TABULAR = "Observation id,Source,Time offset (s),Media duration (s),Subject,Behavior,Behavior type,Time,Media file name\no1,player #1:a.mp4,0,20,s,walk,START,1.0,a.mp4\no1,player #1:a.mp4,0,20,s,walk,STOP,3.5,a.mp4\n"


@pytest.mark.parametrize("text", [AGGREGATED, TABULAR], ids=["aggregated", "tabular"])
@pytest.mark.parametrize(("mark", "suffix"), [(",", "csv"), (";", "csv"), ("\t", "tsv")])
def test_tables_of_boris_8(text, mark, suffix, tmp_path):
    assert rows(read(tmp_path, f"t.{suffix}", text.replace(",", mark))) == [("a", 1, 3.5, "walk")]


def event(time, code="walk", subject="", modifier="", *more):
    return [time, subject, code, modifier, "", *more]


DATED = {"media_creation_date_as_offset": True}
DATE = {"length": {"a.mp4": 20}, "media_creation_time": {"a.mp4": 1_700_000_000.0}}
BOTH = {"length": {"a.mp4": 20, "c.mp4": 20}, "offset": {"1": 0.0, "2": 1.5}}


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        (boris(event(11.0), event(13.0), **{"time offset": 10.0}), [("a", 1, 3)]),  # BORIS adds it to what the player shows
        (boris(event(-9.0), event(-7.0), **{"time offset": -10.0}), [("a", 1, 3)]),
        (boris(event(128.0), event(133.0), files={"1": ["a.mp4", "b.mp4"]}, **{"time offset": 110.0}), [("a", 18, 20), ("b", 0, 3)]),
        (boris(event(1_700_000_001.0), event(1_700_000_003.0), media_info=DATE, **DATED), [("a", 1, 3)]),
        (boris(event(1.0), event(3.0), files={"1": ["a.mp4"], "2": ["c.mp4"]}, media_info=BOTH), [("a", 1, 3)]),  # timed by player 1
        (boris(event(1.0, subject="x"), event(2.0, subject="y"), event(3.0, subject="x"), event(4.0, subject="y")), [("a", 1, 3), ("a", 2, 4)]),
        (boris(event(5.0, modifier="fast"), event(6.0, modifier="slow"), event(7.0, modifier="fast"), event(8.0, modifier="slow")), [("a", 5, 7), ("a", 6, 8)]),
        (boris(event(1.0), event(3.0), event(5.0)), [("a", 1, 3)]),  # the last one is open
        (boris(event("00:00:01.000"), event("00:00:03.500")), [("a", 1, 3.5)]),
    ],
)  # fmt: skip
def test_offsets_players_and_pairs(content, expected, tmp_path):
    assert rows(read(tmp_path, "p.boris", content)) == [(*row, "walk") for row in expected]


def test_an_offset_of_the_first_player_is_named(tmp_path):
    shifted = {"length": {"a.mp4": 20}, "offset": {"1": 0.75}}
    found = read(tmp_path, "p.boris", boris(event(1.0), event(3.0), media_info=shifted))
    assert rows(found) == [("a", 1, 3, "walk")]
    assert "1 observations whose first player has an offset of its own, which is not applied" in found.notes[0]


def test_times_that_cannot_be_moved_are_refused(tmp_path):
    with pytest.raises(DataError, match="added to its times, but the project does not have that date"):
        read(tmp_path, "p.boris", boris(event(1.0), event(3.0), **DATED))
    two = boris(event(1.0), event(3.0), files={"1": ["a.mp4", "b.mp4"]}, media_info=DATE, **DATED)
    with pytest.raises(DataError, match="added to its times, but there are several files"):
        read(tmp_path, "p.boris", two)


HEAD_8 = (
    "Observation id,Observation date,Description,Observation type,Source,Time offset (s),Coding duration,Media duration (s),FPS (frame/s),"
    "Subject,Observation duration by subject by observation,Behavior,Behavioral category,Behavior type,Start (s),Stop (s),Duration (s),"
    "Media file name,Image index start,Image index stop,Image file path start,Image file path stop,Comment start,Comment stop\n"
)
PLAYERS = "player #1:/v/a.mp4;/v/b.mp4|player #2:/v/c.mp4,100.0,10.000,20.000;10.000|30.000,25.000;25.000|25.000"


def aggregated(start, stop, file, source=PLAYERS, kind="STATE"):
    return f"o1,2024-01-01,,Media file,{source},S,2.0,walk,Not defined,{kind},{start},{stop},1.000,{file},25,75,,,,\n"


def tabular(status, time, modifier="None", file="/v/a.mp4"):
    return f"o1,2024,,10.0,Media file(s),player #1:/v/a.mp4,5.0,20.000,25.000,S,walk,,{modifier},{status},{time},{file},25,NA,\n"


HEAD_8_TABULAR = (
    "Observation id,Observation date,Description,Observation duration,Observation type,Source,Time offset (s),Media duration (s),FPS,Subject,"
    "Behavior,Behavioral category,Modifier #1,Behavior type,Time,Media file name,Image index,Image file path,Comment\n"
)
TABULAR_7 = (
    "Observation id,o1\n\nMedia file(s)\n\nPlayer #1,a.mp4\n\nTime offset (s),5.0\n\n"
    "Time,Media file path,Total length,FPS,Subject,Behavior,Comment,Status\n6.000,a.mp4,20,25,S,walk,,START\n8.000,a.mp4,20,25,S,walk,,STOP\n"
)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (HEAD_8 + aggregated("118.000", "123.000", "/v/a.mp4") + aggregated("125.000", "126.000", "/v/b.mp4"), [("a", 18, 20), ("b", 0, 3), ("b", 5, 6)]),
        (HEAD_8 + aggregated("1.000", "3.000", "Not found", "player #1:/v/a.mp4,0.0,10.0,20.000,25.000"), [("a", 1, 3)]),
        (HEAD_8_TABULAR + tabular("START", 6) + tabular("START", 7, "fast") + tabular("STOP", 8) + tabular("STOP", 9, "fast"), [("a", 1, 3), ("a", 2, 4)]),
        (TABULAR_7, [("a", 1, 3)]),
        (TABULAR_7.replace(",", "\t"), [("a", 1, 3)]),
    ],
)  # fmt: skip
def test_tables_with_offsets_and_players(text, expected, tmp_path):
    suffix = "tsv" if "\t" in text else "csv"
    assert rows(read(tmp_path, f"t.{suffix}", text)) == [(*row, "walk") for row in expected]


def test_tables_of_live_observations_have_no_video(tmp_path):
    live = aggregated("1.000", "3.000", "NA", "NA,0.0,10.0,NA,NA").replace("Media file", "Live observation")
    with pytest.raises(DataError, match=r"there is no video in it.*1 observations without a media file, left out"):
        read(tmp_path, "t.csv", HEAD_8 + live)


def test_files_played_before_one_that_is_named_need_their_lengths(tmp_path):
    older = "Observation id,Media file,Total length,FPS,Subject,Behavior,Behavior type,Start (s),Stop (s)\n"
    text = f"{older}o,b.mp4,30,25,S,A,STATE,22,23\no,a.mp4,30,25,S,B,STATE,1,2\n"  # sorted by behavior
    with pytest.raises(
        DataError, match=r"a\.mp4, b\.mp4 were observed one after the other .* the length of 'a\.mp4' is not known"
    ):
        read(tmp_path, "t.csv", text)
