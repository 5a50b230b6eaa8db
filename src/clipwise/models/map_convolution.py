"""3×3 convolutions of BMN's map over its valid cells only, by Winograd's minimal filtering.

Once the boundary-matching layer is cheap, the two 3×3 convolutions on the (D, L) map take most of a training step on
a CPU, and half of that map is invalid. Here the map is cut into tiles of 4×4 outputs (6×6 inputs), tiles without a valid
cell are left out, and each tile is convolved in the transformed domain (Lavin & Gray, CVPR 2016)::

    Y = Aᵀ [ (G w Gᵀ) · (Bᵀ d B) ] A        36 products a tile and channel pair instead of 144

so that 36 small GEMMs do the work of one large convolution, with about 7 times fewer operations. In float32 the result
differs from a direct convolution by a few 1e-6; in float64 they agree to rounding.

Letters: C channels, R rows of input vectors, n tiles.
"""

import dataclasses
import math
from fractions import Fraction

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

TILE, WINDOW = 4, 6
# Interpolation points of the transforms; these lose half as many digits as the usual 0, ±1, ±2.
_POINTS = [Fraction(0), Fraction(3, 4), Fraction(-3, 4), Fraction(3, 2), Fraction(-3, 2)]


def _transforms() -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Aᵀ (4, 6), G (6, 3) and Bᵀ (6, 6) of Toom and Cook's construction; the sixth point is infinity."""

    def polynomial(roots: list[Fraction]) -> list[float]:
        """Coefficients of the product of (x - root), constant first, padded to six."""
        out = [Fraction(1)]
        for root in roots:
            out = [a - root * b for a, b in zip([Fraction(0), *out], [*out, Fraction(0)])]
        return [float(c) for c in out] + [0.0] * (WINDOW - len(out))

    output, kernel, data = np.zeros((TILE, WINDOW)), np.zeros((WINDOW, 3)), np.zeros((WINDOW, WINDOW))
    for j, point in enumerate(_POINTS):
        others = [p for p in _POINTS if p != point]
        scale = math.prod((point - p for p in others), start=Fraction(1))
        output[:, j] = [float(point**i) for i in range(TILE)]
        kernel[j] = [float(point**i / scale) for i in range(3)]
        data[j] = polynomial(others)
    output[-1, -1] = kernel[-1, -1] = 1
    data[-1] = polynomial(_POINTS)
    return output, kernel, data


_OUTPUT, _KERNEL, _DATA = (torch.from_numpy(np.kron(m, m)) for m in _transforms())  # for flattened 6×6 windows


@dataclasses.dataclass(frozen=True)
class TilePlan:
    """Which input rows the tiles of one convolution read, and where its outputs lie.

    Attributes:
        index: (36·n,) input row of each window position, position-major.
        index_t, offsets_t: for each input row the places in ``index`` that read it, as embedding_bag takes them;
            none for the zero row.
        output: (H, W) numpy, output row of each map cell, -1 where no tile lies.
    """

    index: Tensor
    index_t: Tensor
    offsets_t: Tensor
    output: np.ndarray

    @property
    def zero_row(self) -> int:
        """The row behind all outputs, which holds zeros."""
        return len(self.index) // WINDOW**2 * TILE**2


