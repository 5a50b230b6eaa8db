"""The data of an MMAction2 config: lists and folders, which frames, which pixels."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from clipwise.convert.mmaction2.consumed import Keys
from clipwise.data.flip_labels import FLIP_LABEL_MAPS

PARTS = ("train", "val", "test")
# Steps of a pipeline in the order that a recipe's pipeline has; only the resize may come twice, before and after the crop.
ORDER = {"open": 0, "sample": 1, "decode": 2, "resize": 3, "crop": 4, "resize after": 5, "flip": 6, "color": 7, "normalize": 8,
         "format": 9, "collect": 10, "tensor": 11}  # fmt: skip
STEPS = {
    "SampleFrames": "sample", "DenseSampleFrames": "sample", "DecordInit": "open", "OpenCVInit": "open", "PyAVInit": "open",
    "DecordDecode": "decode", "OpenCVDecode": "decode", "PyAVDecode": "decode", "RawFrameDecode": "decode", "Resize": "resize",
    "RandomResizedCrop": "crop", "MultiScaleCrop": "crop", "RandomCrop": "crop", "CenterCrop": "crop", "ThreeCrop": "crop",
    "TenCrop": "crop", "Flip": "flip", "ColorJitter": "color", "Normalize": "normalize", "FormatShape": "format",
    "Collect": "collect", "PackActionInputs": "collect", "ToTensor": "tensor",
}  # fmt: skip
CROPS = {"RandomResizedCrop": "random_resized", "MultiScaleCrop": "multi_scale", "RandomCrop": "random", "CenterCrop": "center",
         "ThreeCrop": "three", "TenCrop": "ten"}  # fmt: skip


@dataclass
class Part:
    """One of train, val and test: its data set, its loader, and what its pipeline says."""

    dataset: Keys
    loader: Keys
    batch_size: int
    num_workers: int
    frames: dict[str, Any] = field(default_factory=dict)
    """Of the sampling step, by MMAction2's names, defaults filled in."""
    pixels: dict[str, Any] = field(default_factory=dict)
    """resize, crop, crop_size; mean and std; in training the augmentations, by the recipe's names."""


def pull_parts(config: Keys) -> dict[str, Part]:
    """Data set and loader of each part, wherever the generation keeps them."""
    parts: dict[str, Part] = {}
    old = "data" in config.values
    for name in PARTS:
        loader = config.pull(f"data.{name}_dataloader" if old else f"{name}_dataloader")
        dataset = config.take(f"data.{name}") if old else loader.take("dataset")
        if not isinstance(dataset, dict):
            where = (
                (f"data.{name}", f"data.{name}_dataloader")
                if old
                else (f"{name}_dataloader.dataset", f"{name}_dataloader")
            )
            for path, value in zip(where, (dataset, loader.values or None)):
                if value is not None:
                    config.put(path, value)
            continue
        words = ("videos_per_gpu", "workers_per_gpu") if old else ("batch_size", "num_workers")
        shared = (
            [config.values["data"].values.get(word, usual) for word, usual in zip(words, (1, 0))] if old else (1, 0)
        )
        batch, workers = (loader.take(word, usual) for word, usual in zip(words, shared))
        parts[name] = Part(Keys(dataset, config.aside), loader, batch, workers)
    if old:
        config.take("data.videos_per_gpu"), config.take("data.workers_per_gpu")
    return parts


