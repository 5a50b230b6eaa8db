"""Write and execute the notebooks: python docs/notebooks/make.py (needs nbformat and nbclient).

Each is a list of cells here, so that a change shows as a change of text; the .ipynb beside it holds the results of the last execution.
"""

from __future__ import annotations

import argparse
import os
import re
import sys
import tempfile
from pathlib import Path

HERE = Path(__file__).resolve().parent
SETUP = "import warnings\nwarnings.filterwarnings('ignore')  # of libraries\nimport clipwise\nclipwise.__version__"

NOTEBOOKS: dict[str, list[str]] = {
    "own_folder": [
        "# From a folder of videos to predictions\n\nOne subfolder per class is all that clipwise needs. Here the videos are made by a generator, so that the notebook "
        "runs anywhere; put your own folder in place of `my_videos`.",
        SETUP,
        "from clipwise.prepare.synthetic import make_clips\n\nmake_clips('my_videos', train_per_class=24, val_per_class=6)",
        "## Check the data\n\nMissing, broken, duplicated, too short? `clipwise check` looks before a training does.",
        "!clipwise check my_videos",
        "## Train\n\n`tsm_tiny` is a small TSM for CPUs. The best checkpoint is kept, and a report is written beside it.",
        "recipe = clipwise.load_recipe('tsm_tiny', ['epochs=8', 'batch_size=8', 'num_workers=0'])\nrun = clipwise.train(recipe, data='my_videos', work_dir='runs/mine')\nrun",
        "## Evaluate and predict\n\nA checkpoint knows its classes, its preprocessing and its test protocol.",
        "result = clipwise.evaluate(run.best, data='my_videos/val')\nresult.compute()",
        "from pathlib import Path\n\npredictor = clipwise.load(run.best)\nvideos = sorted(Path('my_videos/val').rglob('*.mp4'))[:4]\npredictor(videos)",
        "prediction = predictor(videos[0])\nprediction.top(3)",
        "Frames in memory do as well: NumPy arrays, torch tensors, lists of images.",
        "reader = clipwise.open_video(videos[0])\nframes = reader[list(range(reader.num_frames))]\nframes.shape, predictor(frames).top(1)",
    ],
    "localize": [
        "# When does it happen? Localization in long videos\n\nThree steps: features of the long videos, a localizer trained on them, and then one call from a raw "
        "file to named segments. All videos here are generated; actions of one to three seconds lie in videos of ten.",
        SETUP,
        "import json\nfrom clipwise.prepare.synthetic import make_clips, make_long_videos\n\nmake_clips('clips', train_per_class=24, val_per_class=6)\n"
        "database = make_long_videos('data/videos', 24)\nfor number, entry in enumerate(database.values()):\n"
        "    entry['subset'] = 'training' if number < 18 else 'validation'\n"
        "with open('data/annotations.json', 'w') as file:\n    json.dump({'database': database}, file)\nlen(database)",
        "## 1. A recognizer\n\nAny recognizer can make features; a small one is trained here.",
        "recipe = clipwise.load_recipe('tsm_tiny', ['epochs=8', 'batch_size=8', 'num_workers=0'])\nrecognizer = clipwise.train(recipe, data='clips', work_dir='runs/tsm')\nrecognizer",
        "## 2. Features",
        "!clipwise features runs/tsm/best.safetensors data/videos --out data/features --stride 8 --window 24",
        "## 3. A localizer",
        "!clipwise train bmn_tiny --data data --work-dir runs/bmn num_workers=0 epochs=8",
        "## From a raw file to segments",
        "video = f'data/videos/{list(database)[-1]}.mp4'\nfound = clipwise.localize('runs/bmn/best.safetensors', video)\n"
        "[(round(s.start_s, 1), round(s.end_s, 1), s.name, round(s.score, 2)) for s in found.segments[:5]]",
        "The truth:",
        "[(a['segment'], a['label']) for a in list(database.values())[-1]['annotations']]",
        "`clipwise localize CKPT VIDEO --out-dir found --preview` writes the same as JSON, CSV, SRT, a timeline and a captioned video.",
        "!clipwise localize runs/bmn/best.safetensors {video} --out-dir found --preview && ls found",
    ],
    "from_mmaction2": [
        "# Coming from MMAction2\n\nYour configs are read (not executed) and your checkpoints load. This notebook makes a config and a checkpoint of MMAction2's form, "
        "and takes them over.",
        SETUP,
        "config = '''\nmodel = dict(\n    type='Recognizer2D',\n    backbone=dict(type='ResNetTSM', pretrained='torchvision://resnet50', depth=50, norm_eval=False, shift_div=8),\n"
        "    cls_head=dict(type='TSMHead', num_classes=174, in_channels=2048, spatial_type='avg', consensus=dict(type='AvgConsensus', dim=1),\n"
        "                  dropout_ratio=0.5, init_std=0.001, is_shift=True),\n    train_cfg=None, test_cfg=dict(average_clips='prob'))\n"
        "img_norm_cfg = dict(mean=[123.675, 116.28, 103.53], std=[58.395, 57.12, 57.375], to_bgr=False)\n"
        "train_pipeline = [\n    dict(type='SampleFrames', clip_len=1, frame_interval=1, num_clips=8), dict(type='RawFrameDecode'), dict(type='Resize', scale=(-1, 256)),\n"
        "    dict(type='MultiScaleCrop', input_size=224, scales=(1, 0.875, 0.75, 0.66), random_crop=False, max_wh_scale_gap=1, num_fixed_crops=13),\n"
        "    dict(type='Resize', scale=(224, 224), keep_ratio=False), dict(type='Normalize', **img_norm_cfg), dict(type='FormatShape', input_format='NCHW'),\n"
        "    dict(type='Collect', keys=['imgs', 'label'], meta_keys=[]), dict(type='ToTensor', keys=['imgs', 'label'])]\n"
        "val_pipeline = [\n    dict(type='SampleFrames', clip_len=1, frame_interval=1, num_clips=8, test_mode=True), dict(type='RawFrameDecode'),\n"
        "    dict(type='Resize', scale=(-1, 256)), dict(type='CenterCrop', crop_size=224), dict(type='Normalize', **img_norm_cfg),\n"
        "    dict(type='FormatShape', input_format='NCHW'), dict(type='Collect', keys=['imgs', 'label'], meta_keys=[]), dict(type='ToTensor', keys=['imgs'])]\n"
        "data = dict(videos_per_gpu=8, workers_per_gpu=4,\n    train=dict(type='RawframeDataset', ann_file='train.txt', data_prefix='frames', filename_tmpl='{:05}.jpg', pipeline=train_pipeline),\n"
        "    val=dict(type='RawframeDataset', ann_file='val.txt', data_prefix='frames', filename_tmpl='{:05}.jpg', pipeline=val_pipeline))\n"
        "optimizer = dict(type='SGD', constructor='TSMOptimizerConstructor', paramwise_cfg=dict(fc_lr5=True), lr=0.01, momentum=0.9, weight_decay=0.0005)\n"
        "optimizer_config = dict(grad_clip=dict(max_norm=20, norm_type=2))\nlr_config = dict(policy='step', step=[20, 40])\ntotal_epochs = 50\n"
        "checkpoint_config = dict(interval=1)\nevaluation = dict(interval=2, metrics=['top_k_accuracy', 'mean_class_accuracy'])\n"
        "log_config = dict(interval=20, hooks=[dict(type='TextLoggerHook')])\n'''\nopen('my_config.py', 'w').write(config);",
        "## The config becomes a recipe\n\nEvery key is taken over, noted as without effect, or refused by name.",
        "!clipwise convert my_config.py --out mine.yaml && clipwise explain mine.yaml",
        "## A checkpoint becomes one of ours\n\nA file of MMAction2 0.x, made here from a network with random weights.",
        "import torch\n\nmodel = clipwise.create_model('tsm_r50', num_classes=174)\n"
        "from clipwise.engine.checkpoint import Passport, save_weights\n\n"
        "save_weights('random.safetensors', model.state_dict(), Passport('tsm_r50', {'num_classes': 174}, recipe=clipwise.load_recipe('mine.yaml').model_dump(mode='json')))",
        "!clipwise convert random.safetensors --to mmaction2 --out theirs.pth\n!clipwise convert theirs.pth --recipe mine.yaml --out ours.safetensors",
        "Same weights, same numbers:",
        "clips = torch.rand(1, 3, 8, 64, 64)\nours = clipwise.load_model('ours.safetensors')\nwith torch.no_grad():\n    difference = (ours(clips) - model.eval()(clips)).abs().max().item()\ndifference",
    ],
    "export": [
        "# Export to the edge\n\nONNX, int8 and what they cost in accuracy, on your own videos.",
        SETUP,
        "from clipwise.prepare.synthetic import make_clips\n\nmake_clips('my_videos', train_per_class=24, val_per_class=6)\n"
        "recipe = clipwise.load_recipe('tsm_tiny', ['epochs=8', 'batch_size=8', 'num_workers=0'])\nrun = clipwise.train(recipe, data='my_videos', work_dir='runs/mine')\nrun",
        "## ONNX\n\nThe file is compared with the network before it is kept. Normalization is inside: it takes the bytes that a decoder gives.",
        "!clipwise export runs/mine/best.safetensors --format onnx --out best.onnx --check-clips my_videos/val",
        "## int8\n\nCalibrated on training videos; the share of equal answers is measured.",
        "!clipwise export runs/mine/best.safetensors --format onnx --int8 --calibration my_videos/train --check-clips my_videos/val --out best_int8.onnx",
        "from pathlib import Path\n\n{file.name: f'{file.stat().st_size / 1e6:.1f} MB' for file in Path('.').glob('*.onnx')}",
        "## Use it without clipwise\n\nONNX Runtime and NumPy are enough.",
        "import json\nimport onnxruntime\nimport numpy as np\n\nsession = onnxruntime.InferenceSession('best_int8.onnx')\n"
        "about = session.get_modelmeta().custom_metadata_map\nprint(json.loads(about['classes']))\n"
        "print({i.name: i.shape for i in session.get_inputs()})",
        "## Or with it: the same sampling, the same protocol",
        "video = next(Path('my_videos/val').rglob('*.mp4'))\nfrom clipwise.export.runtimes import load_exported\n\nload_exported('best_int8.onnx')(video).top(3), clipwise.load(run.best)(video).top(3)",
        "!clipwise bench best_int8.onnx",
    ],
}  # fmt: skip


