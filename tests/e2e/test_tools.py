"""The seeds' command lines: MMAction2's and PaddleCV's programs, run as their users run them."""

import json
import os
import pickle
import subprocess
import sys
from pathlib import Path

import pytest

from clipwise.convert.weights import save_mmaction2
from clipwise.engine.checkpoint import Passport, load_model_and_passport, read_passport, save_weights
from clipwise.models import create_model
from helpers import load_script

ROOT = Path(__file__).resolve().parents[2]
ENVIRONMENT = {**os.environ, "OMP_NUM_THREADS": "1"}
TPN = "configs/recognition/tpn/tpn_slowonly_r50_8x8x1_150e_kinetics_rgb.py"
SMALL = [
    "model=tpn_slowonly_tiny",
    "crop_size=32",
    "val.resize=32",
    "val.crop_size=32",
    "test.resize=32",
    "test.crop_size=32",
]


def call(*words, cwd, **environment):
    done = subprocess.run(
        [sys.executable, *map(str, words)], cwd=cwd, env={**ENVIRONMENT, **environment}, capture_output=True, text=True
    )
    return done.returncode, done.stdout, done.stderr


@pytest.fixture(scope="module")
def layout(clips, tmp_path_factory):
    """A folder as MMAction2's users have it: data/kinetics400 with lists and videos_train, videos_val."""
    home = tmp_path_factory.mktemp("home")
    data = home / "data" / "kinetics400"
    data.mkdir(parents=True)
    for part in ("train", "val"):
        (data / f"videos_{part}").symlink_to(clips / part)
        folders = sorted(p for p in (clips / part).iterdir() if p.is_dir())
        lines = [
            f'"{folder.name}/{video.name}" {label}'
            for label, folder in enumerate(folders)
            for video in sorted(folder.iterdir())[:1]
        ]
        (data / f"kinetics400_{part}_list_videos.txt").write_text("\n".join(lines) + "\n")
    return home


@pytest.fixture(scope="module")
def run(layout):
    options = [*SMALL, "total_epochs=1", "data.videos_per_gpu=3", "data.workers_per_gpu=0", "optimizer.lr=0.002"]
    options += ["log_config.interval=1"]
    words = [TPN, "--work-dir", "work_dirs/tpn", "--validate", "--seed", "0", "--deterministic", "--device", "cpu"]
    code, out, err = call(ROOT / "tools/train.py", *words, "--cfg-options", *options, cwd=layout)
    assert code == 0, err
    return layout, out, err


def test_train_with_mmaction2s_command_line(run):
    layout, _, err = run
    passport = read_passport(layout / "work_dirs/tpn/last.safetensors")
    recipe = passport.recipe
    assert (recipe["epochs"], recipe["batch_size"], recipe["lr"], recipe["seed"]) == (1, 3, 0.002, 0)
    assert recipe["deterministic"]
    assert recipe["train_data"] == "data/kinetics400/kinetics400_train_list_videos.txt"
    assert recipe["val"]["data_root"] == "data/kinetics400/videos_val"
    assert "top1_acc" in passport.metrics
    assert "# clipwise train tpn_slowonly_r50_8x8x1_150e_kinetics_rgb" in err


def test_test_with_mmaction2s_command_line(run, tmp_path):
    layout, _, _ = run
    model, _ = load_model_and_passport(layout / "work_dirs/tpn/last.safetensors")
    save_mmaction2(tmp_path / "theirs.pth", model.state_dict(), model)
    results = []
    for checkpoint in ("work_dirs/tpn/last.safetensors", tmp_path / "theirs.pth"):
        out = tmp_path / f"{Path(checkpoint).stem}.json"
        words = [
            TPN,
            checkpoint,
            "--eval",
            "top_k_accuracy",
            "mean_class_accuracy",
            "--out",
            out,
            "--average-clips=prob",
        ]
        words += ["--device", "cpu", "--cfg-options", *SMALL, "test.num_clips=2", "data.workers_per_gpu=0"]
        code, told, err = call(ROOT / "tools/test.py", *words, cwd=layout, CLIPWISE_CACHE=str(tmp_path / "cache"))
        assert code == 0, err
        assert "top1_acc\t" in told
        assert "mean_class_accuracy\t" in told
        results.append(json.loads(out.read_text())["results"])
    assert len(results[0]) == 6
    assert [r["scores"] for r in results[0]] == [r["scores"] for r in results[1]]


