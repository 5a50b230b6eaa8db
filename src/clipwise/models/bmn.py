"""BMN: Boundary-Matching Network for temporal action proposals (Lin et al., ICCV 2019).

From a sequence of snippet features to a score for every possible proposal at once:

- two curves tell where actions start and end (temporal evaluation module, TEM);
- a map over all (duration, start) pairs tells how well each proposal fits, once as regressed IoU and once as
  a classification (proposal evaluation module, PEM);
- the map is built by sampling every proposal from one feature sequence (the boundary-matching layer), which is where
  all the arithmetic was; see :mod:`clipwise.models.boundary_matching` for how little of it is needed.

Letters: B batch, F feature dimension, L feature positions, D durations, P valid cells of the map.
"""

import inspect
from collections.abc import Mapping, Sequence
from typing import Any, Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from clipwise.errors import ClipwiseError
from clipwise.models.boundary_matching import BoundaryMatching, Layout, Sampling
from clipwise.models.contract import InputSpec, Stage
from clipwise.models.localizer_rules import FoundSegments, LabeledVideo, LocalizerRules
from clipwise.models.map_convolution import ValidMapConvolutions
from clipwise.models.registry import register_model
from clipwise.recipe import Recipe
from clipwise.tasks.bmn_targets import bmn_loss, bmn_targets
from clipwise.tasks.proposals import generate_proposals

__all__ = ["BMN", "BMNRules", "bmn"]

GROUPS = 4  # of the temporal convolutions of base and TEM


