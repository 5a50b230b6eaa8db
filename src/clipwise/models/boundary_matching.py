"""The boundary-matching layer of BMN together with the convolution over its samples, in the cheap order.

BMN (Lin et al., ICCV 2019, section 3.3) samples every proposal of a feature sequence at N points with a constant,
almost empty matrix S, then mixes channels and points with a (N, 1, 1) convolution W::

    M[c, n, p] = sum_t f[c, t] · S[t, n, p]           one dense (C × L) @ (L × N·P) product
    y[o, p]    = sum_cn W[o, c, n] · M[c, n, p] + b[o]

Both steps are linear, so the order can be changed without changing the result::

    G[t, n, o] = sum_c f[c, t] · W[o, c, n]           one small GEMM
    y[p, o]    = sum_tn S[t, n, p] · G[t, n, o] + b[o]   sparse: about 94 non-zeros a proposal

which needs 75 times fewer operations at C = 256, L = D = 100, and keeps neither S nor M in memory. Cells that run past
the end of the video have no samples; they are left out and hold b[o] by definition.

Letters: B batch, C channels, L feature positions, D durations, N sample points (bins), O output channels,
P valid cells (proposals that end within the video).
"""

import dataclasses
import math
from collections.abc import Iterator
from typing import Any, Literal

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from clipwise.errors import ClipwiseError
from clipwise.models.matching_blocks import matching_blocks

Sampling = Literal["mmaction2", "jjboy"]
Layout = Literal["duration_start", "start_end"]

COLUMNS = 64  # output channels that the sparse product works on at a time


@dataclasses.dataclass(frozen=True)
class SamplingOperator:
    """The sampling matrix as compressed rows, for both directions.

    Attributes:
        cell: (P,) position of each valid cell in the flattened map, ascending.
        index, offsets, values: rows are cells; ``index`` holds t·N + n. Values are float32, as the references
            round them, so that results agree in every precision.
        row: (non-zeros,) the cell of each value.
        index_t, offsets_t, values_t: the transpose; rows are t·N + n, ``index_t`` holds cells.
    """

    cell: Tensor
    index: Tensor
    offsets: Tensor
    values: Tensor
    row: Tensor
    index_t: Tensor
    offsets_t: Tensor
    values_t: Tensor

    def to(self, device: torch.device) -> "SamplingOperator":
        return SamplingOperator(*(getattr(self, f.name).to(device) for f in dataclasses.fields(self)))

    def dense(self, dtype: torch.dtype) -> Tensor:
        """(P, L·N): the matrix itself, half the size of the references' mask, as invalid cells are absent."""
        cells, columns = len(self.cell), len(self.offsets_t)
        place = self.row.long() * columns + self.index
        return self.values.new_zeros(cells * columns).scatter(0, place, self.values).view(cells, columns).to(dtype)


def valid_cells(temporal_dim: int, max_duration: int, layout: Layout) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Start index, duration index and flattened map position of every proposal that ends within the video.

    A cell (d, s) is the proposal that covers positions s..s+d. In the map it stands at [d, s] ("duration_start",
    the paper, MMAction2, Paddle, OpenTAD) or at [s, s+d] ("start_end", JJBOY and the Ascend port).
    """
    duration, start = np.divmod(np.arange(max_duration * temporal_dim), temporal_dim)
    inside = start + duration < temporal_dim
    duration, start = duration[inside], start[inside]
    if layout == "duration_start":
        return start, duration, duration * temporal_dim + start
    position = start * temporal_dim + start + duration
    order = np.argsort(position)
    return start[order], duration[order], position[order]


def sampling_matrix(
    temporal_dim: int = 100,
    max_duration: int = 100,
    num_samples: int = 32,
    num_samples_per_bin: int = 3,
    boundary_ratio: float = 0.5,
    sampling: Sampling = "mmaction2",
    layout: Layout = "duration_start",
) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Build the sampling weights of all valid cells.

    The span of a proposal is widened by ``boundary_ratio`` of its length on both sides and read at
    ``num_samples · num_samples_per_bin`` evenly spaced points, ends included; each bin is the mean of its points,
    each point a linear interpolation. As in the references a point left of 0 by less than one position reads
    position 0 in full, while a point right of L-1 fades out.

    Args:
        temporal_dim: L, feature positions.
        max_duration: D, number of durations.
        num_samples: N, bins a proposal.
        num_samples_per_bin: points averaged in each bin.
        boundary_ratio: share of the length added on either side.
        sampling: "mmaction2" (also Paddle, OpenTAD): a proposal of d+1 positions spans s..s+d, and its length is d+1.
            "jjboy" (also the Ascend port): it spans s..s+d+1, and its length is d+2.
        layout: order of the cells, see :func:`valid_cells`.

    Returns:
        (P,) position of each valid cell in the flattened map, and for each non-zero its valid cell, its sample t·N + n,
        and its weight.
    """
    start, duration, cell = valid_cells(temporal_dim, max_duration, layout)
    last = start + duration + (sampling == "jjboy")
    margin = (last - start + 1) * boundary_ratio
    low, high = start - margin, last + margin
    num_points = num_samples * num_samples_per_bin
    step = (high - low) / (num_points - 1.0)
    point = low[:, None] + step[:, None] * np.arange(num_points)
    fraction, below = np.modf(point)  # truncates towards zero: the left-edge rule of the docstring
    position = np.stack([below, np.ceil(point)], axis=-1).astype(np.int64)
    weight = np.stack([1 - fraction, fraction], axis=-1)

    cells, columns = len(cell), temporal_dim * num_samples
    bin_idx = np.arange(num_points) // num_samples_per_bin
    key = (np.arange(cells)[:, None, None] * columns) + position * num_samples + bin_idx[:, None]
    inside = (position >= 0) & (position < temporal_dim) & (weight != 0)
    key, inverse = np.unique(key[inside], return_inverse=True)
    value = np.bincount(inverse, weights=weight[inside]) * (1.0 / num_samples_per_bin)
    row, column = np.divmod(key, columns)
    return cell, row, column, value.astype(np.float32)