def translate_data(parts: dict[str, Part], recipe: dict[str, Any], left: list[str], notes: list[str]) -> dict[str, Any]:
    """Lists, folders and loaders."""
    train = parts["train"]
    found: dict[str, Any] = {"batch_size": train.batch_size, "num_workers": train.num_workers}
    if "val" in parts and parts["val"].batch_size != train.batch_size:
        found["eval_batch_size"] = parts["val"].batch_size
    if "test" in parts and parts["test"].batch_size != 1:
        notes.append(f"A test takes one video at a time, not {parts['test'].batch_size}.")
    for name in ("val", "test"):
        if name in parts and parts[name].num_workers != train.num_workers:
            notes.append(
                f"{name} data: loader processes {parts[name].num_workers}; here {train.num_workers}, as in training."
            )
    said = {name: _dataset(name, part, found, recipe, left) for name, part in parts.items()}
    for name, part in parts.items():
        _loader(name, part.loader, left)
    roots = {name: values.pop("root") for name, values in said.items()}
    for name, values in said.items():
        for key, value in values.items():
            if value != said["train"][key]:
                left.append(f"{name} data: {key} = {value!r}, but {said['train'][key]!r} in training")
    held_out = {roots[name] for name in ("val", "test") if roots.get(name)}
    if len(held_out) > 1:
        left.append(f"val and test data: data_prefix (img or video) names two folders, {', '.join(sorted(held_out))}")
    found["data_root"] = roots["train"]
    found["val_data_root"] = next(iter(held_out), None) if held_out != {roots["train"]} else None
    if found.get("test_data") == found.get("val_data"):
        found.pop("test_data", None)
    found |= said["train"]
    if found.pop("multi_class") != recipe["multi_label"]:
        left.append(f"train data: multi_class, but {recipe['multi_label']} in model.cls_head")
    found["modality"] = str(found["modality"]).lower()
    found["list_format"] = "rawframes_offset" if found.pop("with_offset") else None
    if found["modality"] == "flow" and found["filename_tmpl"] is None:
        found["filename_tmpl"] = "img_{:05}.jpg"
        notes.append("The config names no filename_tmpl for flow; MMAction2 would look for img_00001.jpg.")
    return found


def _dataset(name: str, part: Part, found: dict[str, Any], recipe: dict[str, Any], left: list[str]) -> dict[str, Any]:
    dataset = part.dataset
    kind = dataset.take("type")
    if kind not in ("VideoDataset", "RawframeDataset"):
        left.append(f"{name} data: type = {kind!r}; VideoDataset and RawframeDataset have a counterpart")
    found[f"{name}_data"] = dataset.take("ann_file")
    prefix = dataset.take("data_prefix")
    if isinstance(prefix, dict):
        place = "video" if kind == "VideoDataset" else "img"
        left += [f"{name} data: data_prefix.{key} = {value!r}" for key, value in prefix.items() if key != place]
        prefix = prefix.get(place)
    dataset.expect("test_mode", name != "train")
    dataset.expect("delimiter", " ")
    if kind == "VideoDataset":
        dataset.expect("start_index", 0)
    if (count := dataset.take("num_classes")) not in (None, recipe["num_classes"]):
        left.append(f"{name} data: num_classes = {count}, but {recipe['num_classes']} in model.cls_head")
    return {
        "root": prefix,
        "filename_tmpl": dataset.take("filename_tmpl"),
        "start_index": dataset.take("start_index"),
        "modality": dataset.take("modality", "RGB"),
        "multi_class": bool(dataset.take("multi_class", False)),
        "with_offset": bool(dataset.take("with_offset", False)),
    }


def _loader(name: str, loader: Keys, left: list[str]) -> None:
    train = name == "train"
    loader.expect("sampler", {"type": "DefaultSampler", "shuffle": train})
    loader.expect("shuffle", train)
    loader.expect("drop_last", False)
    loader.expect("collate_fn", {"type": "pseudo_collate"})
    for key in ("persistent_workers", "pin_memory"):
        loader.set_aside(key, True)
    loader.set_aside("prefetch_factor", 2)
    left += [f"{name} loader: {line}" for line in loader.left()]


