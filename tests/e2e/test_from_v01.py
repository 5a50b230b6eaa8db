"""What a user of clipwise 0.1 has still works: checkpoints, recipes, interrupted runs, command lines.

Everything in ``golden/v01`` was written by 0.1 (its ``make.py`` says how), the expected scores and weights included.
They are compared bit by bit on the same CPU and torch, and closely elsewhere.
"""

import json
import runpy
import shlex
import shutil
from hashlib import sha256
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import yaml
from safetensors.numpy import load_file

import clipwise
from clipwise.cli import main
from clipwise.engine.own_settings import with_own_settings
from clipwise.recipe import make_recipe

V01 = Path(__file__).resolve().parents[1] / "golden" / "v01"
make = runpy.run_path(str(V01 / "make.py"))
EXPECTED = json.loads((V01 / "expected.json").read_text())
SAME_MACHINE = make["machine"]() == EXPECTED["machine"]

CHANGED: dict[str, set[str]] = {
    "bmn_tiny": {
        *("window_s", "temporal_dim", "model_args.max_duration", "model_args.context", "model_args.feature_dropout"),
        *("bmn.proposals", "epochs", "windows.least"),
    },
    "bmn_grid_sentences": {"window_s", "model_args.context", "model_args.feature_dropout", "bmn.proposals"},
}
"""Packaged recipes that were corrected since 0.1, and their keys."""


@pytest.fixture
def recognizer(tmp_path) -> Path:
    """The interrupted run of a recognizer, as 0.1 left it."""
    folder = tmp_path / "recognizer"
    shutil.copytree(V01 / "recognizer", folder)
    for header in folder.glob("*.header"):
        data = make["rebuild"](header.read_bytes(), load_file(header.with_suffix(".trained")))
        name = f"{header.stem}.safetensors"
        assert sha256(data).hexdigest() == EXPECTED["recognizer"]["files"][name]
        (folder / name).write_bytes(data)
        header.unlink()
        header.with_suffix(".trained").unlink()
    return folder


@pytest.fixture
def bmn(tmp_path) -> Path:
    """The interrupted run of a BMN; its data lie in ``tmp_path``."""
    make["write_long_data"](tmp_path)
    shutil.copytree(V01 / "bmn", tmp_path / "bmn")
    return tmp_path / "bmn"


def assert_reaches(checkpoint: Path, final: str, digest: str) -> None:
    tensors = load_file(checkpoint)
    for key, wanted in load_file(V01 / final).items():
        np.testing.assert_allclose(tensors[key], wanted, rtol=1e-3, atol=1e-5, err_msg=key)
    if SAME_MACHINE:
        assert make["digest"](tensors) == digest


def test_an_interrupted_recognizer_resumes_to_the_weights_that_0_1_reaches(recognizer):
    before = (recognizer / "log.jsonl").read_text().splitlines()
    line = ["train", *make["RECOGNIZER"], "--data", V01 / "clips", "--work-dir", recognizer, "--resume"]
    make["run"](*line)
    assert_reaches(recognizer / "last.safetensors", "recognizer_final.safetensors", EXPECTED["recognizer"]["sha256"])
    after = (recognizer / "log.jsonl").read_text().splitlines()
    assert after[: len(before)] == before
    assert [(line["epoch"], line["iter"]) for line in map(json.loads, after) if line["mode"] == "train"] == [
        (epoch, batch) for epoch in (1, 2, 3) for batch in range(1, 9)
    ]


@pytest.mark.parametrize("words", [["recipe.yaml"], make["BMN"]], ids=["recipe file", "command line"])
def test_an_interrupted_bmn_resumes(bmn, tmp_path, words):
    (bmn / ".last.safetensors.k1ll3d.tmp").write_bytes(b"half a file")  # of a kill while it wrote
    words = [bmn / words[0], *words[1:]] if words[0] == "recipe.yaml" else words
    make["run"]("train", *words, "--data", tmp_path, "--work-dir", bmn, "--resume")
    assert_reaches(bmn / "last.safetensors", "bmn_final.safetensors", EXPECTED["bmn"]["sha256"])


def test_an_interrupted_run_of_two_processes_resumes(tmp_path):
    """Each process has a state of its own; the weights are averages, so the run's own are in the first one's."""
    make["write_long_data"](tmp_path)
    folder = tmp_path / "two"
    shutil.copytree(V01 / "two", folder)
    assert len(list(folder.glob("state-*-rank?.pt"))) == 2
    make["run"]("train", *make["TWO"], "--data", tmp_path, "--work-dir", folder, "--resume", processes=2)
    assert_reaches(folder / "last.safetensors", "two_final.safetensors", EXPECTED["two"]["sha256"])