def sampling_operator(
    temporal_dim: int = 100, max_duration: int = 100, num_samples: int = 32, **rule: Any
) -> SamplingOperator:
    """A :func:`sampling_matrix`, with its arguments, as compressed rows for both directions."""
    cell, row, column, value = sampling_matrix(temporal_dim, max_duration, num_samples, **rule)
    columns = temporal_dim * num_samples

    def tensor(array: np.ndarray, dtype=np.int32) -> Tensor:
        return torch.from_numpy(np.ascontiguousarray(array, dtype))

    transposed = np.argsort(column, kind="stable")
    return SamplingOperator(
        cell=tensor(cell, np.int64),
        index=tensor(column),
        offsets=tensor(np.searchsorted(row, np.arange(len(cell)))),
        values=tensor(value, np.float32),
        row=tensor(row),
        index_t=tensor(row[transposed]),
        offsets_t=tensor(np.searchsorted(column[transposed], np.arange(columns))),
        values_t=tensor(value[transposed], np.float32),
    )


@torch.library.custom_op("clipwise::boundary_matching", mutates_args=())
def boundary_matching(features: Tensor, weight: Tensor, bias: Tensor, operator: list[Tensor]) -> Tensor:
    """Both products, one sample at a time so that G stays in the cache: (B, C, L) -> (B, P, O).

    Half-precision features make the dense product half precision; the sums over samples stay in float32.

    Args:
        features: (B, C, L).
        weight: (C, N, O).
        bias: (O,).
        operator: index, offsets, values, index_t, offsets_t, values_t of a :class:`SamplingOperator`.
    """
    length, (_, num_samples, out_channels) = features.shape[2], weight.shape
    matrix = weight.flatten(1).to(features.dtype)
    out = features.new_empty(len(features), len(operator[1]), out_channels)
    with torch.autocast(features.device.type, enabled=False):
        for sample, matched in zip(features, out):
            grid = (sample.t() @ matrix).view(length * num_samples, out_channels)
            for columns, sums in _sum_rows(grid, *operator[:3]):
                torch.add(sums, bias[columns], out=matched[:, columns])
    return out


@torch.library.custom_op("clipwise::boundary_matching_backward", mutates_args=())
def boundary_matching_backward(
    grad: Tensor, features: Tensor, weight: Tensor, operator: list[Tensor]
) -> tuple[Tensor, Tensor, Tensor]:
    """Gradients of features, weight and bias. G is linear in both, so neither G nor the samples are needed."""
    batch, _, length = features.shape
    _, num_samples, out_channels = weight.shape
    matrix = weight.flatten(1).to(features.dtype)
    grad_features = torch.empty_like(features)
    grad_weight = torch.zeros_like(weight).flatten(1)
    grad_bias = grad.new_zeros(out_channels, dtype=weight.dtype)
    grad_grid = features.new_empty(length * num_samples, out_channels)
    flat = grad_grid.view(length, -1)
    for b in range(batch):
        for columns, sums in _sum_rows(grad[b].contiguous(), *operator[3:]):
            grad_grid[:, columns] = sums
        torch.mm(matrix, flat.t(), out=grad_features[b])
        if grad_weight.dtype == features.dtype:
            grad_weight.addmm_(features[b], flat)
        else:
            grad_weight += features[b] @ flat
        grad_bias += grad[b].sum(0, dtype=weight.dtype)
    return grad_features, grad_weight.view_as(weight), grad_bias