def translate_pixels(
    parts: dict[str, Part], model: Keys, recipe: dict[str, Any], left: list[str], notes: list[str], old: bool
) -> dict[str, Any]:
    """Which frames and which pixels, of the pipelines and of the model's preprocessor."""
    found: dict[str, Any] = {"test_rule": f"mmaction2_{'0' if old else '1'}.x", "interpolation": "opencv", "fused_resize": False,
                             "flip": 0.0}  # fmt: skip
    layout = "NCTHW" if "slowonly" in recipe["model"] else "NCHW"
    channels = 2 if recipe["modality"] == "flow" else 3
    for name, part in parts.items():
        _read_pipeline(name, part, layout, channels == 2, left, notes)
        left += [f"{name} data: {line}" for line in part.dataset.left()]
    train = parts["train"]
    found |= {f"train_{key}" if key in ("resize", "crop") else key: value for key, value in train.pixels.items()}
    _preprocessor(model, found, layout, channels, recipe, left)
    for name in ("val", "test"):
        if name in parts:
            for key in ("mean", "std"):
                if (value := parts[name].pixels.pop(key, None)) != train.pixels.get(key):
                    left.append(f"{name} pipeline: {key} = {value}, but {train.pixels.get(key)} in training")
            found |= {f"{name}_{key}": value for key, value in parts[name].pixels.items()}
    found |= _frames(parts, recipe, left, notes)
    _check_channels(model, found, recipe)
    return found


