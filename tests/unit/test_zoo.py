"""The catalog, names to files, class names."""

import http.server
import json
import threading
from functools import partial

import pytest
import torch

from clipwise.cli import main
from clipwise.convert.weights import save_mmaction2
from clipwise.convert.zoo import ALIASES, CATALOGUE, Weights, find_weights, imagenet_name
from clipwise.data.classes import class_names, class_names_for
from clipwise.data.flip_labels import FLIP_LABEL_MAPS
from clipwise.engine import pretrained as zoo
from clipwise.engine.checkpoint import load_model_and_passport, read_passport
from clipwise.engine.init_weights import load_start
from clipwise.errors import CheckpointError
from clipwise.models import create_model
from clipwise.recipe import list_recipes, load_recipe

COUNTS = {"kinetics400": 400, "kinetics600": 600, "kinetics700": 700, "sthv1": 174, "jester": 27, "gym99": 99}
REPEATED = {"gym99": 1}  # "(BB) salto backward tucked": on the beam, and as its dismount
# The hashes at the end of the seeds' links (and of TPN's files, which the seed table does not link).
SEED_HASHES = [
    "bea7701f",
    "c9cdc656",
    "75851a7d",
    "a69556c6",
    "a79c555a",
    "1e8fc736",
    "3f9ce182",
    "0d6e5a69",
    "e8dd9e82",
    "decb8568",
    "6b384243",
    "dadca1a3",
    "51b1f7ea",
    "0c730aef",
    "b5dbb701",
    "81e5153e",
    "9250f662",
    "a9c34b54",
    "66ecdb3c",
    "b56a5389",
    "c568e7ad",
    "44362b55",
    "28de4cd5",
]


def test_every_published_file_of_the_seeds_is_there():
    assert set(SEED_HASHES) <= {w.sha256 for w in CATALOGUE.values()}


def test_addresses_are_those_of_the_seeds(shared):
    text = "".join(path.read_text(encoding="utf-8") for path in sorted((shared / "seeds").iterdir()))
    links = {word for word in text.replace("(", " ").replace(")", " ").split() if word.endswith(".pth")}
    links = {link for link in links if link.startswith("https://download.openmmlab.com")}
    assert len(links) == 20
    assert links <= {w.url for w in CATALOGUE.values()}


@pytest.mark.parametrize("weights", CATALOGUE.values(), ids=lambda w: w.name)
def test_entry_agrees_with_its_recipe(weights: Weights):
    assert len(weights.sha256) == (0 if "paddle" in weights.name else 8)
    assert weights.license
    if weights.recipe is None:
        return
    recipe = load_recipe(weights.recipe)
    published = recipe.published
    if weights.name == weights.recipe:
        figures = {"top1": published.top1, "top5": published.top5, "mean_class_accuracy": published.mean_class_accuracy}
        assert weights.metrics == {k: v for k, v in figures.items() if v is not None}
    if "gym99" not in weights.name:
        assert weights.num_classes == published.num_classes


def test_every_recipe_names_weights_that_exist():
    names = {n: load_recipe(n).published.checkpoint for n in list_recipes()}
    unknown = {n: c for n, c in names.items() if c is not None and find_weights(c) is None}
    assert not unknown
    assert all(target in CATALOGUE for target in ALIASES.values())


@pytest.mark.parametrize(("data", "count"), COUNTS.items())
def test_class_lists(data, count):
    names = class_names(data)
    assert names is not None
    assert len(names) == count
    assert len(set(names)) == count - REPEATED.get(data, 0)
    assert all(name == name.strip() and name for name in names)
    if data.startswith("kinetics"):
        assert [n.lower() for n in names] == sorted(n.lower() for n in names)


@pytest.mark.parametrize("data", ["sthv1", "jester"])
def test_mirrored_classes_are_mirrors_by_their_names(data):
    names = class_names(data)
    swap = {"left": "right", "right": "left", "Left": "Right", "Right": "Left"}
    for label, mirrored in FLIP_LABEL_MAPS[data].items():
        assert " ".join(swap.get(word, word) for word in names[label].split()) == names[mirrored]


def test_names_of_outputs():
    assert class_names_for("slowonly_r50_8x8x1_256e_kinetics400_rgb", 400)[0] == "abseiling"
    assert class_names_for("tpn_slowonly_r50_8x8x1_150e_kinetics_rgb", 400)[399] == "zumba"
    gym = class_names_for("slowonly_imagenet_pretrained_r50_4x16x1_120e_gym99_rgb", 400)
    assert (len(gym), gym[98][:4], gym[99], gym[399]) == (400, "(UB)", "99", "399")
    assert class_names_for("slowonly_r50_video_8x8x1_256e_kinetics600_rgb", 600)[58] == "bull fighting"
    assert class_names_for("tsn_r50_1x1x3_75e_ucf101_rgb", 101) is None
    assert class_names_for("slowonly_r50_8x8x1_256e_kinetics400_rgb", 5) is None


def test_unknown_names():
    with pytest.raises(CheckpointError, match="did you mean 'slowonly_r50_4x16x1_256e_kinetics400_rgb"):
        zoo.resolve("slowonly_r50_4x16x1_256e_kinetics400_rgbb")
    with pytest.raises(CheckpointError, match=r"checkpoint 'runs/best.safetensors' does not exist"):
        zoo.resolve("runs/best.safetensors")
    assert imagenet_name("50") == "imagenet_resnet50"
    with pytest.raises(CheckpointError, match="no ImageNet weights for a ResNet of depth 'tiny'"):
        imagenet_name("tiny")


