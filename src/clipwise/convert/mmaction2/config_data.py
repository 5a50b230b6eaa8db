"""The data of a config: lists and folders, which frames, which pixels."""

from __future__ import annotations

from typing import Any

from clipwise.convert.mmaction2.consumed import FOLLOWS, Keys
from clipwise.data.transforms import FLIP_LABEL_MAPS

READING = ("DecordInit", "OpenCVInit", "PyAVInit", "DecordDecode", "OpenCVDecode", "PyAVDecode", "RawFrameDecode", "FormatShape",
           "Collect", "ToTensor", "PackActionInputs")  # fmt: skip


def data_parts(config: dict[str, Any]) -> dict[str, dict[str, Any]]:
    """Data set, batch size and loader processes of train, val and test, wherever the generation keeps them."""
    parts: dict[str, dict[str, Any]] = {}
    data = config.get("data")
    for part in ("train", "val", "test"):
        if isinstance(data, dict):
            loader = data.get(f"{part}_dataloader") or {}
            dataset = data.get(part)
            batch = loader.get("videos_per_gpu", data.get("videos_per_gpu", 1))
            workers = loader.get("workers_per_gpu", data.get("workers_per_gpu", 0))
        else:
            loader = config.get(f"{part}_dataloader") or {}
            dataset, batch, workers = loader.get("dataset"), loader.get("batch_size", 1), loader.get("num_workers", 0)
        if isinstance(dataset, dict):
            parts[part] = {"dataset": Keys(dataset), "batch_size": batch, "num_workers": workers}
    return parts


def translate_data(
    parts: dict[str, dict[str, Any]], recipe: dict[str, Any], left: list[str], notes: list[str]
) -> dict[str, Any]:
    found: dict[str, Any] = {"batch_size": parts["train"]["batch_size"], "num_workers": parts["train"]["num_workers"]}
    if "val" in parts and parts["val"]["batch_size"] != found["batch_size"]:
        found["eval_batch_size"] = parts["val"]["batch_size"]
    said: dict[str, dict[str, Any]] = {}
    for part, values in parts.items():
        dataset: Keys = values["dataset"]
        if (kind := dataset.take("type")) not in ("VideoDataset", "RawframeDataset"):
            left.append(f"{part} data: type = {kind!r}; of one VideoDataset or RawframeDataset the rest can be told")
        found[f"{part}_data"] = dataset.take("ann_file")
        prefix = dataset.take("data_prefix")
        said[part] = {
            "root": next(iter(prefix.values()), None) if isinstance(prefix, dict) else prefix,
            "filename_tmpl": dataset.take("filename_tmpl"),
            "start_index": dataset.take("start_index"),
            "modality": dataset.take("modality", "RGB").lower(),
            "multi_label": bool(dataset.take("multi_class", False)),
            "list_format": "rawframes_offset" if dataset.take("with_offset", False) else None,
        }
        recipe["num_classes"] = dataset.take("num_classes") or recipe["num_classes"]
        dataset.expect({"test_mode": FOLLOWS})
    root = {part: values.pop("root") for part, values in said.items()}
    for part, values in said.items():
        if values != said["train"]:
            left.append(f"{part} data: {values}, but in training {said['train']}")
    held_out = {root[part] for part in ("val", "test") if root.get(part)}
    if len(held_out) > 1:
        left.append(f"val and test lie in different folders: {', '.join(sorted(held_out))}")
    found["data_root"] = root["train"]
    found["val_data_root"] = next(iter(held_out), None) if held_out != {root["train"]} else None
    if found.get("test_data") == found.get("val_data"):
        found.pop("test_data", None)
    found |= said["train"]
    found["multi_label"] |= recipe["multi_label"]
    if found["modality"] == "flow" and found["filename_tmpl"] is None:
        found["filename_tmpl"] = "img_{:05}.jpg"
        notes.append("The config names no filename_tmpl for flow; MMAction2 would look for img_00001.jpg.")
    return found