@pytest.fixture
def mmaction2(monkeypatch):
    """The door with the command line behind it replaced by a list of what it was given."""
    module = load_script(ROOT / "tools/mmaction2_style.py")
    seen = []
    monkeypatch.setattr(module.cli, "main", lambda words: seen.append(words) or 0)
    return module, seen


def test_options_are_translated(mmaction2):
    module, seen = mmaction2
    config = "configs/recognition/slowonly/slowonly_r50_8x8x1_256e_kinetics400_flow.py"
    options = ["lr_config.policy=CosineAnnealing", "optim_wrapper.optimizer.lr=0.3", "train_cfg.max_epochs=3"]
    options += ["model.backbone.pretrained=torchvision://resnet50", "lr_config.step=(1,2)", "load_from=x.pth"]
    assert (
        module.train([config, "--data", "d", "--amp", "--auto-scale-lr", "--resume", "--cfg-options", *options[:4]])
        == 0
    )
    words = seen[-1]
    assert words[:2] == ["train", "slowonly_r50_8x8x1_196e_kinetics400_flow"]
    assert {"lr_schedule=cosine", "lr=0.3", "epochs=3", "init=imagenet_resnet50", "--auto-scale-lr"} <= set(words)
    assert words[words.index("--resume") + 1] == "auto"
    assert words[words.index("--amp") + 1] == "bf16"
    assert words[words.index("--work-dir") + 1] == "work_dirs/slowonly_r50_8x8x1_256e_kinetics400_flow"
    assert module.train(["tsm_tiny", "--data", "d", "--no-validate", "--test-best", "--cfg-options", *options[4:]]) == 0
    train, test = seen[-2:]
    assert {"schedule.milestones=[1,2]", "init=x.pth", "--no-validate"} <= set(train)
    assert test == [
        "test",
        "work_dirs/tsm_tiny/best.safetensors",
        "--data",
        "d",
        "--out",
        "work_dirs/tsm_tiny/best_pred.pkl",
    ]
    assert (
        module.test(
            ["tsm_tiny", "c.pth", "--data", "d", "--dump", "o.pkl", "--eval-options", "top_k_accuracy.topk=(1,3)"]
        )
        == 0
    )
    assert seen[-1] == ["test", "tsm_tiny", "c.pth", "--topk", "1", "3", "--data", "d", "--out", "o.pkl"]


def test_more_of_1x(mmaction2, capsys):
    module, seen = mmaction2
    words = ["tsm_tiny", "c.pth", "--data", "d", "--show-dir", "seen", "--interval", "5", "--wait-time", "2"]
    assert module.test([*words, "--work-dir", "w", "--cfg-options", "test_dataloader.batch_size=4"]) == 0
    assert seen[-1] == ["test", "tsm_tiny", "c.pth", "--data", "d", "--out", "w/tsm_tiny.json", "--report", "seen"]
    told = capsys.readouterr().err
    assert "--interval has no effect" in told
    assert "test_dataloader.batch_size=4 has no effect: a test takes one video at a time" in told
    options = ["optim_wrapper.type=AmpOptimWrapper", "auto_scale_lr.enable=True", "randomness.deterministic=True"]
    options += [
        "optim_wrapper.optimizer.type=SGD",
        "optimizer_config.grad_clip=None",
        "checkpoint_config.max_keep_ckpts=3",
    ]
    assert module.train(["tsm_tiny", "--data", "d", "--cfg-options", *options]) == 0
    expected = {
        "amp=bf16",
        "auto_scale_lr=True",
        "deterministic=True",
        "optimizer=sgd",
        "grad_clip=null",
        "checkpoint.keep=3",
    }
    assert expected <= set(seen[-1])
    from clipwise.recipe import load_recipe

    load_recipe("tsm_tiny", [word for word in seen[-1][2:] if "=" in word])  # each is a key with a value that it takes


def test_video_recipes_look_for_video_lists_first(mmaction2, tmp_path, monkeypatch):
    module, seen = mmaction2
    monkeypatch.chdir(tmp_path)
    folder = tmp_path / "data" / "kinetics400"
    folder.mkdir(parents=True)
    for part in ("train", "val"):
        for kind in ("videos", "rawframes"):
            (folder / f"kinetics400_{part}_list_{kind}.txt").write_text("")
    for name, kind in (("slowonly_r50_video", "videos"), ("slowonly_r50", "rawframes")):
        assert module.train([f"{name}_4x16x1_256e_kinetics400_rgb"]) == 0
        assert f"train_data=data/kinetics400/kinetics400_train_list_{kind}.txt" in seen[-1]