def test_a_checkpoint_predicts_the_scores_of_0_1(recognizer, tmp_path):
    printed = make["run"]("predict", recognizer / "last.safetensors", V01 / "clips", "--json", "--topk", 3)
    found = json.loads(printed)["predictions"]
    assert len(found) == len(EXPECTED["scores"]) == 18
    for video in found:
        wanted = EXPECTED["scores"]["/".join(Path(video["source"]).parts[-2:])]
        scores = {each["class"]: each["score"] for each in video["predictions"]}
        assert scores == (wanted if SAME_MACHINE else pytest.approx(wanted, abs=1e-4))


def test_a_bmn_finds_the_segments_of_0_1(bmn, tmp_path):
    line = ["localize", bmn / "last.safetensors", tmp_path / "features", "--gt", tmp_path / "annotations.json"]
    found = json.loads(make["run"](*line, "--no-names", "--json"))["videos"]
    assert len(found) == len(EXPECTED["segments"]) == 8
    for video in found:
        wanted = EXPECTED["segments"][Path(video["source"]).stem]
        segments = [[s["start_s"], s["end_s"], s["score"]] for s in video["segments"]]
        if SAME_MACHINE:
            assert segments == wanted
        else:
            np.testing.assert_allclose(segments, wanted, atol=2e-4)


def test_the_passport_is_understood(recognizer, capsys):
    model = clipwise.load_model(recognizer / "best.safetensors")
    assert (type(model).__name__, model.classifier.out_features) == ("TSM", 3)
    assert main(["info", str(recognizer / "best.safetensors"), "--json"]) == 0
    assert "moves left" in capsys.readouterr().out


@pytest.mark.filterwarnings("ignore:.*is .* now")
def test_the_runs_recipes_say_the_same(recognizer, bmn):
    """Flat, with every key written out; and the command line that made it."""
    for folder, words in ((recognizer, make["RECOGNIZER"]), (bmn, make["BMN"])):
        overrides = [word for word in words[1:] if "=" in word]
        written = clipwise.load_recipe(folder / "recipe.yaml").model_dump()
        made = clipwise.load_recipe(words[0], overrides).model_dump()
        made |= {"seed": 5, "deterministic": True}
        assert written["feat_dim"] == make["FEAT_DIM"] if "feat_dim" in made else True
        made["optim"] |= {"fused": False}  # 0.1's default, written out; now each device has its own
        if "feat_dim" in made:
            made |= {"feat_dim": make["FEAT_DIM"], "window_s": None, "bmn": made["bmn"] | {"proposals": "paddle"}}
            made |= {"windows": made["windows"] | {"least": 0}}
        assert written == made


def packaged() -> dict[str, dict]:
    """The 64 recipes of 0.1, each with all its keys."""
    groups = json.loads((V01 / "recipes.json").read_text())
    return {name: {**g["first"], **changes} for g in groups.values() for name, changes in g["changes"].items()}


@pytest.mark.filterwarnings("ignore:.*is .* now")
def test_every_packaged_recipe_of_0_1_loads_and_means_the_same(tmp_path):
    recipes = packaged()
    assert len(recipes) == 64
    different = {}
    for name, content in recipes.items():
        path = tmp_path / f"{name}.yaml"
        path.write_text(yaml.safe_dump(content, sort_keys=False, allow_unicode=True))
        old, new = flat(clipwise.load_recipe(path).model_dump()), flat(clipwise.load_recipe(name).model_dump())
        # optim.fused: 0.1 wrote its default out; now it is chosen for the device, and is the same on a CPU
        keys = {
            key
            for key in (old.keys() | new.keys()) - {"notes", "optim.fused"}
            if old.get(key, ...) != new.get(key, ...)
        }
        if keys != CHANGED.get(name, set()):
            different[name] = {key: (old.get(key), new.get(key)) for key in keys}
    assert different == {}


@pytest.mark.filterwarnings("ignore:.*is .* now")
def test_flat_keys_on_the_command_line_still_change_a_recipe(tmp_path):
    """From one packaged recipe to another, key by key as 0.1 wrote them."""
    for name, content in packaged().items():
        base = "tsn_r50_1x1x3_100e_kinetics400_rgb" if content["task"] == "recognition" else "bmn_activitynet"
        start = packaged()[base]
        overrides = [
            f"{key}={yaml.safe_dump(value, default_flow_style=True, width=9999).removesuffix(chr(10)).removesuffix(chr(10) + '...')}"
            for key, value in content.items()
            if value != start[key] and key not in ("name", "notes", "paper", "published")
        ]
        path = tmp_path / "recipe.yaml"
        path.write_text(yaml.safe_dump({**start, **{k: content[k] for k in ("name", "notes", "paper", "published")}}))
        made = clipwise.load_recipe(path, overrides)
        path.write_text(yaml.safe_dump(content))
        assert made == clipwise.load_recipe(path), name


