"""The zoo's catalog: published weights by name, with address, checksum, classes, figures and license.

A file's name ends in the first eight hexadecimal digits of its SHA-256, as MMAction2's and torchvision's do; that is
what a download is checked against. PaddleCV's has none: what comes must fit the network. Downloading and converting is done by ``clipwise.engine.pretrained``. An address stands here
only where it was read in a public table; rows whose weights have none are left out.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field

from clipwise.errors import CheckpointError

_OPENMMLAB = "https://download.openmmlab.com/mmaction/recognition/"
_TORCHVISION = "https://download.pytorch.org/models/"
MMACTION2_LICENSE = "Apache-2.0 (MMAction2); the data sets have terms of their own"
TORCHVISION_LICENSE = "BSD-3-Clause (torchvision); ImageNet has terms of its own"


@dataclass(frozen=True)
class Weights:
    """One published file.

    Attributes:
        name: what a user types; the name of its recipe where there is one of that name.
        url: where it is published.
        recipe: the packaged recipe with its model, preprocessing and test protocol; None for ImageNet weights.
        num_classes: outputs of the published network.
        metrics: published figures in percent.
        license: of the weights.
        note: what should be known before it is used.
    """

    name: str
    url: str
    recipe: str | None
    num_classes: int
    metrics: dict[str, float] = field(default_factory=dict)
    license: str = MMACTION2_LICENSE
    note: str = ""

    @property
    def file_name(self) -> str:
        return self.url.rsplit("/", 1)[1]

    @property
    def sha256(self) -> str:
        """The first eight digits of the file's SHA-256; empty where they were not published."""
        found = re.search(r"-([0-9a-f]{8})\.\w+$", self.file_name)
        return found[1] if found else ""


def _mmaction2(
    name: str,
    stamp: str,
    top1: float,
    top5: float | None = None,
    *,
    classes: int = 400,
    folder: str | None = None,
    file: str | None = None,
    recipe: str | None = None,
    mean_class: float | None = None,
    note: str = "",
) -> Weights:
    """A row of MMAction2's tables; the family is the first word of its name.

    ``stamp``: date and hash as they end the file's name; ``folder`` and ``file`` where they are not the row's name.
    """
    family = name.split("_", 1)[0]
    figures = {"top1": top1, "top5": top5, "mean_class_accuracy": mean_class}
    folder = folder or name
    return Weights(
        name,
        f"{_OPENMMLAB}{family}/{folder}/{file or folder.rsplit('/', 1)[-1]}{stamp}.pth",
        recipe or name,
        classes,
        {key: value for key, value in figures.items() if value is not None},
        note=note,
    )


def _paddle_tsn(segments: int, top1: float) -> Weights:
    """The one published file, tested with so many segments."""
    name = f"tsn_r50_paddle_{segments}seg_45e_kinetics400_rgb"
    return Weights(
        name,
        "https://paddlemodels.bj.bcebos.com/video_classification/TSN.pdparams",
        name,
        400,
        {"top1": top1},
        license="Apache-2.0 (PaddlePaddle/models); the data sets have terms of their own",
        note="Published without a checksum: what can be checked is that it fits the network.",
    )


def _imagenet(depth: str, stamp: str, version: int = 1) -> Weights:
    """Torchvision's two trainings of a ResNet; ``torchvision://`` and the published video models mean the first."""
    return Weights(
        f"imagenet_resnet{depth}" + "_v2" * (version == 2),
        f"{_TORCHVISION}resnet{depth}-{stamp}.pth",
        None,
        1000,
        license=TORCHVISION_LICENSE,
        note=f"2-D ImageNet weights (torchvision, IMAGENET1K_V{version}), to start a training from",
    )


_GYM = "The network has 400 outputs, of which the first 99 mean something (left at 400 by MMAction2)."
_OMNI = "Trained with OmniSource; the training config was not published."

