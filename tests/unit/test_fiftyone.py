"""FiftyOne: with the real package and its database where they are (FIFTYONE_DATABASE_URI), else that its absence is said."""

import importlib.util
import os

import numpy as np
import pytest

from clipwise.cli import main
from clipwise.data.formats.annotations import AnnotationSet, VideoAnnotation
from clipwise.errors import DataError, MissingExtraError
from clipwise.infer.fiftyone_dataset import read_dataset, write_dataset

HERE = importlib.util.find_spec("fiftyone") is not None


def test_a_missing_package_names_its_extra():
    if HERE:
        pytest.skip("fiftyone is installed")
    with pytest.raises(MissingExtraError, match=r"pip install 'clipwise\[fiftyone\]'"):
        read_dataset("fiftyone:mine")


@pytest.mark.skipif(HERE, reason="fiftyone is installed")
@pytest.mark.parametrize("verb", ["predict", "localize"])
def test_a_missing_package_is_told_before_the_work(verb, tmp_path, capsys):
    (tmp_path / "a.mp4").write_bytes(b"")  # neither it nor the checkpoint is opened
    assert main([verb, str(tmp_path / "none.safetensors"), str(tmp_path / "a.mp4"), "--fiftyone", "mine"]) == 2
    assert "clipwise[fiftyone]" in capsys.readouterr().err


@pytest.mark.skipif(not (HERE and os.environ.get("FIFTYONE_DATABASE_URI")), reason="needs fiftyone and its database")
def test_predictions_go_in_and_come_back(clips):
    import fiftyone as fo

    first, second = sorted((clips / "val").rglob("*.mp4"))[:2]
    found = AnnotationSet(
        "predictions",
        {
            "a": VideoAnnotation("a", 1.0, None, np.array([[0.2, 0.8]]), ("run",), scores=(0.5,), path=str(first)),
            "b": VideoAnnotation(
                "b", 1.0, None, np.zeros((0, 2)), (), whole=("sit",), whole_scores=(0.75,), path=str(second)
            ),
        },
    )
    name = f"clipwise-test-{os.getpid()}"
    try:
        assert write_dataset(found, name) == (name, 0, 2)
        assert write_dataset(found, f"{name}.again") == (name, 2, 0)
        with pytest.raises(DataError, match=r"several such fields: clipwise, again"):
            read_dataset(name)
        back = read_dataset(f"fiftyone:{name}.clipwise")
        video = back.videos[first.stem]
        rate = fo.load_dataset(name).first().metadata.frame_rate
        assert np.abs(video.segments - [[0.2, 0.8]]).max() <= 0.5 / rate
        assert (video.labels, video.scores) == (("run",), (0.5,))
        assert read_dataset(f"fiftyone:{name}.clipwise_class").videos[second.stem].whole == ("sit",)
        with pytest.raises(DataError, match="did you mean 'clipwise'"):
            read_dataset(f"fiftyone:{name}.clipwis")
        with pytest.raises(DataError, match="holds TemporalDetections, not Classification"):
            write_dataset(AnnotationSet("p", {"b": found.videos["b"]}), f"{name}.again")
    finally:
        fo.delete_dataset(name)
