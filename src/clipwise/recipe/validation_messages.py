"""What is wrong with a recipe, in words: the key, what it allows, and for an unknown key what may have been meant."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from types import NoneType, UnionType
from typing import Annotated, Any, Literal, Union, get_args, get_origin

from pydantic import BaseModel, ValidationError
from pydantic.fields import FieldInfo

from clipwise.io.names import did_you_mean, nearest
from clipwise.recipe.localization_keys import LocalizationRecipe
from clipwise.recipe.recognition_keys import RecognitionRecipe

RECIPES = (RecognitionRecipe, LocalizationRecipe)
_NAMES = {bool: "true or false", int: "a whole number", float: "a number", str: "text", NoneType: "null"}


def explain_errors(
    kind: type[BaseModel], error: ValidationError, values: Mapping[str, Any], where: Mapping[str, str], source: str
) -> list[str]:
    """One line a problem, each with its place.

    Args:
        kind: the recipe's class.
        values: what was validated.
        where: the place of each key (``augment.mixup``).
        source: the place of everything else.
    """
    problems = []
    for e in error.errors():
        place = e["loc"]
        if not place:  # keys that contradict each other
            problems.append(f"{source}: {re.sub('^Value error, ', '', e['msg'])}")
            continue
        owner, way, known = find_key(kind, place)
        name = ".".join(map(str, way))
        at = where.get(".".join(map(str, place[:2])), where.get(str(place[0]), source))
        if at == source:  # a group, of which the command line gave a key
            at = next((there for key, there in where.items() if key.startswith(f"{place[0]}.")), source)
        if not known:
            inner = _inner_path(values, way)
            hint = foreign_group(kind, [str(part) for part in (*way, *inner)]) if inner else None
            name, hint = ".".join([name, *inner]), hint or suggestion(kind, owner, str(way[-1]), not inner)
            problems.append(f"{at}: unknown key {name!r}{hint}")
        elif e["type"] == "missing" and len(way) == len(place):
            problems.append(f"{at}: key {name!r} is missing")
        else:
            wanted = allowed(owner.model_fields[_field_name(owner, str(way[-1]))])
            problems.append(f"{at}: {name}: must be {wanted}, given {given(values, way)}")
    return list(dict.fromkeys(problems))


def not_a_recipe(name: str | Path, stem: str, packaged: Iterable[str]) -> str:
    """Why no recipe is found by a name or a path, and what to do.

    Args:
        stem: the name that was looked for among the ``packaged``.
    """
    path = Path(name)
    if path.suffix in (".yaml", ".yml"):
        return f"recipe file {path} does not exist. Give a YAML file, or a name from `clipwise recipes`."
    if path.suffix == ".py" and path.is_file():
        return f"{path} is a config of MMAction2, not a recipe. Make it one: clipwise convert {path} --out {path.stem}.yaml"
    if path.suffix in (".safetensors", ".pth", ".pdparams", ".onnx", ".pt2"):
        return (
            f"{path} is a checkpoint where a recipe is expected. Order: clipwise train RECIPE --init CKPT, clipwise test [RECIPE] CKPT, "
            "clipwise predict CKPT INPUT."
        )
    if path.is_dir():
        return f"{path} is a folder where a recipe is expected. Order: clipwise train RECIPE --data {path}"
    near = did_you_mean(stem, packaged) or "."
    return f"recipe {str(name)!r} is not known{near} Give a YAML file, or a name from `clipwise recipes`."


def unreadable(path: Path, error: Exception) -> str:
    """Why a file is not YAML."""
    if isinstance(error, UnicodeDecodeError):
        return f"{path} is not UTF-8 text ({error.reason} at byte {error.start})."
    mark = getattr(error, "problem_mark", None)
    at = f"{path}:{mark.line + 1}" if mark else str(path)
    return f"{at}: not valid YAML: {getattr(error, 'problem', error)}"


# What the field's other tools call a thing -> our key, or what to do instead.
# (timm, MMAction2 and MMEngine, Ultralytics, Hugging Face's Trainer, PyTorchVideo, PySlowFast, Lightning)
SYNONYMS = {
    "lr": "learning_rate lr0 base_lr initial_lr init_lr eta max_lr lr_base learningrate",
    "batch_size": "bs batch batchsize train_batch_size per_device_train_batch_size videos_per_gpu samples_per_gpu imgs_per_gpu",
    "epochs": "max_epochs total_epochs num_epochs num_train_epochs n_epochs nepochs epoch num_epoch max_epoch",
    "num_workers": "workers workers_per_gpu num_loader_workers dataloader_num_workers nworkers n_workers",
    "num_classes": "nc classes n_classes num_labels nb_classes num_class",
    "weight_decay": "wd weightdecay decay l2",
    "optimizer": "opt optim_type optimizer_type solver",
    "model": "backbone arch architecture net network model_name model_type",
    "init": "pretrained load_from weights finetune pretrain checkpoint_path ckpt init_from initial_checkpoint",
    "crop_size": "image_size imgsz img_size input_size size resolution train_crop_size",
    "grad_clip": "clip_grad max_grad_norm gradient_clip_val clip_norm grad_norm clip_gradient",
    "warmup_epochs": "warmup warm_up warmup_iters warmup_steps warmup_ratio",
    "lr_schedule": "cos_lr cosine_lr scheduler sched lr_scheduler lr_scheduler_type lr_policy lr_config lrs",
    "seed": "random_seed random_state manual_seed rng_seed",
    "accumulate": "accum accum_iter gradient_accumulation_steps grad_accum grad_accumulation accumulate_grad_batches "
    "cumulative_iters nbs accum_steps grad_accum_steps update_interval",
    "amp": "fp16 bf16 mixed_precision half precision use_amp autocast",
    "compile": "torchcompile torch_compile",
    "ema_decay": "ema model_ema model_ema_decay",
    "grad_checkpointing": "gradient_checkpointing with_cp activation_checkpointing",
    "sync_bn": "syncbn sync_batchnorm use_sync_bn",
    "frame_interval": "sampling_rate frame_stride stride frame_rate_interval temporal_stride dilation",
    "num_segments": "segments n_segments segment num_segs num_seg",
    "train_data": "dataset train train_list ann_file ann_file_train train_file annotation_file",
    "val_data": "val_list ann_file_val valid_data eval_data",
    "test_data": "test_list ann_file_test",
    "data_root": "data_prefix root root_dir video_root prefix",
    "deterministic": "use_deterministic_algorithms",
    "auto_scale_lr": "autoscale_lr auto_lr",
    "optim.betas": "adam_betas opt_betas adam_beta1 adam_beta2 beta1 beta2",
    "optim.param_groups": "paramwise_cfg param_group",
    "optim.layer_decay": "layerwise_decay lr_decay_rate layer_lr_decay",
    "schedule.milestones": "decay_milestones decay_epochs lr_steps step steps lr_step",
    "schedule.gamma": "decay_rate lr_decay lr_gamma",
    "schedule.min_lr": "eta_min lrf end_lr lr_min min_lr_ratio",
    "augment.mixup": "mixup_alpha",
    "augment.cutmix": "cutmix_alpha",
    "augment.label_smoothing": "smoothing label_smooth label_smoothing_factor smooth",
    "augment.flip": "random_flip hflip fliplr flip_ratio flip_prob horizontal_flip",
    "augment.random_erasing": "reprob erasing erase_prob",
    "augment.randaugment": "aa auto_augment autoaugment randaug",
    "model_args.dropout": "dropout drop dropout_ratio dropout_rate",
    "model_args.drop_path": "drop_path drop_path_rate stochastic_depth",
    "model_args.in_channels": "in_channels in_chans",
    "model_args.frozen_stages": "freeze frozen_stages freeze_backbone freeze_stages freeze_layers freeze_at",
    "parallel.mode": "strategy fsdp ddp zero deepspeed",
    "input.mean": "normalize norm_mean pixel_mean img_norm_cfg",
    "input.std": "norm_std pixel_std",
    "test.average_clips": "average average_clip",
    "test.num_clips": "num_clips num_ensemble_views num_test_views",
    "test.crop": "num_crops test_crops num_spatial_crops ten_crop three_crop test_time_augmentation tta",
    "val.batch_size": "eval_batch_size per_device_eval_batch_size val_batch_size per_gpu_eval_batch_size",
    "val.every": "eval_interval val_interval val_period check_val_every_n_epoch eval_epochs eval_freq eval_strategy "
    "evaluation_strategy eval_period",
    "checkpoint.every": "save_period save_interval checkpoint_interval save_every save_freq save_strategy checkpoint_period",
    "lists.class_power": "class_weight class_weights class_balance oversample",
    "checkpoint.every_steps": "save_steps",
    "checkpoint.keep": "save_total_limit max_keep_ckpts keep_last checkpoint_hist",
    "log.every": "log_interval logging_steps print_freq log_freq log_every_n_steps",
    "log.trackers": "loggers logger report_to tracker wandb tensorboard mlflow swanlab trackio",
    "distill.from": "teacher teacher_checkpoint distill_teacher",
    "distill.temperature": "kd_temperature",
}
COMMANDS = {
    "gpus devices num_gpus ngpus world_size nproc nproc_per_node gpu_ids nnodes num_nodes local_rank rank dist distributed launcher": "processes are started by torchrun "
    "(torchrun --nproc-per-node N -m clipwise train …)",
    "device gpu cuda cpu accelerator": "the device is chosen by itself; --device cpu keeps off an accelerator",
    "work_dir output output_dir out_dir project save_dir exp_name run_name output_path logging_dir": "it is the option --work-dir DIR",
    "data data_dir dataset_dir data_path datasets": "it is the option --data DIR|LIST, or the keys train_data and val_data",
    "resume resume_from resume_from_checkpoint auto_resume": "it is the option --resume [PATH]",
    "max_steps max_iters total_iters max_iter num_steps iters fast_dev_run limit_train_batches overfit_batches": "it is the option --max-steps N; the recipe counts epochs",
    "validate val eval do_eval no_validate": "it is the option --validate or --no-validate",
    "config cfg recipe": "it is the first word of the command",
    "num_frames frames n_frames num_frame frames_per_clip clip_length seq_len sequence_length": "a sample's frames are num_segments "
    "(TSN, TSM: one or a few of each segment) or clip_len (one run of frames)",
    "depth num_layers layers": "the depth is in the model's name (model=tsm_r101)",
    "patience early_stopping early_stopping_patience": "there is no early stopping; best.safetensors keeps the best epoch",
    "save_best monitor metric_for_best_model load_best_model_at_end": "best.safetensors always keeps the best epoch",
    "metric metrics eval_metrics": "metrics are chosen by clipwise test --eval METRIC",
    "pin_memory dataloader_pin_memory persistent_workers prefetch_factor": "the loader chooses it; num_workers is what there is to set",
    "exist_ok overwrite_output_dir": "an earlier run in the folder is moved aside; --work-dir names another folder",
}


def foreign_group(kind: type[BaseModel], path: Sequence[str]) -> str | None:
    """``; did you mean 'lr'?`` for a key inside a group of another tool (``SOLVER.BASE_LR``, ``optimizer.lr``)."""
    plain = [_plain(part) for part in path]
    pair = f"{plain[-2]}_{plain[-1]}"
    known_pair = any(pair in words.split() for words in (*SYNONYMS.values(), *COMMANDS))
    for word in (pair if known_pair else "", plain[-1], plain[0] if plain[-1] in ("type", "name") else ""):
        if text := next((text for words, text in COMMANDS.items() if word in words.split()), None):
            return f"; {text}"
        if word and (close := known_key(kind, word)):
            return f"; did you mean {close!r}?"
    return None


def no_group(kind: type[BaseModel], path: Sequence[str], value: Any) -> str:
    """Why ``optimizer.lr=0.1`` sets nothing: a key, not a group of keys, comes before a dot, and what may have been meant."""
    if path[0] == "model":
        return f"model is a name ({value}), its settings are model_args.KEY{foreign_group(kind, path) or ''}"
    where = f"{'.'.join(path[:-1])} holds {'null' if value is None else repr(value)}, it is not a group of keys"
    return where + (foreign_group(kind, path) or "")


def _inner_path(values: Any, way: Iterable[str | int]) -> list[str]:
    """The rest of a dotted key that was given on the command line: the only keys inside an unknown one."""
    for part in way:
        values = values[part]
    path = []
    while isinstance(values, Mapping) and len(values) == 1:
        key, values = next(iter(values.items()))
        path.append(str(key))
    return path


def suggestion(kind: type[BaseModel], owner: type[BaseModel], key: str, near: bool = True) -> str:
    """``; did you mean 'lr'?`` for an unknown key; where nothing is near, what lists the keys.

    Args:
        kind: the recipe's class.
        owner: the class that lacks the key: the recipe's or a group's.
        near: the name may be a mistyped key; false for the group of another tool.
    """
    if owner is not kind and owner not in _groups(kind).values():  # of a source
        close = nearest(key, owner.model_fields, 0.7)
        return f"; did you mean {close!r}?" if close else f"; known: {', '.join(owner.model_fields)}"
    plain = _plain(key)
    if owner is kind and (text := next((text for words, text in COMMANDS.items() if plain in words.split()), None)):
        return f"; {text}"
    group = next((name for name, inner in _groups(kind).items() if inner is owner), None)
    if near and (close := known_key(kind, key, group)):
        return f"; did you mean {close!r}?"
    from clipwise.recipe.moved import place_of

    others = [other for other in RECIPES if other is not kind and (key in other.model_fields or place_of(other, key))]
    if others:
        return f"; only recipes of the task {_task(others[0])!r} have it"
    if not near and (close := nearest(plain, _groups(kind), 0.7)):
        return f"; did you mean the group {close!r}?"
    inside = [name for name in _names(kind) if group and name.startswith(f"{group}.")]
    return f"; known: {', '.join(inside)}" if inside else "; `clipwise explain RECIPE --keys` lists the keys"


def known_key(kind: type[BaseModel], key: str, group: str | None = None) -> str | None:
    """Our key for what another tool calls so, or for a mistyped one; None when nothing is near.

    Args:
        group: where the key was given (``augment``), whose own keys come first.
    """
    plain, names = _plain(key), _names(kind)
    inside = [name.partition(".")[2] for name in names if name.startswith(f"{group}.")]
    if group and (close := nearest(plain, inside, 0.7)):
        return f"{group}.{close}"
    for name, words in SYNONYMS.items():
        if {plain, f"{group}_{plain}"} & set(words.split()) and (name in names or name.startswith("model_args.")):
            return name
    last = {name.rpartition(".")[2]: name for name in reversed(names)}
    if plain in last:
        return last[plain]
    close = nearest(plain, names, 0.8)
    return close or (last[near] if (near := nearest(plain, last, 0.8)) else None)


def as_overrides(words: Sequence[str], message: str) -> str:
    """``. Keys of the recipe are written key=value: epochs=3`` for unknown options (``--epochs 3``), or an empty string.

    Args:
        words: of the command line, without the options that the command has.
        message: which options are unknown.
    """
    from clipwise.recipe.moved import MOVED

    found = []
    for at, word in enumerate(words):
        option, equals, value = word.partition("=")
        if not option.startswith("--") or option not in message:
            continue
        key = _plain(option.lstrip("-"))
        known = MOVED.get(key) or next((k for kind in RECIPES for k in _names(kind) if k == key), None)
        known = known or next((name for name, other in SYNONYMS.items() if key in other.split()), None)
        following = words[at + 1] if at + 1 < len(words) and not words[at + 1].startswith("-") else "…"
        if known:
            found.append(f"{known}={value if equals else following}")
    return f". Keys of the recipe are written key=value: {' '.join(found)}" if found else ""


def _task(kind: type[BaseModel]) -> str:
    return str(get_args(kind.model_fields["task"].annotation)[0])


def _plain(key: str) -> str:
    return key.lower().replace("-", "_").replace(".", "_")


def _groups(kind: type[BaseModel]) -> dict[str, type[BaseModel]]:
    return {
        key: type(field.default) for key, field in kind.model_fields.items() if isinstance(field.default, BaseModel)
    }


def _names(kind: type[BaseModel]) -> list[str]:
    """Every key as a command line writes it."""
    groups = _groups(kind)
    inner = (f"{group}.{field.alias or key}" for group in groups for key, field in groups[group].model_fields.items())
    return [*(key for key in kind.model_fields if key not in groups), *inner]


def _field_name(owner: type[BaseModel], key: str) -> str:
    """The field behind a key, which may be its alias (`from` is a word of Python)."""
    return next((name for name, field in owner.model_fields.items() if field.alias == key), key)


def find_key(model: type[BaseModel], place: Sequence[str | int]) -> tuple[type[BaseModel], list[str | int], bool]:
    """The innermost key on the way to a wrong value.

    Args:
        model: the recipe's class.
        place: keys and positions as pydantic's error lists them; what follows the key (the position in a tuple, the
            member of a union) is not taken.

    Returns:
        The class that has (or lacks) the key, the way to it, and whether the class knows it.
    """
    owner, end = model, 1
    for i, part in enumerate(place[:-1]):
        field = owner.model_fields.get(str(part))
        inner = field and next(filter(_is_model, _parts(field.annotation)), None)
        if inner:
            # a list of models has a position before the next key
            following = i + 1 + isinstance(place[i + 1], int)
            if following < len(place):
                owner, end = inner, following + 1
    return owner, list(place[:end]), _field_name(owner, str(place[end - 1])) in owner.model_fields


def allowed(field: FieldInfo) -> str:
    """What a key may be: ``a number above 0, or null``."""
    return _words(field.annotation, field.metadata)


def given(values: Any, way: Iterable[str | int]) -> str:
    """What stands at a key, as YAML writes it where Python would not."""
    for part in way:
        values = values[part]
    return "null" if values is None else str(values).lower() if isinstance(values, bool) else repr(values)


def _is_model(kind: Any) -> bool:
    return isinstance(kind, type) and issubclass(kind, BaseModel)


def _parts(kind: Any) -> list[Any]:
    """A type and those inside its brackets."""
    return [kind, *(inner for part in get_args(kind) for inner in _parts(part))]


def _words(kind: Any, limits: Iterable[Any] = ()) -> str:
    origin, parts = get_origin(kind), get_args(kind)
    if origin is Annotated:
        return _words(parts[0], [*parts[1:], *limits])
    if origin in (Union, UnionType):
        return ", or ".join(_words(part, limits if part is not NoneType else ()) for part in parts)
    if origin is Literal:
        return _listed([repr(part) for part in parts])
    if origin is list:
        return f"a list (each {_words(parts[0])})"
    if origin is tuple:
        return f"a list of {len(parts)} (each {_words(parts[0])})"
    if origin in (dict, Mapping) or _is_model(kind):
        return "a dictionary"
    return f"{_NAMES.get(kind, kind.__name__)}{_range(limits)}"


def _range(limits: Iterable[Any]) -> str:
    flat = [one for limit in limits for one in (limit.metadata if isinstance(limit, FieldInfo) else [limit])]
    found = {name: getattr(limit, name) for limit in flat for name in ("ge", "gt", "le", "lt") if hasattr(limit, name)}
    if "ge" in found and "le" in found:
        return f" from {found['ge']} to {found['le']}"
    words = {"ge": "of at least", "gt": "above", "le": "of at most", "lt": "below"}
    return "".join(f"{' and' if i else ''} {words[name]} {limit}" for i, (name, limit) in enumerate(found.items()))


def _listed(names: list[str]) -> str:
    return f"{', '.join(names[:-1])} or {names[-1]}" if len(names) > 1 else names[0]