def tile_plan(source: np.ndarray, zero: int, wanted: np.ndarray) -> TilePlan:
    """Cover the wanted cells with tiles.

    Args:
        source: (H, W) input row of each map cell.
        zero: input row that holds zeros, for the padding around the map. It is the last row.
        wanted: (H, W), whose outputs are needed.
    """
    height, width = source.shape
    down, right = -(-height // TILE), -(-width // TILE)
    padded = np.full((down * TILE + 2, right * TILE + 2), zero)
    padded[1 : height + 1, 1 : width + 1] = source
    whole = np.zeros((down * TILE, right * TILE), dtype=bool)
    whole[:height, :width] = wanted
    tile_row, tile_column = np.nonzero(whole.reshape(down, TILE, right, TILE).any(axis=(1, 3)))
    i, j = np.divmod(np.arange(WINDOW**2), WINDOW)
    index = padded[tile_row * TILE + i[:, None], tile_column * TILE + j[:, None]].reshape(-1)
    order = np.argsort(index, kind="stable")
    order = order[index[order] != zero]
    i, j = np.divmod(np.arange(TILE**2), TILE)
    output = np.full(whole.shape, -1)
    output[tile_row * TILE + i[:, None], tile_column * TILE + j[:, None]] = np.arange(TILE**2 * len(tile_row)).reshape(
        TILE**2, -1
    )
    return TilePlan(
        index=torch.from_numpy(index),
        index_t=torch.from_numpy(order),
        offsets_t=torch.from_numpy(np.searchsorted(index[order], np.arange(zero + 1))),
        output=output[:height, :width],
    )


class ValidMapConvolutions:
    """Two 3×3 convolutions with ReLU on a map of which only some cells are valid: (B, P, C) -> (B, P, C).

    Gives what the convolutions would give on the whole map: the first one also computes the invalid cells next to valid
    ones, and reads the vector that all invalid cells hold.

    Args:
        valid: (H, W), P of them True; their order is that of the flattened map.
    """

    def __init__(self, valid: np.ndarray):
        cells = int(valid.sum())
        source = np.full(valid.shape, cells)  # row P: the vector of invalid cells, row P+1: zeros
        source[valid] = np.arange(cells)
        near = np.pad(valid, 1)
        near = np.any(
            [near[i : i + valid.shape[0], j : j + valid.shape[1]] for i in range(3) for j in range(3)], axis=0
        )
        self.first = tile_plan(source, cells + 1, near)
        # tiles on the edge also have outputs that nobody needs; whatever they read, zeros will do
        middle = np.where(near, self.first.output, self.first.zero_row)
        self.second = tile_plan(middle, self.first.zero_row, valid)
        self.cells = torch.from_numpy(self.second.output[valid])

    def __call__(
        self,
        cells: Tensor,
        invalid: Tensor,
        weight1: Tensor,
        bias1: Tensor | None,
        weight2: Tensor,
        bias2: Tensor | None,
    ) -> Tensor:
        batch, _, channels = cells.shape
        constant = torch.stack([invalid, torch.zeros_like(invalid)])
        rows = torch.cat([cells, constant.expand(batch, 2, channels)], dim=1)
        rows = _TileConvolution.apply(rows, weight1, bias1, self.first)
        rows = _TileConvolution.apply(rows, weight2, bias2, self.second)
        return rows.index_select(1, self.cells)


class _TileConvolution(torch.autograd.Function):
    """ReLU(conv3×3) of tiles: (B, R, C) -> (B, 16·n + 1, O), the last row zero. One sample at a time, for the cache."""

    @staticmethod
    def forward(ctx, rows: Tensor, weight: Tensor, bias: Tensor, plan: TilePlan) -> Tensor:
        kernel = _transform_kernel(weight)
        out = rows.new_empty(len(rows), plan.zero_row + 1, len(weight))
        out[:, -1] = 0
        for sample, result in zip(rows, out):
            product = torch.bmm(_transform_data(sample, plan), kernel)
            flat = result[:-1].view(TILE**2, -1)
            torch.mm(_OUTPUT.to(rows.dtype), product.view(WINDOW**2, -1), out=flat)
            result[:-1].add_(bias).relu_()
        ctx.save_for_backward(rows, weight, out)
        ctx.plan = plan
        return out

    @staticmethod
    def backward(ctx, grad: Tensor):
        rows, weight, out = ctx.saved_tensors
        plan: TilePlan = ctx.plan
        dtype, channels = rows.dtype, rows.shape[2]
        kernel_t = _transform_kernel(weight).transpose(1, 2)
        back, data = _OUTPUT.T.to(dtype).contiguous(), _DATA.T.to(dtype).contiguous()
        grad_rows = torch.empty_like(rows)
        grad_kernel = rows.new_zeros(WINDOW**2, channels, len(weight))
        grad_bias = rows.new_zeros(len(weight))
        for b, sample in enumerate(rows):
            grad_out = grad[b, :-1] * (out[b, :-1] > 0)
            grad_bias += grad_out.sum(0)
            grad_product = (back @ grad_out.view(TILE**2, -1)).view(WINDOW**2, -1, len(weight))
            grad_kernel.baddbmm_(_transform_data(sample, plan).transpose(1, 2), grad_product)
            grad_data = data @ torch.bmm(grad_product, kernel_t).view(WINDOW**2, -1)
            grad_rows[b] = F.embedding_bag(plan.index_t, grad_data.view(-1, channels), plan.offsets_t, mode="sum")
        grad_weight = (_KERNEL.T.to(dtype) @ grad_kernel.view(WINDOW**2, -1)).view(3, 3, channels, -1)
        return grad_rows, grad_weight.permute(3, 2, 0, 1), grad_bias, None


def _transform_data(sample: Tensor, plan: TilePlan) -> Tensor:
    """(R, C) -> (36, n, C)."""
    window = sample.index_select(0, plan.index).view(WINDOW**2, -1)
    return (_DATA.to(sample.dtype) @ window).view(WINDOW**2, -1, sample.shape[1])


def _transform_kernel(weight: Tensor) -> Tensor:
    """(O, C, 3, 3) -> (36, C, O)."""
    out_channels, channels = weight.shape[:2]
    kernel = weight.permute(2, 3, 1, 0).reshape(9, -1)
    return (_KERNEL.to(weight.dtype) @ kernel).view(WINDOW**2, channels, out_channels)