# fmt: off
_ALL = [
    # SlowOnly: the links of MMAction2's table
    _mmaction2("slowonly_r50_256p_4x16x1_256e_kinetics400_rgb", "_20200820-bea7701f", 72.76, 90.51),
    _mmaction2("slowonly_r50_4x16x1_256e_kinetics400_rgb", "_20200704-a69556c6", 73.02, 90.77),
    _mmaction2("slowonly_r50_video_4x16x1_256e_kinetics400_rgb", "_20201014-c9cdc656", 72.90, 90.82, folder="slowonly_r50_video_320p_4x16x1_256e_kinetics400_rgb"),
    _mmaction2("slowonly_r50_256p_8x8x1_256e_kinetics400_rgb", "_20200820-75851a7d", 74.42, 91.49),
    _mmaction2("slowonly_r50_8x8x1_256e_kinetics400_rgb", "_20200703-a79c555a", 74.93, 91.92),
    _mmaction2("slowonly_imagenet_pretrained_r50_4x16x1_150e_kinetics400_rgb", "_20200912-1e8fc736", 73.39, 91.12),
    _mmaction2("slowonly_imagenet_pretrained_r50_8x8x1_150e_kinetics400_rgb", "_20200912-3f9ce182", 75.55, 92.04),
    _mmaction2("slowonly_nl_embedded_gaussian_r50_4x16x1_150e_kinetics400_rgb", "_20210308-0d6e5a69", 74.54, 91.73),
    _mmaction2("slowonly_nl_embedded_gaussian_r50_8x8x1_150e_kinetics400_rgb", "_20210308-e8dd9e82", 76.07, 92.42),
    _mmaction2("slowonly_r50_4x16x1_256e_kinetics400_flow", "_20200704-decb8568", 61.79, 83.62),
    _mmaction2("slowonly_r50_8x8x1_196e_kinetics400_flow", "_20200704-6b384243", 65.76, 86.25, folder="slowonly_r50_8x8x1_256e_kinetics400_flow"),
    _mmaction2("slowonly_r50_randomresizedcrop_340x256_4x16x1_256e_kinetics400_rgb", "_20200803-dadca1a3", 71.61, 90.05, folder="data_benchmark/slowonly_r50_randomresizedcrop_340x256_4x16x1_256e_kinetics400_rgb"),
    _mmaction2("slowonly_r101_8x8x1_196e_kinetics400_rgb", "_20200926-0c730aef", 76.5, 92.7, folder="omni", file="slowonly_r101_without_omni_8x8x1_kinetics400_rgb"),
    _mmaction2("slowonly_r50_omni_4x16x1_kinetics400_rgb", "_20200926-51b1f7ea", 76.8, 92.5, folder="omni", file="slowonly_r50_omni_4x16x1_kinetics400_rgb", note=_OMNI),
    _mmaction2("slowonly_r101_omni_8x8x1_kinetics400_rgb", "_20200926-b5dbb701", 80.4, 94.4, folder="omni", file="slowonly_r101_omni_8x8x1_kinetics400_rgb", note=_OMNI),
    _mmaction2("slowonly_r50_video_8x8x1_256e_kinetics600_rgb", "_20201015-81e5153e", 77.5, 93.7, classes=600),
    _mmaction2("slowonly_r50_video_8x8x1_256e_kinetics700_rgb", "_20201015-9250f662", 65.0, 86.1, classes=700),
    _mmaction2("slowonly_imagenet_pretrained_r50_4x16x1_120e_gym99_rgb", "_20201111-a9c34b54", 79.3, mean_class=70.2, note=_GYM),
    _mmaction2("slowonly_kinetics_pretrained_r50_4x16x1_120e_gym99_flow", "_20201111-66ecdb3c", 80.3, mean_class=71.0, note=_GYM),
    _mmaction2("slowonly_imagenet_pretrained_r50_8x8x1_64e_jester_rgb", "-b56a5389", 97.2, classes=27),
    # TPN
    _mmaction2("tpn_slowonly_r50_8x8x1_150e_kinetics_rgb", "-c568e7ad", 73.58, 91.35),
    _mmaction2("tpn_imagenet_pretrained_slowonly_r50_8x8x1_150e_kinetics_rgb", "-44362b55", 76.59, 92.72),
    _mmaction2("tpn_tsm_r50_1x1x8_150e_sthv1_rgb", "_20210311-28de4cd5", 50.80, 79.05, classes=174),
    _mmaction2("tpn_tsm_r50_1x1x8_150e_sthv1_rgb_20211202", "_20211202-c28ed83f", 51.50, 79.15, classes=174, folder="tpn_tsm_r50_1x1x8_150e_sthv1_rgb", recipe="tpn_tsm_r50_1x1x8_150e_sthv1_rgb"),
    # TSN
    _mmaction2("tsn_r50_1x1x3_100e_kinetics400_rgb", "_20200614-e508be42", 70.60, 89.26),
    _mmaction2("tsn_r50_320p_1x1x3_100e_kinetics400_rgb", "_20200702-cc665e2a", 70.91, 89.51),
    _mmaction2("tsn_r50_320p_1x1x3_110e_kinetics400_flow", "_20200705-3036bab6", 55.70, 79.85),
    _mmaction2("tsn_r50_320p_1x1x8_100e_kinetics400_rgb", "_20200702-ef80e3d7", 72.41, 90.55),
    _mmaction2("tsn_r50_320p_1x1x8_110e_kinetics400_flow", "_20200705-1f39486b", 57.76, 80.99),
    _mmaction2("tsn_r50_video_320p_1x1x3_100e_kinetics400_rgb", "_20201014-5ae1ee79", 71.11, 90.04),
    _mmaction2("tsn_r50_video_1x1x8_100e_kinetics400_rgb", "_20200702-568cde33", 71.14, 89.63),
    _mmaction2("tsn_r50_dense_1x1x8_100e_kinetics400_rgb", "_20200606-e925e6e3", 70.77, 89.3),
    _mmaction2("tsn_r50_dense_1x1x5_100e_kinetics400_rgb", "_20200627-a063165f", 70.18, 89.10),
    _mmaction2("tsn_r50_1x1x3_75e_ucf101_rgb", "_20201023-d85ab600", 83.03, 96.78, classes=101),
    _paddle_tsn(3, 66.0),
    _paddle_tsn(7, 67.0),
    # TSM
    _mmaction2("tsm_r50_1x1x8_50e_kinetics400_rgb", "_20200726-020785e2", 70.59, 89.52, folder="tsm_r50_256p_1x1x8_50e_kinetics400_rgb"),
    _mmaction2("tsm_nl_embedded_gaussian_r50_1x1x8_50e_kinetics400_rgb", "_20200724-f00f1336", 72.03, 90.25),
    _mmaction2("tsm_nl_gaussian_r50_1x1x8_50e_kinetics400_rgb", "_20200816-b93fd297", 70.70, 89.90),
    _mmaction2("tsm_nl_dot_product_r50_1x1x8_50e_kinetics400_rgb", "_20200724-d8ad84d2", 71.60, 90.34),
    _mmaction2("tsm_r50_1x1x8_50e_sthv1_rgb", "_20210203-01dce462", 47.70, 76.12, classes=174),
    _mmaction2("tsm_r50_flip_1x1x8_50e_sthv1_rgb", "_20210203-12596f16", 48.51, 77.56, classes=174),
    _mmaction2("tsm_r50_1x1x16_50e_sthv1_rgb", "_20201010-17fa49f6", 49.28, 77.82, classes=174),
    _mmaction2("tsm_r101_1x1x8_50e_sthv1_rgb", "_20201010-43fedf2e", 48.43, 76.72, classes=174),
    _mmaction2("tsm_r50_1x1x8_50e_sthv2_rgb", "_20200912-033c4ac6", 61.12, 86.26, classes=174),
    # what trainings start from
    _imagenet("18", "f37072fd"),
    _imagenet("34", "b627a593"),
    _imagenet("50", "0676ba61"),
    _imagenet("101", "63fe2227"),
    _imagenet("152", "394f9c45"),
    _imagenet("50", "11ad3fa6", version=2),  # MMAction2 1.x's configs start from these two
    _imagenet("101", "cd907fc2", version=2),
]
# fmt: on