@pytest.mark.skipif(os.name == "nt", reason="shell scripts")
def test_run_sh_says_what_it_can_do():
    done = subprocess.run(["bash", str(ROOT / "run.sh")], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert "bash run.sh demo" in done.stdout
    assert done.stdout.endswith("(default .venv).\n")


@pytest.mark.skipif(os.name == "nt", reason="shell scripts")
def test_scripts_for_several_processes(layout):
    """dist_train.sh and dist_test.sh of MMAction2: what they would run, and a wrong call."""
    for name, words, message in (
        (
            "train",
            [TPN, "8", "--work-dir", "w"],
            f"--nproc-per-node 8 {ROOT}/tools/train.py {TPN} --launcher pytorch --work-dir w",
        ),
        (
            "test",
            [TPN, "c.pth", "2"],
            f"--nnodes 2 --node-rank 1 --master-addr 10.0.0.1 --master-port 29500 --nproc-per-node 2 {ROOT}/tools/test.py {TPN} c.pth",
        ),
    ):
        script = str(ROOT / f"tools/dist_{name}.sh")
        nodes = {"NNODES": "2", "NODE_RANK": "1", "MASTER_ADDR": "10.0.0.1"} if name == "test" else {}
        environment = {**os.environ, "PYTHON": "echo", **nodes}
        done = subprocess.run(["bash", script, *words], capture_output=True, text=True, env=environment)
        assert done.returncode == 0, done.stderr
        assert message in done.stdout
        wrong = subprocess.run(["bash", script, TPN], capture_output=True, text=True, env=environment)
        assert wrong.returncode == 2
        assert f"tools/dist_{name}.sh CONFIG" in wrong.stderr


@pytest.mark.parametrize(
    ("program", "words", "message"),
    [
        (
            "train",
            ["tsm_tiny", "--cfg-options", "data.train.pipeline.0.type=X"],
            "without a counterpart: data.train.pipeline",
        ),
        ("train", ["tsm_tiny", "--cfg-options", "optimiser.lr=1"], "near: optimizer.lr"),
        ("train", ["tsm_tiny", "--gpus", "8"], "torchrun --nproc-per-node 8"),
        ("train", ["tsm_tiny", "--launcher", "slurm"], "start the processes with torchrun"),
        (
            "train",
            ["configs/recognition/tsm/tsm_r50_1x1x8_50e_sthv1_rgb.py"],
            "data/sthv1/sthv1_train_list_rawframes.txt",
        ),
        ("train", ["configs/recognition/csn/ircsn.py"], "recipe 'ircsn' is not known"),
        ("test", ["tsm_tiny", "c.pth", "--onnx"], "clipwise export"),
        ("test", ["tsm_tiny", "c.pth", "--eval-options", "x=1"], "only top_k_accuracy.topk has"),
    ],
)
def test_what_has_no_counterpart_is_refused(mmaction2, capsys, program, words, message, tmp_path, monkeypatch):
    module, seen = mmaction2
    monkeypatch.chdir(tmp_path)
    assert getattr(module, program)(words) == 2
    assert message in capsys.readouterr().err
    assert not seen


PADDLE_CONFIG = """
MODEL: {name: "TSN", format: "mp4", num_classes: 6, seg_num: 3, seglen: 1, image_mean: [0.485, 0.456, 0.406],
        image_std: [0.229, 0.224, 0.225], num_layers: 50, topk: 2}
TRAIN: {epoch: 3, short_size: 40, target_size: 32, num_reader_threads: 1, buf_size: 1024, batch_size: 6, use_gpu: True,
        num_gpus: 8, filelist: "train.list", learning_rate: 0.02, learning_rate_decay: 0.1, l2_weight_decay: 1e-4,
        momentum: 0.9, total_videos: 224684}
VALID: {short_size: 40, target_size: 32, batch_size: 6, filelist: "val.list"}
TEST: {seg_num: 7, short_size: 40, target_size: 32, batch_size: 16, filelist: "val.list"}
INFER: {short_size: 40, target_size: 32, batch_size: 1, filelist: "val.list", video_path: ""}
"""


@pytest.fixture(scope="module")
def paddle(clips, tmp_path_factory):
    home = tmp_path_factory.mktemp("paddle")
    (home / "tsn.yaml").write_text(PADDLE_CONFIG)
    for part in ("train", "val"):
        (home / part).mkdir()
        lines = []
        for label, folder in enumerate(sorted(p for p in (clips / part).iterdir() if p.is_dir())):
            video = sorted(folder.iterdir())[0]
            (home / part / f"{label}.mp4").symlink_to(video)
            lines.append(f"{part}/{label}.mp4 {label}")
        (home / f"{part}.list").write_text("\n".join(lines) + "\n")
    return home


def test_paddles_flags(paddle, monkeypatch, capsys):
    module = load_script(ROOT / "tools/paddle_style.py")
    theirs = module._recipe

    def tiny(*given):  # the flags have no word for a small body
        name, keys = theirs(*given)
        return name, {**keys, "model": "tsn_tiny", "model_args": "{dropout: 0.0, fc_std: null}"}

    monkeypatch.setattr(module, "_recipe", tiny)
    monkeypatch.chdir(paddle)
    # without a network there are no ImageNet weights: a file of our own stands for --pretrain
    start = create_model("tsn_tiny", num_classes=400)
    save_weights("start.safetensors", start.state_dict(), Passport("tsn_tiny", {"num_classes": 400}))
    flags = ["--model_name=TSN", "--config=./tsn.yaml", "--log_interval=1", "--use_gpu=False"]
    more = ["--save_dir=./out", "--fix_random_seed=False", "--epoch=1", "--valid_interval=1"]
    assert module.main(["train", *flags, *more, "--pretrain=start.safetensors"]) == 0
    passport = read_passport("out/last.safetensors")
    recipe = passport.recipe
    assert (recipe["epochs"], recipe["batch_size"], recipe["lr"]) == (1, 6, 0.02)
    assert recipe["schedule"]["milestones"] == [1 / 3, 2 / 3]
    assert (recipe["num_segments"], recipe["input"]["resize_rule"]) == (3, "paddle_4x3")
    assert (recipe["augment"]["resize"], recipe["crop_size"], recipe["val"]["crop_size"]) == (40, 32, 32)
    assert recipe["input"]["mean"] == pytest.approx([123.675, 116.28, 103.53])
    assert recipe["lists"]["format"] == "paddle_mp4"
    capsys.readouterr()
    assert module.main(["eval", "TSN", "./tsn.yaml", "--weights=out/last.safetensors", "--use_gpu=False"]) == 0
    told = capsys.readouterr()
    assert "top1_acc\t" in told.out
    assert "test.num_segments=7" in told.err
    words = [
        ROOT / "tools/predict.py",
        *flags,
        "--weights=out/last.safetensors",
        "--video_path=val/0.mp4",
        "--infer_topk=20",
    ]
    code, out, err = call(*words, cwd=paddle)
    assert code == 0, err
    assert "video_id val/0.mp4 , topk(2) preds:" in out
    assert out.count("probability:") == 2
    assert "--infer_topk has no effect" in err


def test_paddles_mistakes(paddle, capsys, monkeypatch):
    module = load_script(ROOT / "tools/paddle_style.py")
    monkeypatch.chdir(paddle)
    Path("broken.yaml").write_text("MODEL: {name: [\n")
    Path("avi.yaml").write_text(PADDLE_CONFIG.replace('"mp4"', '"avi"'))
    for words, message in (
        (["train", "TSN", "broken.yaml"], "broken.yaml is not valid YAML"),
        (["train", "TSN", "avi.yaml"], "MODEL.format is 'avi'; pkl and mp4 are read"),
        (["train", "TSN", "elsewhere/tsn.yaml"], "data/dataset/kinetics/train.list does not exist"),
        (["train", "TSM", "tsm.yaml"], "tsm_r50_1x1x8_50e_kinetics400_rgb"),
        (["train", "TSN", "missing.yaml"], "missing.yaml does not exist"),
        (["train", "TSN", "val.list"], "no MODEL section"),
        (["train", "--model_name=TSN", "--use_gpu=maybe"], "neither True nor False"),
        (["inference", "TSN"], "invalid choice"),
    ):
        assert module.main(words) == 2
        assert message in capsys.readouterr().err


@pytest.fixture
def published_tsn(paddle, monkeypatch, tmp_path):
    """The door, with a tiny network in the place of Paddle's published one, and a small body for our own."""
    from clipwise.convert.zoo import CATALOGUE, Weights

    module = load_script(ROOT / "tools/paddle_style.py")
    model = create_model("tsn_tiny", num_classes=6, dropout=0.0, fc_std=None)
    save_mmaction2(tmp_path / "TSN.pth", model.state_dict(), model)
    recipe = tmp_path / "tsn.yaml"
    recipe.write_text(
        "model: tsn_tiny\nmodel_args: {dropout: 0.0, fc_std: null}\nnum_segments: 3\nsampling: paddle\n"
        "test_resize: 40\ntest_crop_size: 32\n"
    )
    weights = Weights(module.PUBLISHED, (tmp_path / "TSN.pth").as_uri(), str(recipe), 6)
    monkeypatch.setitem(CATALOGUE, module.PUBLISHED, weights)
    monkeypatch.setenv("CLIPWISE_CACHE", str(tmp_path / "cache"))
    theirs = module._recipe

    def tiny(*given):
        name, keys = theirs(*given)
        return name, {**keys, "model": "tsn_tiny", "model_args": "{dropout: 0.0, fc_std: null}"}

    monkeypatch.setattr(module, "_recipe", tiny)
    monkeypatch.chdir(paddle)
    return module


def test_paddles_published_model_is_taken_without_weights(published_tsn, capsys):
    """The seed: a script without --weights downloads the published model, for eval and for predict."""
    assert published_tsn.main(["eval", "TSN", "./tsn.yaml", "--use_gpu=False"]) == 0
    assert "top1_acc\t" in capsys.readouterr().out
    words = ["predict", "TSN", "./tsn.yaml", "--use_gpu=False", "--video_path=val/0.mp4"]
    assert published_tsn.main(words) == 0
    told = capsys.readouterr()
    assert "--weights is not given: the published model" in told.err
    assert told.out.count("probability:") == 2


def test_paddles_predict_over_a_list(published_tsn, shared, capsys):
    """Every video of the list, mp4 or pickle; a broken one is named and the others are predicted."""
    Path("bad.mp4").write_bytes(b"no video")
    Path("some.list").write_text("val/0.mp4 0\nbad.mp4 1\nval/1.mp4 2\n")
    words = ["predict", "TSN", "./tsn.yaml", "--use_gpu=False", "--filelist=some.list"]
    assert published_tsn.main([*words, "--save_dir=said"]) == 1
    told = capsys.readouterr()
    assert [line.split()[1] for line in told.out.splitlines() if line.startswith("video_id")] == [
        "val/0.mp4",
        "val/1.mp4",
    ]
    assert "bad.mp4" in told.err
    assert len(json.loads(Path("said/TSN_predictions.json").read_text())) == 2
    folder = shared / "data/rawframes_jumprun/demo_dataset/jumping/0001"
    jpegs = [(folder / f"img_{i:05}.jpg").read_bytes() for i in (1, 2, 3)]
    Path("clip.pkl").write_bytes(pickle.dumps(("clip", 0, jpegs), protocol=2))
    Path("pkl.list").write_text("clip.pkl\n")
    Path("pkl.yaml").write_text(PADDLE_CONFIG.replace('format: "mp4"', 'format: "pkl"'))
    assert published_tsn.main(["predict", "TSN", "pkl.yaml", "--use_gpu=False", "--filelist=pkl.list"]) == 0
    assert "video_id clip.pkl , topk(2) preds:" in capsys.readouterr().out


def test_paddles_labels_must_fit_the_network(published_tsn, capsys):
    Path("names.json").write_text(json.dumps(["a", "b"]))
    config = PADDLE_CONFIG.replace("INFER: {", 'INFER: {kinetics_labels: "names.json", ')
    Path("labels.yaml").write_text(config)
    words = ["predict", "TSN", "labels.yaml", "--use_gpu=False", "--video_path=val/0.mp4"]
    assert published_tsn.main(words) == 2
    assert "names.json has 2 names, but the network has 6 outputs" in capsys.readouterr().err
    Path("names.json").write_text(json.dumps(list("abcdef")))
    assert published_tsn.main(words) == 0
    assert "class: " in capsys.readouterr().out


CONFIG = """
_base_ = ['{base}']
model = dict(cls_head=dict(num_classes=6))
sample = dict(type='SampleFrames', clip_len=1, frame_interval=1, num_clips=4)
ending = [dict(type='Normalize', mean=[123.675, 116.28, 103.53], std=[58.395, 57.12, 57.375]), dict(type='FormatShape')]
train_pipeline = [sample, dict(type='RandomResizedCrop'), dict(type='Resize', scale=(32, 32), keep_ratio=False)] + ending
val_pipeline = [dict(test_mode=True, **sample), dict(type='Resize', scale=(-1, 32)), dict(type='CenterCrop', crop_size=32)] + ending
root = 'data/kinetics400/'
data = dict(
    videos_per_gpu=3, workers_per_gpu=0,
    train=dict(type='VideoDataset', ann_file=root + 'kinetics400_train_list_videos.txt', data_prefix=root + 'videos_train', pipeline=train_pipeline),
    val=dict(type='VideoDataset', ann_file=root + 'kinetics400_val_list_videos.txt', data_prefix=root + 'videos_val', pipeline=val_pipeline),
    test=dict(type='VideoDataset', ann_file=root + 'kinetics400_val_list_videos.txt', data_prefix=root + 'videos_val', pipeline=val_pipeline))
"""
CONFIG_BASE = """
model = dict(type='Recognizer2D', backbone=dict(type='ResNet', depth=18, pretrained=None), cls_head=dict(type='TSNHead', num_classes=400, in_channels=512))
optimizer = dict(type='SGD', lr=0.01, momentum=0.9, weight_decay=0.0001)
optimizer_config = dict(grad_clip=dict(max_norm=40, norm_type=2))
lr_config = dict(policy='step', step=[1])
total_epochs = 2
"""


def test_a_config_of_ones_own_is_translated_trained_and_tested(layout):
    (layout / "configs").mkdir(exist_ok=True)
    (layout / "configs/base.py").write_text(CONFIG_BASE)
    (layout / "configs/own.py").write_text(CONFIG.format(base="base.py"))
    words = ["configs/own.py", "--seed", "0", "--device", "cpu", "--cfg-options", "total_epochs=1"]
    code, out, err = call(ROOT / "tools/train.py", *words, cwd=layout)
    assert code == 0, err
    assert "Translated from MMAction2's own.py" in err
    assert "work_dirs/own.yaml" in err
    passport = read_passport(layout / "work_dirs/own/last.safetensors")
    assert (passport.model, passport.recipe["num_segments"], passport.recipe["epochs"]) == ("tsn_r18", 4, 1)
    code, out, err = call(
        ROOT / "tools/test.py", "configs/own.py", "work_dirs/own/last.safetensors", "--device", "cpu", cwd=layout
    )
    assert code == 0, err
    assert "top1" in out


def test_a_config_says_where_its_data_is(mmaction2, capsys, tmp_path, monkeypatch):
    """So does the recipe that was made of it; --data replaces its lists together with their folders."""
    module, seen = mmaction2
    monkeypatch.chdir(tmp_path)
    Path("base.py").write_text(CONFIG_BASE)
    Path("own.py").write_text(CONFIG.format(base="base.py"))
    for config in ("own.py", "work_dirs/own.yaml"):
        assert module.train([config]) == 0, capsys.readouterr().err
        assert seen[-1] == ["train", "work_dirs/own.yaml", "--work-dir", "work_dirs/own"]
        assert module.test([config, "c.safetensors"]) == 0, capsys.readouterr().err
        assert seen[-1] == ["test", "work_dirs/own.yaml", "c.safetensors"]
        assert module.train([config, "--data", "d", "--cfg-options", "data_root=here"]) == 0
        assert seen[-1][2:3] == ["data_root=here"]
        assert seen[-1][-5:] == ["train_data=null", "val_data=null", "val.data_root=null", "--data", "d"]
        assert module.test([config, "c.safetensors", "--data", "d"]) == 0
        assert {"data_root=null", "val_data=null"} <= set(seen[-1])

    Path("bmn.yaml").write_text("task: localization\nmodel: bmn\nfeat_dim: 8\nfeatures: f\nannotations: a.json\n")
    assert module.train(["bmn.yaml"]) == 0, capsys.readouterr().err
    assert seen[-1] == ["train", "bmn.yaml", "--work-dir", "work_dirs/bmn"]

    Path("own.py").write_text(CONFIG.format(base="base.py") + "custom_hooks = [dict(type='Mine')]\n")
    assert module.train(["own.py"]) == 2
    assert "`clipwise convert own.py --out FILE.yaml --partial` leaves them out" in capsys.readouterr().err
    Path("own.py").write_text("import os\n")
    assert module.train(["own.py"]) == 2
    assert "own.py:1: `import os`: configs are read, not run" in capsys.readouterr().err