def flat(values: dict, prefix: str = "") -> dict:
    found = {}
    for key, value in values.items():
        found |= flat(value, f"{prefix}{key}.") if isinstance(value, dict) and value else {f"{prefix}{key}": value}
    return found


LINES = """
train tsm_tiny --data no.txt --val-data no2.txt --work-dir W --no-validate --seed 1 --deterministic --init no.safetensors --max-steps 3
train no.yaml --data d --validate --resume --amp bf16 --compile --auto-scale-lr --no-check --device cpu --json lr=0.1 epochs=2
train no.yaml --modern --verify-resume
train no.yaml --resume W/last.safetensors batch_size=2 model_args.dropout=0.2 mixup=0.1
test tsm_tiny no.safetensors --data d --eval top_k_accuracy mean_class_accuracy --topk 1 3 --out s.json --average-clips score
test no.safetensors --max-views 2 --allow-missing --amp bf16 --report R --num-workers 0 --device cpu --json test_crop=three
predict no.safetensors a.mp4 b/ --topk 3 --csv s.csv --max-views 2 --amp no --device cpu --json
predict no.safetensors a.mp4 --jsonl s.jsonl --shard 1/4
predict no.safetensors a.mp4 --out annotated.mp4
localize no.safetensors a.mp4 --features-from f.safetensors --labeler l.safetensors --naming video --max-segments 5 --min-score 0.1
localize no.safetensors a.mp4 --max-overlap 0.3 --frame-rate 25 --csv a.csv --srt a.srt --timeline a.svg --preview a2.mp4 --out-dir O
localize no.safetensors f.npy --no-names --duration 12 --gt g.json --results r.json --class-scores c.json --amp no --shard 1/2 --json
features no.safetensors v/ --out F --stride 8 --window 16 --fps 10 --frame-rate 25 --segments 4 --kind probs --positions 100 --rescale pool
features no.safetensors v/ --out F --grid fixed --format csv --flow-model no2.safetensors --flow-frames flow --batch-size 4 --shard 1/2
stream no.safetensors a.mp4 --window 2 --stride 1 --fps 5 --clips 2 --smooth 3 --threshold 0.5 --release 0.3 --min-duration 1 --topk 2
stream no.safetensors a.mp4 --srt a.srt --out b.mp4 --no-live --reconnect 2 --timeout 5 --source-format v4l2 --max-seconds 9 --online --json
check no.txt no2.txt --recipe tsm_tiny --depth full --num-classes 4 --min-frames 8 --root r --workers 1 --fix F --show 5 --json
prepare index no --out i.npz --verify --workers 1 --json
prepare resize no t --workers 1 --shard 1/2 --short-side 256 --gop 8 --crf 23 --preset fast --overwrite --json
prepare frames no t --template {:05}.jpg --step 2 --short-side 256 --quality 2 --overwrite --json
prepare flow no t --method dis --bound 20 --template {}_{:05d}.jpg --short-side 256 --overwrite --json
prepare lists no t --shares train=0.8 val=0.2 --group (.*)_ --seed 1 --json
prepare shards no.txt t --samples 10 --root r --no-shuffle --json
prepare gym99 no t --videos v --json
prepare jester no t --videos v --json
convert no.pth --recipe tsm_tiny --set num_segments=8 --out o.safetensors --partial --classes c.txt --source somewhere --json
convert no.safetensors --to mmaction2 --out o.pth
convert no.pth --recipe bmn_activitynet --weights-of jjboy --out o.safetensors
export no.safetensors --format onnx --out o.onnx --float-input --check-clips l.txt --num-check 4 --device cpu --json test_crop=center
export no.safetensors --format onnx --int8 --calibration l.txt --num-calibration 4 --min-agreement 0.8
export no.safetensors --format torch --aot
info no.safetensors --frames 8 --size 224 --views 2 --batch 4 --device meta --json
fuse no.json no2.json --weights 1 2 --softmax --labels l.txt --list-format auto --topk 1 5 --search a.json b.json --search-labels d.txt --out o.json
compare no.json no2.json --names A B --confidence 0.9 --resamples 100 --seed 1 --limit 3 --report R --json
analyze no.safetensors --data d --limit 4 --protocol val --no-masks --no-importance --centre 0.5 --seed 1 --num-workers 0 --report R --json
analyze no.safetensors --gradcam a.mp4 --out o.mp4 --class ring --amp no --max-views 2 --device cpu
plot no no2 --out c.svg --keys loss top1_acc --names a b --smooth 0.5 --json
plot no --time --include-outliers
bench no.safetensors --data d --limit 5 --runs 2 --seconds 1 --max-views 2 --amp no --threads 1 --device cpu --json
bench no.safetensors --data d --frontier --clips 1 3 --crops center three --sizes 64 --precisions fp32 --backends pytorch --tolerance 0.02
explain no.yaml --devices 8 --samples 1000 --modern --json lr=0.1
explain no.yaml --keys
diff no.yaml tsm_tiny --json
eval-proposals no.json g.json --subset all --max-proposals 50 --tiou 0.5 0.75 --plot p.svg --video-info v.csv --json
eval-detections no.json g.json --subset all --class-scores c.json --top-classes 1 --score proposal --tiou 0.5 --per-class --json
eval-detections no.json --gt g.json --thumos
serve no.safetensors --localizer no2.safetensors --port 0 --allow-host h --allow-urls --decoders 2 --max-batch 4 --window 2 --threshold 0.5
serve no.safetensors --port 0 --amp no --max-views 2 --device cpu --max-upload-mb 10 --max-files 2 --max-duration-s 10 --max-frames 100
serve no.safetensors --port 0 --max-pixels 1000000 --upload-timeout-s 5 --idle-timeout-s 5 --decode-timeout-s 5 --decode-memory-mb 512
serve no.safetensors --port 0 --request-timeout-s 5 --queue-length 4 --per-client 2 --max-windows 10 --result-ttl-s 60
"""