def _sum_rows(rows: Tensor, index: Tensor, offsets: Tensor, values: Tensor) -> Iterator[tuple[slice, Tensor]]:
    """Sparse matrix (index, offsets, values) times ``rows``, in at least float32, a few columns at a time.

    Every row is read about a hundred times, so the columns at work should fit into a core's own cache (0.8 MB at N = 32, L = 100).
    """
    rows = rows if rows.dtype == torch.float64 else rows.float()
    values = values.to(rows.dtype)
    for start in range(0, rows.shape[1], COLUMNS):
        columns = slice(start, start + COLUMNS)
        yield columns, F.embedding_bag(index, rows[:, columns], offsets, mode="sum", per_sample_weights=values)


@boundary_matching.register_fake
def _(features, weight, bias, operator):
    return features.new_empty(features.shape[0], operator[1].shape[0], weight.shape[2])


@boundary_matching_backward.register_fake
def _(grad, features, weight, operator):
    return torch.empty_like(features), torch.empty_like(weight), weight.new_empty(weight.shape[2])


def _save_for_backward(ctx, inputs, output):
    features, weight, _, operator = inputs
    ctx.save_for_backward(features, weight, *operator)


def _backward(ctx, grad):
    features, weight, *operator = ctx.saved_tensors
    return *boundary_matching_backward(grad, features, weight, operator), [None] * len(operator)


boundary_matching.register_autograd(_backward, setup_context=_save_for_backward)


def _check_options(temporal_dim, max_duration, num_samples, num_samples_per_bin, boundary_ratio) -> None:
    for name, value in (
        ("temporal_dim", temporal_dim),
        ("num_samples", num_samples),
        ("num_samples_per_bin", num_samples_per_bin),
    ):
        if value < 1:
            raise ClipwiseError(f"{name} was {value}; it must be at least 1")
    if not 1 <= max_duration <= temporal_dim:
        raise ClipwiseError(f"max_duration was {max_duration}; it must be within 1..temporal_dim ({temporal_dim})")
    if num_samples * num_samples_per_bin < 2:
        raise ClipwiseError("num_samples · num_samples_per_bin was 1; at least 2 points a proposal are needed")
    if boundary_ratio < 0:
        raise ClipwiseError(f"boundary_ratio was {boundary_ratio}; it must not be negative")


def _check_choice(name: str, value: str, allowed: tuple[str, ...]) -> None:
    if value not in allowed:
        raise ClipwiseError(f"{name} was {value!r}; use one of {', '.join(map(repr, allowed))}")


