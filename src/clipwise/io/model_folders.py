"""Models of other libraries by name: ``hf:ORG/NAME`` or ``hf:FOLDER`` (transformers), ``timm:NAME`` or ``timm:FOLDER``.

A folder is taken as it is; a name of the hub is downloaded once, settings and safetensors only. Weights that only exist as a
pickle need ``--trust``. ``hf:MODEL?classes=FILE`` makes an image–text model a recognizer of the classes that the file names.
"""

from __future__ import annotations

import hashlib
import json
import re
from pathlib import Path
from typing import Any

from clipwise.errors import CheckpointError, MissingExtraError
from clipwise.io.parse import parse_json
from clipwise.io.plugins import is_trusted

_HUB_NAME = re.compile(r"[\w.-]+/[\w.-]+")
_SETTINGS = ["*.json", "*.txt", "*.model"]


def classes_file(name: str | Path) -> Path | None:
    """FILE of ``hf:MODEL?classes=FILE``.

    Raises:
        CheckpointError: another option.
    """
    options = str(name).partition("?")[2]
    if not options:
        return None
    key, _, value = options.partition("=")
    if key != "classes" or not value:
        raise CheckpointError(f"{name}: the only option behind a model's name is ?classes=FILE.")
    return Path(value)


def model_folder(name: str | Path) -> Path:
    """The folder of ``hf:…`` or ``timm:…``, downloaded if it is a name of the hub.

    Raises:
        CheckpointError: neither a folder with a config.json nor a name of the hub, or it cannot be downloaded.
    """
    where = str(name).partition(":")[2].partition("?")[0]
    folder = Path(where)
    if folder.is_dir():
        if not (folder / "config.json").is_file():
            raise CheckpointError(
                f"{name}: the folder holds no config.json, so it is not a model of transformers or timm."
            )
        return folder
    if not _HUB_NAME.fullmatch(where):
        raise CheckpointError(f"{name} is neither a folder nor a name of the hub. Give hf:FOLDER or hf:ORG/NAME.")
    try:
        import huggingface_hub
    except ImportError:
        raise MissingExtraError("huggingface_hub", "hf", str(name)) from None
    patterns = [*_SETTINGS, "*.safetensors"]
    if is_trusted():
        patterns += ["*.py", "*.bin"]
    try:
        return Path(huggingface_hub.snapshot_download(where, allow_patterns=patterns))
    except Exception as error:  # the hub's library has many kinds, of networks, names and rights
        reason = str(error).strip().split("\n")[0]
        raise CheckpointError(
            f"{name} cannot be downloaded: {reason}. Without the network, give a folder: hf:FOLDER."
        ) from None


def weight_files(folder: Path, name: str | Path) -> list[Path]:
    """The files that hold a model's weights, safetensors unless foreign code is trusted.

    Raises:
        CheckpointError: there are none, or only pickles without trust.
    """
    if found := sorted(folder.glob("*.safetensors")):
        return found
    pickles = sorted(p for p in folder.iterdir() if p.suffix in (".bin", ".pt", ".pth"))
    if not pickles:
        raise CheckpointError(f"{name}: no weights in {folder}; a model.safetensors is expected there.")
    if not is_trusted():
        raise CheckpointError(
            f"{name}: its weights are a pickle ({pickles[0].name}), which can run code when it is read. Ask for a model.safetensors; "
            "if you trust the file, --trust reads it."
        )
    return pickles


def folder_hash(name: str | Path) -> str:
    """Of a model's settings and weights, in 16 digits: the same wherever the folder lies."""
    folder = model_folder(name)
    digest = hashlib.sha256()
    settings = [folder / file for file in ("config.json", *PROCESSOR_FILES) if (folder / file).is_file()]
    if names := classes_file(name):
        digest.update(names.read_bytes())
    for path in [*settings, *weight_files(folder, name)]:
        digest.update(path.name.encode())
        with open(path, "rb") as file:
            while chunk := file.read(1 << 22):
                digest.update(chunk)
    return digest.hexdigest()[:16]


PROCESSOR_FILES = ("processor_config.json", "video_preprocessor_config.json", "preprocessor_config.json")


def read_settings(folder: Path, file: str) -> dict[str, Any]:
    """A JSON file of the folder; empty if it is not there.

    Raises:
        CheckpointError: it is damaged.
    """
    path = folder / file
    if not path.is_file():
        return {}
    try:
        values = parse_json(path.read_text(encoding="utf-8"))
    except (UnicodeDecodeError, json.JSONDecodeError, ValueError) as error:
        raise CheckpointError(f"{path} is damaged: {error}.") from None
    if not isinstance(values, dict):
        raise CheckpointError(f"{path} is damaged: an object of settings is expected.")
    return values
