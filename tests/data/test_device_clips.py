"""Clips decoded and cut on a device, and the choice of a decoder. No accelerator is needed: the device is the CPU, and TorchCodec is
stood in for by a decoder of the same interface that counts what is asked of it."""

import sys
import types

import numpy as np
import pytest
import torch

from clipwise.analyze.decoder_speed import decoder_advice, decoder_speeds
from clipwise.data.clip_spec import ClipSpec
from clipwise.data.dataset import ClipDataset
from clipwise.data.device_clips import apply_there, decoded_on, read_there
from clipwise.data.lists import read_list
from clipwise.data.transforms import ClipTransform
from clipwise.engine.train import train
from clipwise.io.parse import read_json_lines
from clipwise.recipe import load_recipe
from clipwise.video.decode import PyAVReader, open_video


class StandIn:
    """``torchcodec.decoders.VideoDecoder``, through PyAV. ``shift``: numbers frames otherwise than the packets, as TorchCodec may."""

    shift = 0
    asked: list = []  # noqa: RUF012

    def __init__(self, source, *, dimension_order, num_ffmpeg_threads, device, seek_mode):
        assert (dimension_order, seek_mode) == ("NHWC", "exact")
        self.reader, self.device = PyAVReader(source), device

    def get_frames_at(self, indices):
        self.asked.append((list(indices), str(self.device)))
        places = np.clip(np.array(indices) + self.shift, 0, self.reader.num_frames - 1)
        times = self.reader.pts_s(places)
        return types.SimpleNamespace(
            data=torch.from_numpy(self.reader.frames(places)), pts_seconds=torch.from_numpy(times)
        )


@pytest.fixture
def torchcodec(monkeypatch):
    StandIn.asked.clear()
    module = types.ModuleType("torchcodec.decoders")
    module.VideoDecoder = StandIn
    parent = types.ModuleType("torchcodec")
    parent.decoders = module
    monkeypatch.setitem(sys.modules, "torchcodec", parent)
    monkeypatch.setitem(sys.modules, "torchcodec.decoders", module)
    return StandIn


def spec_of(name, mode, *words, device="cpu"):
    from dataclasses import replace

    return replace(ClipSpec.from_recipe(load_recipe(name, list(words)), mode), decode_device=device)


@pytest.mark.parametrize(
    ("name", "mode", "words"),
    [
        ("tsm_tiny", "test", []),
        ("tsm_tiny", "train", ["augment.flip=1", "augment.crop=random_resized"]),
        ("tsm_tiny", "train", ["augment.crop=multi_scale", "crop_size=48", "augment.resize=64"]),
        ("tsm_tiny", "train", ["augment.crop=random_resized", "input.fused_resize=false"]),
        ("slowonly_tiny", "test", ["test.crop=three", "test.crop_size=64", "test.resize=64", "test.num_clips=3"]),
        ("slowonly_tiny", "test", ["test.crop=ten", "test.crop_size=48", "test.resize=64"]),
        ("tsm_tiny", "test", ["input.interpolation=bicubic"]),
        ("tsm_tiny", "test", ["input.interpolation=opencv"]),
        ("tsm_tiny", "test", ["input.interpolation=float"]),
        ("tsm_tiny", "test", ["test.resize=null"]),
    ],
)  # fmt: skip
def test_the_same_clip_within_two_levels(clips, torchcodec, name, mode, words):
    """Against the CPU's path, whose pixels are tested against other systems."""
    path = read_list(clips / "val").path(3)
    words = [*words, "input.video_backend=torchcodec"]
    there, here = spec_of(name, mode, *words), spec_of(name, mode, *words, device=None)
    with there.open_video(path) as reader:
        assert reader.device == "cpu"
        device_frames, plan = there.read(reader, np.random.default_rng(5))
    with open_video(path) as reader:
        frames, own = here.read(reader, np.random.default_rng(5))
    assert plan == own
    assert isinstance(device_frames, torch.Tensor)
    assert device_frames.shape == frames.shape
    assert device_frames.numpy().dtype == frames.dtype
    assert np.abs(device_frames.numpy().astype(float) - frames).max() <= 2
    assert len(torchcodec.asked) == 1  # each distinct frame once
    assert torchcodec.asked[0][0] == sorted(set(torchcodec.asked[0][0]))


def test_mirrored_flow_turns_its_sign():
    plan = ClipTransform(flip_prob=1.0, modality="flow").draw(6, 8, np.random.default_rng(0))
    frames = torch.randint(0, 256, (3, 6, 8, 2), dtype=torch.uint8)
    assert np.array_equal(apply_there(plan, frames).numpy(), plan.apply(frames.numpy()))