class BoundaryMatching(nn.Module):
    """Boundary-matching layer and (N, 1, 1) convolution: (B, C, L) -> (B, P, O), valid cells only.

    The result is the references' ``conv3d(matmul(f, mask))`` before its ReLU, restricted to valid cells
    (``operator.cell`` tells where each belongs) and with channels last, ready for a 1×1 convolution as a GEMM.

    The weight is stored as (C, N, O): the first product reads it as one (C, N·O) matrix without a copy.

    Args:
        in_channels, out_channels: C and O.
        temporal_dim, max_duration, num_samples, num_samples_per_bin, boundary_ratio, sampling, layout:
            see :func:`sampling_operator`.
        method: "sparse" never forms the sampling matrix; "dense" multiplies with the (P, L·N) matrix of valid cells;
            "auto" is sparse on a CPU and dense on an accelerator, where one large matrix product is the cheaper
            call. A graph that is exported or traced gets :mod:`matching_blocks`, because ONNX has no sparse product.
    """

    def __init__(
        self,
        in_channels: int = 256,
        out_channels: int = 512,
        temporal_dim: int = 100,
        max_duration: int = 100,
        num_samples: int = 32,
        num_samples_per_bin: int = 3,
        boundary_ratio: float = 0.5,
        sampling: Sampling = "mmaction2",
        layout: Layout = "duration_start",
        method: Literal["auto", "sparse", "dense"] = "auto",
    ):
        super().__init__()
        _check_options(temporal_dim, max_duration, num_samples, num_samples_per_bin, boundary_ratio)
        _check_choice("sampling", sampling, ("mmaction2", "jjboy"))
        _check_choice("layout", layout, ("duration_start", "start_end"))
        _check_choice("method", method, ("auto", "sparse", "dense"))
        if layout == "start_end" and max_duration != temporal_dim:
            raise ClipwiseError(
                f"layout 'start_end' was asked for with max_duration={max_duration} and temporal_dim={temporal_dim}; "
                "a start × end map needs both to be equal. Use layout='duration_start' for a shorter max_duration"
            )
        self.in_channels, self.out_channels, self.num_samples = in_channels, out_channels, num_samples
        self.temporal_dim, self.max_duration, self.layout, self.method = (
            temporal_dim,
            max_duration,
            layout,
            method,
        )
        self.weight = nn.Parameter(torch.empty(in_channels, num_samples, out_channels))
        self.bias = nn.Parameter(torch.empty(out_channels))
        # Constants, but neither parameters nor buffers: not in checkpoints, not sent around by DDP, and not rounded
        # by .half(). _apply moves them with the weight.
        self._rule: dict[str, Any] = {
            "num_samples_per_bin": num_samples_per_bin,
            "boundary_ratio": boundary_ratio,
            "sampling": sampling,
            "layout": layout,
        }
        self.operator = sampling_operator(temporal_dim, max_duration, num_samples, **self._rule)
        self._dense: Tensor | None = None
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """torch's default for the convolution this is: uniform within 1/sqrt(C·N)."""
        bound = 1 / math.sqrt(self.in_channels * self.num_samples)
        like_conv = torch.empty(self.out_channels, self.in_channels, self.num_samples).uniform_(-bound, bound)
        with torch.no_grad():
            self.weight.copy_(like_conv.permute(1, 2, 0))
            self.bias.uniform_(-bound, bound)

    def _apply(self, fn, recurse=True):
        super()._apply(fn, recurse)
        device = self.weight.device
        if device.type != "meta" and self.operator.cell.device != device:
            self.operator = self.operator.to(device)
            self._dense = None
        return self

    def forward(self, features: Tensor) -> Tensor:
        # torch 2.11 says that it exports while it compiles
        exporting = torch.compiler.is_exporting() and not torch.compiler.is_dynamo_compiling()
        exporting |= torch.jit.is_tracing()
        dense = features.device.type != "cpu" or exporting if self.method == "auto" else self.method == "dense"
        if dense:
            return self._forward_dense(features, exporting)
        op = self.operator
        return boundary_matching(
            features,
            self.weight,
            self.bias,
            [op.index, op.offsets, op.values, op.index_t, op.offsets_t, op.values_t],
        )

    def _forward_dense(self, features: Tensor, exporting: bool) -> Tensor:
        batch, _, length = features.shape
        grid = features.transpose(1, 2) @ self.weight.flatten(1).to(features.dtype)  # (B, L, N·O)
        grid = grid.view(batch, length * self.num_samples, self.out_channels)
        if exporting:
            return self._blocks(grid) + self.bias.to(grid.dtype)
        if self._dense is None or self._dense.dtype != grid.dtype:
            self._dense = self.operator.dense(grid.dtype)
        return self._dense @ grid + self.bias.to(grid.dtype)

    def _blocks(self, grid: Tensor) -> Tensor:
        start, duration, _ = valid_cells(self.temporal_dim, self.max_duration, self.layout)
        # from numpy again: a traced graph knows the operator's tensors by their shapes only
        _, *matrix = sampling_matrix(self.temporal_dim, self.max_duration, self.num_samples, **self._rule)
        return matching_blocks(start, duration, *matrix)(grid)

    @property
    def valid(self) -> Tensor:
        """(D, L) or (L, L), True where a cell's proposal ends within the video."""
        rows = self.temporal_dim if self.layout == "start_end" else self.max_duration
        mask = torch.zeros(rows * self.temporal_dim, dtype=torch.bool, device=self.operator.cell.device)
        return mask.index_fill(0, self.operator.cell, True).view(rows, self.temporal_dim)

    def to_map(self, cells: Tensor, invalid: Tensor) -> Tensor:
        """Put (B, P, M) valid cells and one (M,) vector for all others into a (B, M, D, L) map, channels last."""
        rows = self.temporal_dim if self.layout == "start_end" else self.max_duration
        batch, _, channels = cells.shape
        # a copy of its own: index_copy on the expanded vector is compiled wrongly where no gradient is kept (torch 2.13)
        grid = invalid.to(cells.dtype).expand(batch, rows * self.temporal_dim, channels).clone()
        grid.index_copy_(1, self.operator.cell, cells)
        return grid.view(batch, rows, self.temporal_dim, channels).permute(0, 3, 1, 2)

    def extra_repr(self) -> str:
        return (
            f"{self.in_channels}, {self.out_channels}, temporal_dim={self.temporal_dim}, "
            f"max_duration={self.max_duration}, num_samples={self.num_samples}, layout={self.layout!r}"
        )
