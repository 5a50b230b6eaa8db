"""Training on tar shards: the samples of the list, each once an epoch, resumable anywhere, near or far."""

import http.server
import re
import threading
from functools import partial
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import load_file

from clipwise.data.clip_spec import ClipSpec
from clipwise.data.dataset import ClipDataset
from clipwise.data.lists import read_list
from clipwise.data.loader import EpochSampler
from clipwise.engine.train import train
from clipwise.errors import DataError
from clipwise.prepare.shards import write_shards
from clipwise.recipe import load_recipe

WORDS = ["epochs=2", "warmup_epochs=0", "batch_size=4", "amp=no", "crop_size=32", "val.crop_size=32", "log.every=1"]


class Ranges(http.server.SimpleHTTPRequestHandler):
    """A file server that answers ranges, as object stores do; it counts the bytes that it sends."""

    sent = 0

    def do_GET(self):
        path = self.translate_path(self.path)
        try:
            data = Path(path).read_bytes()
        except OSError:
            self.send_error(404)
            return
        wanted = re.fullmatch(r"bytes=(\d+)-(\d+)", self.headers.get("Range", ""))
        first, last = (int(wanted[1]), min(int(wanted[2]), len(data) - 1)) if wanted else (0, len(data) - 1)
        self.send_response(206 if wanted else 200)
        self.send_header("Accept-Ranges", "bytes")
        self.send_header("Content-Length", str(last - first + 1))
        self.send_header("Content-Range", f"bytes {first}-{last}/{len(data)}")
        self.end_headers()
        Ranges.sent += last - first + 1  # before the reader can go on
        self.wfile.write(data[first : last + 1])

    def log_message(self, *args):
        pass


@pytest.fixture(scope="module")
def shards(clips, tmp_path_factory):
    folder = tmp_path_factory.mktemp("shards")
    for part in ("train", "val"):
        write_shards(read_list(clips / part), folder / part, samples_per_shard=5, workers=1)
    return folder


@pytest.fixture
def address(shards):
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), partial(Ranges, directory=str(shards)))
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_address[1]}"
    server.shutdown()


def test_the_clips_are_those_of_the_files(clips, shards):
    spec = ClipSpec.from_recipe(load_recipe("tsm_tiny").model_dump(), "val")
    files, packed = read_list(clips / "val"), read_list(shards / "val")
    expected = {ClipDataset(files, spec)[i]["frames"].numpy().tobytes(): files.label(i) for i in range(len(files))}
    found = {ClipDataset(packed, spec)[i]["frames"].numpy().tobytes(): packed.label(i) for i in range(len(packed))}
    assert found == expected
    assert packed.classes == files.classes


def test_each_epoch_takes_every_sample_once_a_few_shards_at_a_time():
    shards = np.repeat(np.arange(20), 7)
    sampler = EpochSampler(140, 10, seed=3, shards=shards)
    orders = [sampler.order(epoch) for epoch in (0, 1)]
    for order in orders:
        assert sorted(order) == list(range(140))
        assert len(set(shards[order[:56]])) == EpochSampler.SHARDS_AT_ONCE  # eight shards of seven
        assert len(set(shards[order[56:112]])) == EpochSampler.SHARDS_AT_ONCE
    assert orders[0].tolist() != orders[1].tolist()
    assert orders[0].tolist() == EpochSampler(140, 10, seed=3, shards=shards).order(0).tolist()


def test_a_stopped_run_on_shards_goes_on_exactly(shards, tmp_path):
    weights = []
    for name, workers in (("whole", 0), ("stopped", 2)):
        recipe = load_recipe("tsm_tiny", [*WORDS, f"num_workers={workers}"])
        options = dict(data=str(shards), work_dir=tmp_path / name, quiet=True)
        if name == "stopped":
            assert train(recipe, max_steps=4, **options).interrupted
            options["resume"] = True
        weights.append(load_file(train(recipe, **options).last))
    assert all((weights[0][key] == weights[1][key]).all() for key in weights[0])


def test_shards_on_a_web_server(shards, address, tmp_path):
    """Where samples lie comes from the index beside a shard; then only the samples themselves travel."""
    pattern = f"{address}/train/shard-{{000000..000004}}.tar"
    near, far = read_list(shards / "train"), read_list(pattern, num_classes=6)
    assert len(far) == len(near) == 24
    assert far.labels.tolist() == near.labels.tolist()
    spec = ClipSpec.from_recipe(load_recipe("tsm_tiny").model_dump(), "val")
    Ranges.sent = 0
    got = ClipDataset(far, spec)[7]["frames"]
    assert (got == ClipDataset(near, spec)[7]["frames"]).all()
    size = int(near.entry(7).rpartition("+")[2])
    assert Ranges.sent == size
    recipe = load_recipe("tsm_tiny", [*WORDS, "num_workers=1", f"train_data={pattern}", f"val_data={shards / 'val'}"])
    assert not train(recipe, work_dir=tmp_path, quiet=True, max_steps=7).skipped
    with pytest.raises(DataError, match=r"shard-000009\.tar"):
        read_list(f"{address}/train/shard-000009.tar")
