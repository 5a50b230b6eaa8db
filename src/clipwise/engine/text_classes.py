"""Image–text models (SigLIP, CLIP) as recognizers of classes that are only named: ``hf:MODEL?classes=FILE``.

A line of the file is a class's name, or ``name<tab>text``. The text tower runs once; what stays is one row of weights a class.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from torch import nn

from clipwise.engine.saver import Passport
from clipwise.errors import CheckpointError, DataError
from clipwise.io.model_folders import model_folder, weight_files
from clipwise.models.hf import import_transformers
from clipwise.models.registry import create_model

TEMPLATE = "This is a photo of {}."
"""Of a name without a text: that of transformers' zero-shot pipeline."""


def read_texts(path: Path) -> tuple[list[str], list[str]]:
    """Names and texts of the classes.

    Raises:
        DataError: no such file, fewer than two classes, or a name twice.
    """
    try:
        lines = [line.strip() for line in path.read_text(encoding="utf-8").splitlines() if line.strip()]
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"{path}: class names can't be read ({error}).") from None
    pairs = [line.partition("\t")[::2] for line in lines]
    names = [name.strip() for name, _ in pairs]
    if len(names) < 2 or len(set(names)) < len(names):
        raise DataError(f"{path}: two or more names of classes are expected, one a line, each once.")
    return names, [text.strip() or TEMPLATE.format(name.replace("_", " ")) for name, text in pairs]


def load_text_classifier(
    name: str | Path, file: Path, recipe: Any, device: str | torch.device = "cpu"
) -> tuple[nn.Module, Passport]:
    """A recognizer of the file's classes.

    Raises:
        CheckpointError: no image–text model, or it has no tokenizer.
    """
    from clipwise.models.hf import load_network

    names, texts = read_texts(file)
    weight, scale, bias = text_weights(name, texts)
    args = {**recipe.model_args, "num_classes": len(names), "head": "text"}
    net, _ = load_network(name, False)
    model = create_model("hf", net=net, **args)
    head: Any = model.head
    with torch.no_grad():
        head.classifier.weight.copy_(weight)
        head.classifier.bias.fill_(bias)
        head.scale.fill_(scale)
    values = {**recipe.model_dump(mode="json"), "num_classes": len(names)}
    passport = Passport("hf", args, classes=names, recipe=values, source=str(name))
    model.passport = passport  # type: ignore[assignment]
    return model.eval().to(device), passport


@torch.inference_mode()
def text_weights(name: str | Path, texts: list[str]) -> tuple[torch.Tensor, float, float]:
    """Normalized embeddings (K, D) of texts, the model's scale (not its logarithm) and its bias."""
    transformers = import_transformers()
    folder = model_folder(name)
    safe = weight_files(folder, name)[0].suffix == ".safetensors"
    config = transformers.AutoConfig.from_pretrained(folder, local_files_only=True)
    if not hasattr(config, "text_config"):
        raise CheckpointError(
            f"{name} is a {config.model_type}, not an image–text model; ?classes=FILE needs SigLIP or CLIP."
        )
    try:
        tokenizer = transformers.AutoTokenizer.from_pretrained(folder, local_files_only=True)
    except (OSError, ValueError) as error:
        reason = str(error).strip().splitlines()[0]
        raise CheckpointError(f"{name}: its tokenizer can't be read: {reason}") from None
    kind = transformers.AutoModel._model_mapping[type(config)]
    model = kind.from_pretrained(folder, local_files_only=True, use_safetensors=safe, dtype=torch.float32).eval()
    length = config.text_config.max_position_embeddings
    # SigLIP was trained on texts padded to their full length, CLIP reads its end token wherever it stands
    padding = "max_length" if config.model_type.startswith("siglip") else True
    tokens = tokenizer(texts, padding=padding, truncation=True, max_length=length, return_tensors="pt")
    given = {key: tokens[key] for key in ("input_ids", "attention_mask") if key in tokens}
    if config.model_type.startswith("siglip"):
        given.pop("attention_mask", None)
    rows = model.get_text_features(**given)
    rows = getattr(rows, "pooler_output", rows)
    bias = float(model.logit_bias) if hasattr(model, "logit_bias") else 0.0
    return (rows / rows.norm(dim=-1, keepdim=True)).clone(), float(model.logit_scale.exp()), bias