@pytest.mark.parametrize("line", LINES.strip().splitlines())
def test_command_lines_of_0_1_are_still_understood(line, tmp_path, monkeypatch, capsys):
    """Each names files that do not exist, so it is refused, but not for how it is written."""
    monkeypatch.chdir(tmp_path)
    code = main(shlex.split(line))
    said = capsys.readouterr().err
    assert "usage:" not in said
    assert "unrecognized" not in said
    assert code == 2, said


def test_short_forms_that_need_no_file_work(capsys):
    for line in (
        "recipes tsm --json",
        "info tsm_tiny --json",
        "explain tsm_tiny lr=0.1 mixup=0.2 --json",
        "doctor --json",
        "info --zoo",
    ):
        assert main(line.split()) == 0, line
    out = capsys.readouterr().out
    assert "tsm_r50_1x1x8_50e_kinetics400_rgb" in out


def test_an_interrupted_run_of_a_recipe_that_has_changed_since_goes_on_with_its_own_settings(tmp_path, capsys):
    """`bmn_tiny` has other sizes and epochs today than in 0.1; the plain name means the run's, and that is said."""
    plain = packaged()["bmn_tiny"]
    make["write_long_data"](tmp_path)
    path, folder = tmp_path / "bmn_tiny.yaml", tmp_path / "run"
    path.write_text(yaml.safe_dump({**plain, "num_workers": 0, "epochs": 2}))
    lines = ["--data", str(tmp_path), "--work-dir", str(folder), "--no-check"]
    assert main(["train", str(path), *lines, "--max-steps", "1"]) == 0
    before = clipwise.load_recipe(folder / "recipe.yaml").model_dump()
    capsys.readouterr()
    assert main(["train", "bmn_tiny", *lines, "--resume", "log.every=3"]) == 0
    said = capsys.readouterr().err
    assert "resuming with the run's own settings, which differ from those of bmn_tiny" in said
    assert "epochs 2 (now " in said
    assert "(now auto)" not in said  # what the run found in its data is found again
    after = clipwise.load_recipe(folder / "recipe.yaml").model_dump()
    assert after.pop("log") == {**before.pop("log"), "every": 3}
    assert after == before
    assert main(["train", "bmn_tiny", *lines, "--resume", "lr=0.5"]) == 2
    assert "the recipe differs from the checkpoint's in lr" in capsys.readouterr().err


@pytest.mark.filterwarnings("ignore")
def test_every_packaged_recipe_of_0_1_resumes_as_itself_by_its_name():
    """Whatever its defaults are today; what the user gives counts."""

    lines: list[str] = []
    log = SimpleNamespace(say=lines.append)
    for name, content in packaged().items():
        old, today = flat(make_recipe(content).model_dump()), clipwise.load_recipe(name)
        lines.clear()
        found = flat(with_own_settings(today, content, log).model_dump())
        assert found | {"notes": 0} == old | {"notes": 0}
        assert len(lines) == (today.optim.fused != old["optim.fused"] or name in CHANGED)
        given = with_own_settings(clipwise.load_recipe(name, ["lr=0.123", "checkpoint.keep=9"]), content, log)
        assert flat(given.model_dump()) | {"notes": 0} == old | {
            "lr": 0.123,
            "checkpoint.keep": 9,
            "notes": 0,
        }