def test_a_file_whose_frames_differ_is_read_by_pyav(clips, torchcodec, monkeypatch):
    path = read_list(clips / "val").path(3)
    monkeypatch.setattr(torchcodec, "shift", 1)
    with open_video(path, backend="torchcodec", device="cpu") as reader, open_video(path) as pyav:
        frames = reader.frames_there([7, 2, 7])
        assert reader.fell_back == "TorchCodec gave frames with other time stamps"
        assert np.array_equal(frames.numpy(), pyav.frames([7, 2, 7]))


def test_where_clips_are_decoded():
    """On CUDA in the process that owns the device; workers, other devices and PyAV decode on the CPU."""
    spec = ClipSpec.from_recipe(load_recipe("tsm_tiny", ["input.video_backend=torchcodec"]), "test")
    cuda, cpu = torch.device("cuda", 0), torch.device("cpu")
    assert decoded_on(spec, cuda).decode_device == "cuda:0"
    assert decoded_on(spec, cuda, num_workers=2).decode_device is None
    assert decoded_on(spec, cpu).decode_device is None
    plain = ClipSpec.from_recipe(load_recipe("tsm_tiny"), "test")
    assert decoded_on(plain, cuda) is plain


def test_a_training_on_clips_of_the_device(clips, torchcodec, tmp_path, monkeypatch):
    """Batches come from the device's decoder, through the loader, to the loss; here the device is the CPU."""
    from dataclasses import replace

    monkeypatch.setattr(
        "clipwise.data.device_clips.decoded_on", lambda spec, device, workers: replace(spec, decode_device="cpu")
    )
    words = [
        "epochs=1",
        "warmup_epochs=0",
        "num_workers=0",
        "amp=no",
        "log.every=1",
        "augment.resize=null",
        "crop_size=[80,64]",
        "val.resize=null",
    ]
    curves = []
    for backend in ("pyav", "torchcodec"):
        folder = tmp_path / backend
        train(
            load_recipe("tsm_tiny", [*words, f"input.video_backend={backend}"]),
            data=str(clips),
            work_dir=folder,
            quiet=True,
        )
        curves.append([x.get("loss") for x in read_json_lines(folder / "log.jsonl")])
    assert torchcodec.asked
    assert curves[0] == curves[1]  # nothing is resized, so the pixels are the same bits


def test_a_dataset_gives_tensors(clips, torchcodec):
    videos = read_list(clips / "val")
    spec = spec_of("tsm_tiny", "test", "input.video_backend=torchcodec")
    assert ClipDataset(videos, spec)[0]["frames"].shape == (1, 8, 64, 80, 3)


def test_the_faster_decoder_is_named(clips, torchcodec):
    spec = ClipSpec.from_recipe(load_recipe("tsm_tiny"), "train")
    videos = read_list(clips / "val")
    speeds = decoder_speeds([videos.path(i) for i in range(3)], spec, clips=3, repeats=1)
    assert set(speeds) == {"pyav", "torchcodec"}
    assert all(ms > 0 for ms in speeds.values())
    assert decoder_speeds(["/nowhere.mp4"], spec, clips=1) == {}
    assert decoder_advice({}, "pyav") is None
    line = decoder_advice({"pyav": 12.0, "torchcodec": 11.0, "torchcodec on the device": 4.0}, "pyav")
    assert line.startswith("input.video_backend=torchcodec num_workers=0 reads these videos 3.0 times faster here")
    assert "is the right decoder" in decoder_advice({"pyav": 12.0, "torchcodec": 11.0}, "pyav")
    assert decoder_advice({"pyav": 6.0, "torchcodec": 12.0}, "torchcodec").startswith(
        "input.video_backend=pyav reads these videos 2.0"
    )


def test_without_torchcodec_there_is_no_choice(clips, monkeypatch):
    monkeypatch.setitem(sys.modules, "torchcodec", None)
    monkeypatch.setitem(sys.modules, "torchcodec.decoders", None)
    assert decoder_speeds([read_list(clips / "val").path(0)], spec_of("tsm_tiny", "test", device=None)) == {}


def test_read_there_is_what_spec_read_calls(clips, torchcodec):
    spec = spec_of("tsm_tiny", "test", "input.video_backend=torchcodec")
    with spec.open_video(read_list(clips / "val").path(0)) as reader:
        frames, _ = read_there(spec, reader, np.random.default_rng(0))
        assert torch.equal(frames, spec.read(reader, np.random.default_rng(0))[0])