@pytest.fixture
def published(tmp_path, monkeypatch):
    """A tiny network in MMAction2's format, served under an address that the catalog knows."""
    model = create_model("slowonly_tiny", num_classes=27)
    raw = tmp_path / "raw.pth"
    save_mmaction2(raw, model.state_dict(), model, meta={"epoch": 3})
    import hashlib

    digest = hashlib.sha256(raw.read_bytes()).hexdigest()[:8]
    shelf = tmp_path / "shelf"
    shelf.mkdir()
    raw.rename(shelf / f"tiny_jester-{digest}.pth")
    handler = partial(_Quiet, directory=str(shelf))
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler)
    threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True).start()
    url = f"http://127.0.0.1:{server.server_port}/tiny_jester-{digest}.pth"
    recipe = tmp_path / "tiny_jester.yaml"
    recipe.write_text("model: slowonly_tiny\nclip_len: 8\nframe_interval: 2\n")
    monkeypatch.setitem(
        CATALOGUE, "tiny_jester", Weights("tiny_jester", url, str(recipe), 27, {"top1": 97.2}, note="a test")
    )
    monkeypatch.setenv("CLIPWISE_CACHE", str(tmp_path / "cache"))
    monkeypatch.delenv("http_proxy", raising=False)
    yield model, server
    server.shutdown()
    server.server_close()


class _Quiet(http.server.SimpleHTTPRequestHandler):
    def log_message(self, *_):
        pass


def test_a_name_is_downloaded_converted_and_kept(published, tmp_path):
    model, server = published
    path = zoo.resolve("tiny_jester")
    loaded, passport = load_model_and_passport(path)
    assert all(torch.equal(loaded.state_dict()[k], v) for k, v in model.state_dict().items())
    assert passport.classes == class_names("jester")
    assert passport.metrics == {"top1_acc": 0.972}
    assert passport.source.startswith("http://127.0.0.1")
    assert passport.recipe["clip_len"] == 8
    server.shutdown()
    assert zoo.resolve("tiny_jester") == path
    # a conversion that was damaged on the disk is made again from the stored download
    path.write_bytes(b"broken")
    assert load_model_and_passport(zoo.resolve("tiny_jester"))[1].classes is not None


def test_an_address_is_downloaded_once(published, tmp_path):
    _model, server = published
    known = CATALOGUE["tiny_jester"].url
    assert zoo.resolve(known) == zoo.resolve("tiny_jester")
    folder = known.rsplit("/", 1)[0]
    (tmp_path / "shelf/other.pth").write_bytes((tmp_path / "shelf" / known.rsplit("/", 1)[1]).read_bytes())
    first = zoo.resolve(f"{folder}/other.pth", as_it_is=True)
    assert first.name == "other.pth"
    second = zoo.resolve(f"{folder}//other.pth", as_it_is=True)  # the same name at another address is another file
    assert second.name == "other.pth"
    assert second != first
    with pytest.raises(CheckpointError, match=r"missing\.pth"):
        zoo.resolve(f"{folder}/missing.pth")
    server.shutdown()
    assert zoo.resolve(f"{folder}/other.pth", as_it_is=True) == first


def test_a_strangers_file_is_converted(published, tmp_path):
    file = next((tmp_path / "shelf").iterdir())
    assert zoo.resolve(file, as_it_is=True) == file
    recipe = str(tmp_path / "tiny_jester.yaml")
    converted = zoo.resolve(file, recipe)
    assert read_passport(converted).source == str(file)
    assert zoo.resolve(file, recipe) == converted
    with pytest.raises(CheckpointError, match="does not fit"):
        zoo.resolve(file, load_recipe(recipe, ["model=tsn_tiny", "num_segments=4", "clip_len=1"]))


def test_start_from_a_file_with_other_classes(published, tmp_path):
    file = next((tmp_path / "shelf").iterdir())
    model = create_model("slowonly_tiny", num_classes=5)
    line = load_start(model, file, "average")
    assert "classifier re-initialized" in line
    source = published[0].state_dict()
    own = model.state_dict()
    assert all(torch.equal(own[k], v) for k, v in source.items() if not k.startswith("fc."))
    with pytest.raises(CheckpointError, match="does not fit"):
        load_start(create_model("tsn_tiny", num_classes=5), file, "average")


def test_predict_by_name(published, clips, capsys):
    """What the zoo is for: a name and a video, and class names come out; the second time nothing is fetched."""
    video = next(clips.rglob("*.mp4"))
    for _ in range(2):
        assert main(["predict", "tiny_jester", str(video), "--json", "--topk", "3", "--device", "cpu"]) == 0
        found = json.loads(capsys.readouterr().out)["predictions"][0]["predictions"]
        assert len(found) == 3
        assert all(row["class"] == class_names("jester")[row["index"]] for row in found)
        published[1].shutdown()


def test_a_folder_of_the_same_name_is_in_nobodys_way(published, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "tiny_jester").mkdir()
    assert zoo.resolve("tiny_jester").suffix == ".safetensors"


def test_passport_is_json(published):
    header = read_passport(zoo.resolve("tiny_jester"))
    assert json.dumps(header.recipe)