class BMN(nn.Module):
    """Scores of all proposals of a feature sequence.

    Args:
        feat_dim: F, channels of the features; any number. One that the groups of the first convolution do not divide
            gets channels of zeros (# differs: the references stop).
        temporal_dim: L, positions that a video is rescaled to.
        max_duration: D, longest proposal in positions, or (below 1) as a share of L, more in training on longer segments; L if not given.
        hidden_dim: channels of base and TEM.
        matching_dim: channels that enter the boundary-matching layer: 256 in JJBOY's code and MMAction2, 128 in
            the authors' own code (Paddle) and OpenTAD.
        map_dim: channels of the map's convolutions; the boundary-matching layer puts out four times as many.
        boundary_ratio, num_samples, num_samples_per_bin, sampling, layout, method: see
            :class:`~clipwise.models.boundary_matching.BoundaryMatching`.

        map_cells: "all" gives every cell of the map what the references give it. "valid" makes the cells that run
            past the end of the video 0, which spares a CPU half of the map. "auto" does that for training on a CPU in
            full precision, where it changes neither loss nor gradients.
        context: residual layers behind the base, over all channels, with dilations 1, 2, 4, … (# differs: the paper has none).
            The base sees 5 positions in 4 groups of channels: too little for features that see no further themselves.
        feature_dropout: share of the features' channels that a training sample does without, against learning few videos by heart.

    Weights trained with one ``sampling`` or ``layout`` are of no use in another, though all shapes agree.
    """

    task = "localization"
    counts_on_meta = False  # the sampling matrix is made from numbers

    def __init__(
        self,
        feat_dim: int = 400,
        temporal_dim: int = 100,
        max_duration: float | None = None,
        hidden_dim: int = 256,
        matching_dim: int = 256,
        map_dim: int = 128,
        boundary_ratio: float = 0.5,
        num_samples: int = 32,
        num_samples_per_bin: int = 3,
        sampling: Sampling = "mmaction2",
        layout: Layout = "duration_start",
        method: Literal["auto", "sparse", "dense"] = "auto",
        map_cells: Literal["auto", "all", "valid"] = "auto",
        context: int = 0,
        feature_dropout: float = 0.0,
    ):
        super().__init__()
        if map_cells not in ("auto", "all", "valid"):
            raise ClipwiseError(f"map_cells was {map_cells!r}; use 'auto', 'all' or 'valid'")
        if feat_dim < 1:
            raise ClipwiseError(f"feat_dim was {feat_dim}; it must be at least 1")
        if hidden_dim < 1 or hidden_dim % GROUPS:
            raise ClipwiseError(
                f"hidden_dim was {hidden_dim}; it must be a multiple of {GROUPS}, because the temporal convolutions work "
                f"in {GROUPS} groups"
            )
        self.feat_dim, self.temporal_dim = feat_dim, temporal_dim
        self.max_duration = longest_proposal(max_duration, temporal_dim)
        self.sampling, self.layout = sampling, layout
        self.feature_dropout = feature_dropout
        self.base = Base(feat_dim, hidden_dim, context)
        self.start = BoundaryCurve(hidden_dim)
        self.end = BoundaryCurve(hidden_dim)
        self.proposal = ProposalMap(
            hidden_dim,
            matching_dim,
            map_dim,
            temporal_dim=temporal_dim,
            max_duration=self.max_duration,
            num_samples=num_samples,
            num_samples_per_bin=num_samples_per_bin,
            boundary_ratio=boundary_ratio,
            sampling=sampling,
            layout=layout,
            method=method,
        )
        self.proposal.map_cells = map_cells

    def forward(self, features: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Score all proposals.

        Args:
            features: (B, F, L).

        Returns:
            conf: (B, 2, D, L), or (B, 2, L, L) with layout "start_end"; channel 0 is the regressed IoU, channel 1
                the classification score. Cells that run past the end of the video hold values without meaning.
            start, end: (B, L), probability that an action starts or ends at each position.
            All are probabilities, in float32 even when the network runs in half precision.

        Raises:
            ClipwiseError: features of another shape than (B, feat_dim, temporal_dim).
        """
        if features.dim() != 3 or features.shape[1:] != (self.feat_dim, self.temporal_dim):
            hint = ""
            if features.dim() == 3 and features.shape[1:] == (self.temporal_dim, self.feat_dim):
                hint = "; the last two axes are swapped, use features.transpose(1, 2)"
            raise ClipwiseError(
                f"BMN got features of shape {tuple(features.shape)}; it was built for (batch, feat_dim="
                f"{self.feat_dim}, temporal_dim={self.temporal_dim}){hint}"
            )
        if self.feature_dropout:
            features = F.dropout1d(features, self.feature_dropout, self.training)
        hidden = self.base(features)
        return self.proposal(hidden), self.start(hidden), self.end(hidden)

    def input_spec(self) -> InputSpec:
        """Features of one length."""
        return InputSpec("features", (self.feat_dim, self.temporal_dim), fixed_frames=True)

    def stages(self) -> list[Stage]:
        """The base, then the two curves and the map side by side."""
        return [Stage("base", (self.base,)), Stage("head", (self.start, self.end, self.proposal))]


def longest_proposal(max_duration: float | None, temporal_dim: int) -> int:
    """D of a BMN's setting, see :class:`BMN`."""
    if max_duration is None:
        return temporal_dim
    return max(1, round(max_duration * temporal_dim)) if max_duration < 1 else int(max_duration)


class Base(nn.Module):
    """(B, F, L) -> (B, H, L)."""

    def __init__(self, feat_dim: int, hidden_dim: int, context: int = 0):
        super().__init__()
        self.missing = -feat_dim % GROUPS
        self.conv1 = nn.Conv1d(feat_dim + self.missing, hidden_dim, 3, padding=1, groups=GROUPS)
        self.conv2 = nn.Conv1d(hidden_dim, hidden_dim, 3, padding=1, groups=GROUPS)
        dilations = [2**i for i in range(context)]
        self.context = nn.ModuleList(nn.Conv1d(hidden_dim, hidden_dim, 3, padding=d, dilation=d) for d in dilations)

    def forward(self, x: Tensor) -> Tensor:
        if self.missing:
            x = F.pad(x, (0, 0, 0, self.missing))
        x = F.relu(self.conv2(F.relu(self.conv1(x))))
        for layer in self.context:
            x = x + F.relu(layer(x))
        return x


class BoundaryCurve(nn.Module):
    """TEM, one of its two branches: (B, H, L) -> (B, L)."""

    def __init__(self, hidden_dim: int):
        super().__init__()
        self.conv = nn.Conv1d(hidden_dim, hidden_dim, 3, padding=1, groups=GROUPS)
        self.score = nn.Conv1d(hidden_dim, 1, 1)

    def forward(self, x: Tensor) -> Tensor:
        return _probability(self.score(F.relu(self.conv(x))).squeeze(1))


class ProposalMap(nn.Module):
    """PEM: (B, H, L) -> (B, 2, D, L)."""

    def __init__(self, hidden_dim: int, matching_dim: int, map_dim: int, **matching_options):
        super().__init__()
        self.reduce = nn.Conv1d(hidden_dim, matching_dim, 3, padding=1)
        self.matching = BoundaryMatching(matching_dim, 4 * map_dim, **matching_options)
        self.squeeze = nn.Linear(4 * map_dim, map_dim)  # the papers' 1×1 convolution, valid cells only
        self.conv1 = nn.Conv2d(map_dim, map_dim, 3, padding=1)
        self.conv2 = nn.Conv2d(map_dim, map_dim, 3, padding=1)
        self.score = nn.Conv2d(map_dim, 2, 1)

        self.map_cells = "auto"
        self._valid_convolutions: ValidMapConvolutions | None = None

    def forward(self, x: Tensor) -> Tensor:
        # in place: the layers before do not need their outputs for the gradient
        matched = F.relu(self.matching(F.relu(self.reduce(x))), inplace=True)  # (B, P, 4·M)
        cells = F.relu(self.squeeze(matched), inplace=True)  # (B, P, M)
        # without samples the layer puts out its bias, so all invalid cells hold the same M numbers
        invalid = F.relu(self.squeeze(F.relu(self.matching.bias)))
        learning = self.training and torch.is_grad_enabled()
        if (self.map_cells == "valid" or (self.map_cells == "auto" and learning)) and _runs_tiles(cells):
            return self._forward_valid(cells, invalid)
        grid = self.matching.to_map(cells, invalid)  # (B, M, D, L), channels last
        grid = F.relu(self.conv2(F.relu(self.conv1(grid))))
        conf = _probability(self.score(grid))
        return conf * self.matching.valid if self.map_cells == "valid" else conf

    def _forward_valid(self, cells: Tensor, invalid: Tensor) -> Tensor:
        # differs: cells past the end of the video are 0 here, not what the convolutions would make of them. The loss
        # leaves them out. test_bmn_map_convolution.py compares valid cells and gradients with the whole map.
        if self._valid_convolutions is None:
            self._valid_convolutions = ValidMapConvolutions(self.matching.valid.numpy())
        cells = self._valid_convolutions(
            cells, invalid, self.conv1.weight, self.conv1.bias, self.conv2.weight, self.conv2.bias
        )
        scores = _probability(F.linear(cells, self.score.weight.flatten(1), self.score.bias))
        return self.matching.to_map(scores, scores.new_zeros(2))


class BMNRules(LocalizerRules):
    """How a BMN is trained and read: label maps and losses of one of four code bases, proposals by soft-NMS."""

    output_names = ("confidence", "start", "end")

    def __init__(self, settings: Mapping[str, Any], recipe: Recipe):
        given = inspect.signature(BMN).bind_partial(**settings)
        given.apply_defaults()
        super().__init__(given.arguments, recipe)
        args = self.settings
        self.length: int = args["temporal_dim"]
        self.max_duration = longest_proposal(args["max_duration"], self.length)
        self.layout: Layout = args["layout"]

    @classmethod
    def settled(cls, model_args: dict[str, Any], positions: int, reach: float = 0.0) -> dict[str, Any]:
        longest = model_args.get("max_duration")
        if not longest:
            return model_args
        if longest < min(reach, 1):  # a share that would miss the longest segments: they and a little more
            longest = min(positions, round(1.05 * reach * positions))
        return {**model_args, "max_duration": longest_proposal(longest, positions)}

    def prepare(self, model: Any) -> None:
        if isinstance(model, BMN):  # neither loss nor proposals look at proposals past the end of the video
            model.proposal.map_cells = "valid"

    def loss(
        self, model: nn.Module, outputs: Any, videos: Sequence[LabeledVideo], generator: torch.Generator
    ) -> dict[str, Tensor]:
        conf, start, end = outputs
        rules = self.recipe.bmn  # type: ignore[union-attr]
        targets = bmn_targets(
            [video.segments for video in videos],
            self.length,
            self.max_duration,
            convention=rules.targets,
            layout=self.layout,
            device=conf.device if conf.device.type != "mps" else None,
        ).to(conf.device)
        tem, reg, cls = rules.loss_weights
        parts = bmn_loss(
            conf, start, end, targets, rules.losses, self.layout, reg_weight=reg, cls_weight=cls, generator=generator
        )
        if tem != 1:
            parts["loss"] = parts["loss"] + (tem - 1) * parts["tem"]
        return parts

    def decode(self, outputs: Any, videos: Sequence[LabeledVideo]) -> list[FoundSegments]:
        conf, start, end = outputs
        nms = self.recipe.nms  # type: ignore[union-attr]
        # of a window the part that its neighbors do not cover better is kept
        spare = 1 if self.windows is None else 1 / (1 - self.windows.overlap)
        found = generate_proposals(
            conf,
            start,
            end,
            [video.covered_s for video in videos],
            top_k=round(spare * nms.max_proposals),
            convention=self.recipe.bmn.proposals,  # type: ignore[union-attr]
            layout=self.layout,
            alpha=nms.alpha,
            low_threshold=nms.low,
            high_threshold=nms.high,
            voting=nms.voting,
            voting_weights=nms.voting_weights,
            fused=self.recipe.bmn.scores,  # type: ignore[union-attr]
        )
        return [FoundSegments(one + video.first_s, scores) for video, (one, scores) in zip(videos, found)]

    def curves(self, outputs: Any, row: int = 0) -> tuple[Tensor, Tensor]:
        return outputs[1][row], outputs[2][row]


@register_model(task="localization", rules=BMNRules)
def bmn(feat_dim: int = 400, temporal_dim: int = 100, max_duration: float | None = None, **model_args) -> BMN:
    """BMN with MMAction2's sampling and map; ``sampling="jjboy", layout="start_end"`` for JJBOY's network."""
    return BMN(feat_dim, temporal_dim, max_duration, **model_args)


def _runs_tiles(x: Tensor) -> bool:
    """Where tiles of valid cells beat the library's own 3×3 convolution: on a CPU in full precision."""
    return x.device.type == "cpu" and x.dtype in (torch.float32, torch.float64) and not torch.compiler.is_compiling()


def _probability(logits: Tensor) -> Tensor:
    """Sigmoid in at least float32: half precision would round scores near 1 to 1, and log(1 - x) to -inf."""
    return torch.sigmoid(logits if logits.dtype == torch.float64 else logits.float())