def notebook(cells: list[str]):
    """The notebook of some cells: text where it reads like text, code otherwise."""
    import nbformat

    made = [nbformat.v4.new_markdown_cell(c) if is_text(c) else nbformat.v4.new_code_cell(c) for c in cells]
    for number, cell in enumerate(made):
        cell["id"] = f"cell-{number}"
    kernel = {"kernelspec": {"name": "python3", "display_name": "Python 3", "language": "python"}}
    return nbformat.v4.new_notebook(cells=made, metadata=kernel)


def is_text(cell: str) -> bool:
    if cell.startswith("#"):
        return True
    try:
        compile("\n".join(line if not line.startswith("!") else "pass" for line in cell.splitlines()), "cell", "exec")
    except SyntaxError:
        return True
    return False


def execute(name: str, folder: str | Path):
    """The notebook with its results, executed in ``folder``."""
    from nbclient import NotebookClient

    os.environ["TERM"] = "dumb"  # commands draw no moving bars
    made = notebook(NOTEBOOKS[name])
    NotebookClient(made, timeout=3600, resources={"metadata": {"path": str(folder)}}).execute()
    return made


def tidy(made, folder: str) -> None:
    """Take out what differs from run to run and what only moves: times of cells, the folder, progress bars."""
    import nbformat

    for cell in made.cells:
        cell.get("metadata", {}).pop("execution", None)
        if cell["cell_type"] != "code":
            continue
        text = "".join(output["text"] for output in cell["outputs"] if output["output_type"] == "stream")
        text = re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "\n", text).replace("\r", "\n").replace(str(folder), "…")
        lines = [
            line
            for line in text.splitlines()
            if line.strip()
            and not re.search("[━╸╺]|-:--:--|^\\s*[0-9]+(%|/[0-9]+)|^[0-9]:[0-9:]+$|^ \\S.*\\.mp4$|^ \\S+$", line)
        ]
        lines = [line for line in lines if not re.fullmatch(r"(epoch \d+/\d+|check|features|validation) ?", line)]
        rest = [output for output in cell["outputs"] if output["output_type"] != "stream"]
        stream = [nbformat.v4.new_output("stream", text="\n".join(lines) + "\n")] if lines else []
        drawn = [str(output.get("data", {}).get("text/html", "")) for output in rest]
        shown = [
            output for output, page in zip(rest, drawn) if "<progress" not in page or "<svg" in page
        ]  # curves stay
        cell["outputs"] = stream + (shown or rest)


def main() -> int:
    import nbformat

    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("names", nargs="*", default=list(NOTEBOOKS))
    for name in parser.parse_args().names:
        with tempfile.TemporaryDirectory() as folder:
            made = execute(name, folder)
        tidy(made, folder)
        nbformat.write(made, HERE / f"{name}.ipynb")
        print(HERE / f"{name}.ipynb")
    return 0


if __name__ == "__main__":
    sys.exit(main())