def _preprocessor(
    model: Keys, found: dict[str, Any], layout: str, channels: int, recipe: dict[str, Any], left: list[str]
) -> None:
    """Normalization and blending of whole batches, which belong to the model in 1.x (blending in 0.x too)."""
    for key in ("mean", "std"):
        given = model.take(f"data_preprocessor.{key}")
        if given is None:
            continue
        if key in found:
            left.append(f"model.data_preprocessor.{key} = {given}, after a Normalize in the pipeline")
        repeated = (
            isinstance(given, list) and len(given) > channels and given == given[:channels] * (len(given) // channels)
        )
        found[key] = given[:channels] if repeated else given  # listed once for each stacked frame
    if found.get("mean") is None or found.get("std") is None:
        left.append("no normalization in the training pipeline or in the model's preprocessor")
    model.expect("data_preprocessor.type", "ActionDataPreprocessor")
    model.expect("data_preprocessor.format_shape", layout)
    model.expect("data_preprocessor.to_rgb", False)
    model.expect("data_preprocessor.to_float32", True)
    for owner in ("train_cfg", "data_preprocessor"):
        kind = model.take(f"{owner}.blending.type")
        if kind in ("MixupBlending", "CutmixBlending"):
            found[kind.removesuffix("Blending").lower()] = model.take(f"{owner}.blending.alpha", 0.2)
            model.expect(f"{owner}.blending.num_classes", recipe["num_classes"])
        elif kind:
            model.put(f"{owner}.blending.type", kind)


def _check_channels(model: Keys, found: dict[str, Any], recipe: dict[str, Any]) -> None:
    """The first convolution and the segments must be what the data gives."""
    stacked = (found["clip_len"] or 1) if found.get("num_segments") else 1
    channels = (2 if recipe["modality"] == "flow" else 3) * stacked
    if (given := model.take("backbone.in_channels", 3)) != channels:
        model.put("backbone.in_channels", given)
    elif given != 3 and recipe["init"]:
        found["init_first_conv"] = "random"
    if "tsm" in recipe["model"]:
        for owner in ("backbone", "cls_head"):
            if (given := model.take(f"{owner}.num_segments", 8)) != found["num_segments"] and not (
                owner == "cls_head" and recipe["model"].startswith("tpn")
            ):
                model.put(f"{owner}.num_segments", given)


def _frames(parts: dict[str, Part], recipe: dict[str, Any], left: list[str], notes: list[str]) -> dict[str, Any]:
    """Frames of the three parts; a recipe holds training's, and the number of clips at test."""
    train = parts["train"].frames
    if not train:
        left.append("train pipeline: no SampleFrames or DenseSampleFrames")
    segments = recipe["model"].startswith(("tsn", "tsm", "tpn_tsm"))
    found = {
        key: train.get(key)
        for key in ("sampling", "clip_len", "frame_interval", "keep_tail_frames", "out_of_bound", "target_fps")
    }
    count = train.get("num_clips")
    if segments:
        found["num_segments"] = count
    elif count != 1:
        left.append(f"train pipeline: num_clips = {count}; SlowOnly trains on one clip of a video here")
    if train.get("twice_sample"):
        left.append("train pipeline: twice_sample = True")
    if train.get("positions", 10) != 10:
        left.append(f"train pipeline: num_sample_positions = {train['positions']}")
    for name in ("val", "test"):
        taken = parts[name].frames if name in parts else {}
        for key in ("sampling", "clip_len", "frame_interval", "keep_tail_frames", "out_of_bound", "target_fps"):
            if taken and taken[key] != train.get(key):
                left.append(f"{name} pipeline: {key} = {taken[key]}, but {train.get(key)} in training")
    validated = parts["val"].frames if "val" in parts else {}
    if validated.get("twice_sample"):
        left.append("val pipeline: twice_sample = True")
    if validated.get("positions", 10) != 10:
        left.append(f"val pipeline: num_sample_positions = {validated['positions']}; here 10 in validation")
    if validated and validated["num_clips"] != count:
        notes.append(f"MMAction2 validates on {validated['num_clips']} clips or segments; here on {count}.")
    if test := (parts["test"].frames if "test" in parts else {}):
        found["twice_sample"] = test["twice_sample"]
        dense = test["sampling"] == "dense"
        if segments:
            found["test_num_segments"] = test["num_clips"] if test["num_clips"] != count else None
            found["test_num_clips"] = test["positions"] if dense else 1
        else:
            found["test_num_clips"] = test["num_clips"]
    return found


def _read_pipeline(name: str, part: Part, layout: str, flow: bool, left: list[str], notes: list[str]) -> None:
    """Fill ``frames`` and ``pixels`` of a part; what is not understood goes to ``left``."""
    seen: list[int] = [-1]
    for step in part.dataset.take("pipeline") or []:
        keys = Keys(step, part.dataset.aside)
        kind = keys.take("type")
        place = STEPS.get(kind, "")
        if place == "resize" and "crop" in part.pixels:
            place = "resize after"
        if not place:
            settings = ", ".join(keys.left())
            left.append(f"{name} pipeline: {kind}" + f" ({settings})" * bool(settings))
            continue
        if ORDER[place] <= seen[-1]:
            settings = ", ".join(keys.left())
            left.append(f"{name} pipeline: {kind} ({settings}) a second time, or after a step that it precedes here")
            continue
        seen.append(ORDER[place])
        if place == "sample":
            _sampling(kind, keys, name, part)
        elif place in ("open", "decode"):
            keys.set_aside("num_threads", 1)
            keys.set_aside("multi_thread", False)
            for key, value in (("io_backend", "disk"), ("decoding_backend", "cv2"), ("mode", "accurate")):
                keys.expect(key, value)
        elif place.startswith("resize"):
            _resize(keys, place, name, part, left)
        elif place == "crop":
            _crop(kind, keys, name, part, left)
        elif place == "flip":
            _flip(keys, name, part)
        elif place == "color":
            if name == "train":
                part.pixels["color_jitter"] = None if keys.values else "mmaction2_0.24"
            else:
                notes.append(f"MMAction2 changes colors at random in {name} too (ColorJitter); this recipe does not.")
        elif place == "normalize":
            part.pixels["mean"], part.pixels["std"] = keys.take("mean"), keys.take("std")
            keys.expect("to_bgr", False)
        elif place == "format":
            keys.expect("input_format", "NCHW_Flow" if flow and layout == "NCHW" else layout, layout)
            keys.expect("collapse", False)
        else:  # Collect, ToTensor, PackActionInputs
            keys.expect("keys", ["imgs", "label"], *([["imgs"]] if name != "train" or place == "tensor" else []))
            keys.set_aside("meta_keys", [])
        left += [f"{name} pipeline, {kind}: {line}" for line in keys.left()]
    if "crop" not in part.pixels:
        wanted = "crop" if name == "train" else "CenterCrop, ThreeCrop or TenCrop"
        left.append(f"{name} pipeline: no {wanted}")
    elif part.pixels["crop"] in ("random_resized", "multi_scale") and ORDER["resize after"] not in seen:
        crop = next(kind for kind, crop in CROPS.items() if crop == part.pixels["crop"])
        left.append(f"{name} pipeline: no Resize after {crop}")


def _sampling(kind: str, keys: Keys, name: str, part: Part) -> None:
    dense = kind == "DenseSampleFrames"
    part.frames = {
        "sampling": "dense" if dense else "uniform",
        "out_of_bound": keys.take("out_of_bound_opt", "loop"),
        "positions": keys.take("num_sample_positions", 10) if dense else 10,
    }
    for key, usual in (("clip_len", 1), ("frame_interval", 1), ("num_clips", 1), ("twice_sample", False), ("keep_tail_frames", False),
                       ("target_fps", None)):  # fmt: skip
        part.frames[key] = keys.take(key, usual)
    if dense:
        keys.expect("sample_range", 64)
    keys.expect("test_mode", name != "train")
    for key in ("frame_uniform", "temporal_jitter"):
        keys.expect(key, False)
    keys.expect("start_index", None)


def _resize(keys: Keys, place: str, name: str, part: Part, left: list[str]) -> None:
    scale, keep_ratio = keys.take("scale"), keys.take("keep_ratio", True)
    size = _short_side(scale) if keep_ratio else scale
    if place == "resize after" and (keep_ratio or name != "train"):
        size = None  # a crop that keeps its own shape is no input of a fixed size
    if size is None:
        left.append(
            f"{name} pipeline, Resize: scale = {scale}, keep_ratio = {keep_ratio}{' after the crop' * (place != 'resize')}"
        )
    elif place == "resize":
        part.pixels["resize"] = size
    elif part.pixels.get("crop_size") not in (None, _square(size)):
        left.append(f"{name} pipeline, Resize: scale = {scale} after a crop of {part.pixels['crop_size']}")
    else:
        part.pixels["crop_size"] = _square(size)
    keys.expect("interpolation", "bilinear")
    keys.expect("lazy", False)


def _crop(kind: str, keys: Keys, name: str, part: Part, left: list[str]) -> None:
    crop, pixels = CROPS[kind], part.pixels
    random = crop in ("random_resized", "multi_scale", "random")
    if random != (name == "train") and not (name == "train" and crop == "center"):
        left.append(f"{name} pipeline: {kind}")
    pixels["crop"] = crop
    pixels.setdefault("resize", None)
    size = keys.take({"multi_scale": "input_size", "random": "size"}.get(crop, "crop_size"))
    if size is not None:
        pixels["crop_size"] = _square(size)
    if crop == "random_resized":
        pixels["crop_area"] = keys.take("area_range", [0.08, 1.0])
        pixels["crop_ratio"] = keys.take("aspect_ratio_range", [3 / 4, 4 / 3])
    if crop == "multi_scale":
        pixels["crop_scales"] = keys.take("scales", [1])
        pixels["max_scale_gap"] = keys.take("max_wh_scale_gap", 1)
        pixels["num_fixed_crops"] = keys.take("num_fixed_crops", 5)
        keys.expect("random_crop", False)
    keys.expect("lazy", False)


def _flip(keys: Keys, name: str, part: Part) -> None:
    keys.expect("direction", "horizontal")
    keys.expect("lazy", False)
    if name != "train":  # MMAction2's configs write flip_ratio=0 in validation
        keys.expect("flip_ratio", 0)
        return
    part.pixels["flip"] = keys.take("flip_ratio", 0.5)
    labels = keys.take("flip_label_map")
    part.pixels["flip_label_map"] = next((known for known, m in FLIP_LABEL_MAPS.items() if m == labels), labels)


def _short_side(scale: Any) -> int | None:
    """The short side of ``(-1, 256)`` or ``(256, -1)``."""
    if isinstance(scale, list) and len(scale) == 2 and -1 in scale:
        return max(scale)
    return None


def _square(size: Any) -> Any:
    return size[0] if isinstance(size, list) and len(size) == 2 and size[0] == size[1] else size