def translate_pixels(
    parts: dict[str, dict[str, Any]], model: Keys, recipe: dict[str, Any], left: list[str], notes: list[str], old: bool
) -> dict[str, Any]:
    found: dict[str, Any] = {"test_rule": f"mmaction2_{'0' if old else '1'}.x", "interpolation": "opencv", "fused_resize": False,
                             "flip": 0.0}  # fmt: skip
    channels = 2 if recipe.get("modality") == "flow" else 3  # the preprocessor may list them once a stacked frame
    for key in ("mean", "std"):
        given = model.take(f"data_preprocessor.{key}")
        found[key] = given[:channels] if given and given == given[:channels] * (len(given) // channels) else given
    for owner in ("train_cfg", "data_preprocessor"):
        kind = model.take(f"{owner}.blending.type")
        if kind in ("MixupBlending", "CutmixBlending"):
            found[kind[:-8].lower()] = model.take(f"{owner}.blending.alpha", 0.2)
            model.take(f"{owner}.blending.num_classes")
        elif kind:
            model.put(f"{owner}.blending.type", kind)
    frames: dict[str, dict[str, Any]] = {}
    for part, values in parts.items():
        steps = values["dataset"].take("pipeline") or []
        frames[part] = {}
        for step in steps:
            keys = Keys(step)
            _step(keys.take("type"), keys, part, found, frames[part], left, notes)
            left += [f"{part} pipeline, {step.get('type')}: {line}" for line in keys.left()]
        left += [f"{part} data: {line}" for line in values["dataset"].left()]
    if found["mean"] is None or found["std"] is None:
        left.append("no normalization in the training pipeline or in the model's preprocessor")
    if found.get("train_crop") == "random_resized" and "crop_size" not in found:
        left.append("train pipeline: no Resize after RandomResizedCrop")
    segments = recipe["model"].startswith(("tsn", "tsm", "tpn_tsm"))
    train = frames["train"]
    found |= {
        key: train.get(key) for key in ("sampling", "clip_len", "frame_interval", "keep_tail_frames", "out_of_bound")
    }
    if segments:
        found["num_segments"] = train.get("num_clips")
    elif train.get("num_clips", 1) != 1:
        left.append(f"train pipeline: num_clips = {train['num_clips']}; SlowOnly trains on one clip of a video here")
    for part in ("val", "test"):
        taken = frames.get(part, {})
        for key in ("clip_len", "frame_interval", "sampling"):
            if taken and taken.get(key) != train.get(key):
                left.append(f"{part} pipeline: {key} = {taken.get(key)}, but {train.get(key)} in training")
    test = frames.get("test", {})
    found["twice_sample"] = test.get("twice_sample", False)
    if segments and test:
        found["test_num_segments"] = test.get("num_clips") if test.get("num_clips") != train.get("num_clips") else None
        found["test_num_clips"] = test.get("positions", 1)
    elif test:
        found["test_num_clips"] = test.get("num_clips", 1)
    validated = frames.get("val", {}).get("num_clips")
    if validated not in (None, train.get("num_clips")):
        notes.append(f"MMAction2 validates on {validated} clips or segments, we on {train.get('num_clips', 1)}.")
    for part in ("val", "test"):
        if part in frames and f"{part}_crop" not in found:
            left.append(f"{part} pipeline: no CenterCrop, ThreeCrop or TenCrop")
    return found


def _step(
    kind: str, keys: Keys, part: str, found: dict[str, Any], frames: dict[str, Any], left: list[str], notes: list[str]
) -> None:
    """What one step of a pipeline says, taken from ``keys``."""
    if kind in ("SampleFrames", "DenseSampleFrames"):
        dense = kind == "DenseSampleFrames"
        frames["sampling"] = "dense" if dense else "uniform"
        for key, default in (
            ("clip_len", 1),
            ("frame_interval", 1),
            ("num_clips", 1),
            ("twice_sample", False),
            ("keep_tail_frames", False),
        ):
            frames[key] = keys.take(key, default)
        frames["out_of_bound"] = keys.take("out_of_bound_opt", "loop")
        frames["positions"] = keys.take("num_sample_positions", 10) if dense else 1
        keys.expect(
            {
                "sample_range": 64,
                "test_mode": FOLLOWS,
                "frame_uniform": False,
                "temporal_jitter": False,
                "start_index": FOLLOWS,
            }
        )
    elif kind == "Resize":
        scale, keep_ratio = keys.take("scale"), keys.take("keep_ratio", True)
        after_crop = f"{part}_crop" in found
        size = _side(scale) if keep_ratio else scale
        if size is None:
            keys.put("scale", scale)
        elif after_crop:
            found["crop_size" if part == "train" else f"{part}_crop_size"] = _square(size)
        else:
            found[f"{part}_resize"] = size
        keys.expect({"interpolation": "bilinear", "lazy": FOLLOWS})
    elif kind in ("RandomResizedCrop", "MultiScaleCrop", "RandomCrop", "CenterCrop", "ThreeCrop", "TenCrop"):
        name = {"RandomResizedCrop": "random_resized", "MultiScaleCrop": "multi_scale", "RandomCrop": "random"}.get(
            kind, kind[:-4].lower()
        )
        if (part == "train" and name in ("three", "ten")) or (
            part != "train" and name not in ("center", "three", "ten")
        ):
            left.append(f"{part} pipeline: {kind}")
        found[f"{part}_crop"] = name
        found.setdefault(f"{part}_resize", None)
        size = keys.take({"multi_scale": "input_size", "random": "size"}.get(name, "crop_size"))
        if size is not None:
            found["crop_size" if part == "train" else f"{part}_crop_size"] = _square(size)
        if name == "random_resized":
            found["crop_area"] = keys.take("area_range", [0.08, 1.0])
            found["crop_ratio"] = keys.take("aspect_ratio_range", [3 / 4, 4 / 3])
        if name == "multi_scale":
            found["crop_scales"] = keys.take("scales", [1])
            found["max_scale_gap"] = keys.take("max_wh_scale_gap", 1)
            found["num_fixed_crops"] = keys.take("num_fixed_crops", 5)
            keys.expect({"random_crop": False})
        keys.expect({"lazy": FOLLOWS})
    elif kind == "Flip" and part == "train":
        found["flip"] = keys.take("flip_ratio", 0.5)
        labels = keys.take("flip_label_map")
        found["flip_label_map"] = next((name for name, m in FLIP_LABEL_MAPS.items() if m == labels), labels)
        keys.expect({"direction": "horizontal", "lazy": FOLLOWS})
    elif kind == "Flip":  # MMAction2's configs write flip_ratio=0 in validation
        keys.expect({"flip_ratio": 0, "lazy": FOLLOWS})
    elif kind == "Normalize":
        found["mean"], found["std"] = keys.take("mean"), keys.take("std")
        keys.expect({"to_bgr": False})
    elif kind == "ColorJitter" and not keys.values:
        if part == "train":
            found["color_jitter"] = "mmaction2_0.24"
        else:
            notes.append(f"MMAction2 changes colors at random in {part} too (ColorJitter); we do not.")
    elif kind in READING:
        keys.values.clear()
    else:
        left.append(f"{part} pipeline: {kind}")
        keys.values.clear()


def _side(scale: Any) -> int | None:
    """The short side of ``(-1, 256)`` or ``(256, -1)``."""
    if isinstance(scale, list) and len(scale) == 2 and -1 in scale:
        return max(scale)
    return None


def _square(size: Any) -> Any:
    return size[0] if isinstance(size, list) and len(size) == 2 and size[0] == size[1] else size