CATALOGUE: dict[str, Weights] = {weights.name: weights for weights in _ALL}

# Rows of the tables that are another row's checkpoint, and other names of files.
ALIASES = {
    "slowonly_r50_randomresizedcrop_320p_4x16x1_256e_kinetics400_rgb": "slowonly_r50_4x16x1_256e_kinetics400_rgb",
    "slowonly_r50_randomresizedcrop_256p_4x16x1_256e_kinetics400_rgb": "slowonly_r50_256p_4x16x1_256e_kinetics400_rgb",
    "slowonly_r50_8x8x1_256e_kinetics400_flow": "slowonly_r50_8x8x1_196e_kinetics400_flow",
    "slowonly_k400_pretrained_r50_4x16x1_120e_gym99_flow": "slowonly_kinetics_pretrained_r50_4x16x1_120e_gym99_flow",
}


def find_weights(name: str) -> Weights | None:
    """The catalog's entry of a name, or None."""
    return CATALOGUE.get(ALIASES.get(name, name))


def imagenet_name(depth: str) -> str:
    """The catalog's name of the ImageNet weights of a ResNet of this depth.

    Raises:
        CheckpointError: there are none.
    """
    name = f"imagenet_resnet{depth}"
    if name not in CATALOGUE:
        known = ", ".join(
            n.removeprefix("imagenet_resnet") for n in CATALOGUE if re.fullmatch(r"imagenet_resnet\d+", n)
        )
        raise CheckpointError(
            f"there are no ImageNet weights for a ResNet of depth {depth!r}, only for {known}. "
            "Train from scratch with init=null, or choose a model of one of these depths."
        )
    return name
