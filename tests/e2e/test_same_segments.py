"""``stream``, ``localize`` with a recognizer and the server say the same of the same file: three files of several actions each."""

import argparse
import json

import av
import numpy as np
import pytest

from clipwise.cli import main
from clipwise.infer.predictor import load
from clipwise.prepare.synthetic import draw_action, write_video
from clipwise.serve.analysis import Analyzer, Options
from clipwise.serve.batching import BatchQueue
from clipwise.video.decode import open_video

ACTIONS = [("moves right", "grows"), ("cross", "moves left", "ring"), ("shrinks", "moves right", "shrinks", "cross")]


@pytest.fixture(scope="module")
def recognizer(tmp_path_factory):
    """A recognizer of the synthetic actions, trained a little."""
    from clipwise.engine.train import train
    from clipwise.prepare.synthetic import make_clips
    from clipwise.recipe import load_recipe

    clips = make_clips(tmp_path_factory.mktemp("actions"), train_per_class=6, val_per_class=1)
    short = ["epochs=12", "warmup_epochs=0", "batch_size=6", "num_workers=0", "amp=no"]
    folder = tmp_path_factory.mktemp("recognizer")
    return train(load_recipe("tsm_tiny", short), data=str(clips), work_dir=folder, quiet=True, validate=False).last


@pytest.fixture(scope="module")
def videos(tmp_path_factory):
    folder = tmp_path_factory.mktemp("long")
    for number, names in enumerate(ACTIONS):
        parts = [draw_action(name, 40 + 7 * number, np.random.default_rng(n)) for n, name in enumerate(names)]
        write_video(folder / f"{number}.mp4", np.concatenate(parts))
    return folder


@pytest.mark.parametrize("number", range(3))
def test_stream_localize_and_the_server_find_the_same_segments(recognizer, videos, number, capsys):
    path = videos / f"{number}.mp4"
    assert main(["stream", str(recognizer), str(path), "--threshold", "0.22", "--json"]) == 0
    lines = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    streamed = [line for line in lines if line.pop("type") == "segment" and line.pop("schema")]
    windows = [line for line in lines if "top" in line]
    predictor = load(recognizer, "cpu")
    queue = BatchQueue(predictor, max_batch=1)  # as the stream, one window at a time: the same bits
    queue.start()
    with open_video(path) as reader:
        served = Analyzer(predictor, queue)(reader, Options(threshold=0.22))
    assert main(["localize", str(recognizer), str(path), "--threshold", "0.22", "--json"]) == 0
    (localized,) = json.loads(capsys.readouterr().out)["videos"]
    assert streamed
    by_start = sorted(streamed, key=lambda s: (s["start_s"], s["end_s"], s["index"]))
    assert sorted(localized["segments"], key=lambda s: (s["start_s"], s["end_s"], s["index"])) == by_start
    assert served["segments"] == by_start
    starts = [(w["start_s"], w["end_s"]) for w in served["timeline"]["windows"]]
    assert starts == [(w["start_s"], w["end_s"]) for w in windows]
    assert starts[-1][1] == pytest.approx(served["video"]["duration_s"])


def test_options_of_localization_networks_are_refused_by_name(recognizer, videos, capsys):
    assert main(["localize", str(recognizer), str(videos / "0.mp4"), "--labeler", str(recognizer)]) == 2
    assert "--labeler has an effect with localization networks" in capsys.readouterr().err


def test_localize_says_where_a_file_breaks_off(recognizer, tmp_path, capsys):
    frames = np.concatenate([draw_action(name, 60, np.random.default_rng(0)) for name in ("grows", "cross")])
    whole = tmp_path / "whole.mp4"
    with av.open(str(whole), "w", options={"movflags": "faststart"}) as container:  # its index lies before the frames
        stream = container.add_stream("libx264", rate=25)
        stream.height, stream.width, stream.pix_fmt = *frames.shape[1:3], "yuv420p"
        for frame in frames:
            container.mux(stream.encode(av.VideoFrame.from_ndarray(frame, format="rgb24")))
        container.mux(stream.encode())
    content = whole.read_bytes()
    (tmp_path / "broken.mp4").write_bytes(content[: len(content) * 2 // 3])
    for command in ("localize", "stream"):
        assert main([command, str(recognizer), str(whole)]) == 0
        assert "broken.mp4" not in capsys.readouterr().err
        assert main([command, str(recognizer), str(tmp_path / "broken.mp4")]) == 0
        assert "broken.mp4: " in capsys.readouterr().err


def test_all_commands_have_the_same_defaults():
    from clipwise.cli import localize, serve, stream
    from clipwise.infer.segments import SMOOTH, THRESHOLD
    from clipwise.serve.limits import Settings

    for module in (stream, serve, localize):
        parser = argparse.ArgumentParser()
        module.add_arguments(parser)
        assert parser.get_default("threshold") in (None, THRESHOLD)
        assert parser.get_default("smooth") in (None, SMOOTH)
    assert Settings().threshold == THRESHOLD
