"""Boundary matching's sparse product as one batched dense product, for exported graphs: ONNX has no sparse one.

Proposals of similar start and duration read almost the same samples. So the map is cut into blocks of ``EDGE`` starts by
``EDGE`` durations; what any cell of a block reads is gathered, and multiplied with the block's own small matrix. At
L = D = 100 that is a fifth of the operations of the dense matrix over all samples, and a fifth of its size.
"""

from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

EDGE = 10


class MatchingBlocks(NamedTuple):
    """K blocks of at most Q cells that read at most R samples."""

    samples: Tensor
    """(K·R,) int64 rows of the grid (L·N, O), block by block."""
    weights: Tensor
    """(K, Q, R); rows and columns that a block does not need are zero."""
    place: Tensor
    """(P,) int64: where each valid cell stands among the K·Q results."""

    def __call__(self, grid: Tensor) -> Tensor:
        """(B, L·N, O) -> (B, P, O)."""
        blocks, _, reads = self.weights.shape
        gathered = grid.index_select(1, self.samples).view(-1, blocks, reads, grid.shape[2])
        return (self.weights.to(grid.dtype) @ gathered).flatten(1, 2).index_select(1, self.place)


def matching_blocks(
    start: np.ndarray, duration: np.ndarray, cell: np.ndarray, sample: np.ndarray, value: np.ndarray
) -> MatchingBlocks:
    """Sort a sparse sampling matrix into blocks. All in numpy, so that it is a constant of whatever graph is being traced.

    Args:
        start, duration: (P,) of each valid cell.
        cell, sample, value: (non-zeros,) row, column and value of the matrix (P, L·N).
    """
    _, block = np.unique(start // EDGE * (duration.max() + 1) + duration // EDGE, return_inverse=True)
    in_block, cells = _rank_within(block)
    # a block's samples: each pair (block, sample) once, ascending
    width = int(sample.max()) + 1
    pair, which = np.unique(block[cell] * width + sample, return_inverse=True)
    owner = pair // width
    in_samples, reads = _rank_within(owner)
    samples = np.zeros((block.max() + 1, reads), np.int64)
    samples[owner, in_samples] = pair % width
    weights = np.zeros((len(samples), cells, reads), value.dtype)
    weights[block[cell], in_block[cell], in_samples[which]] = value
    return MatchingBlocks(*map(torch.from_numpy, (samples.ravel(), weights, block * cells + in_block)))


def _rank_within(group: np.ndarray) -> tuple[np.ndarray, int]:
    """Each element's number among those of its group, and the size of the largest group."""
    order, size = np.argsort(group, kind="stable"), np.bincount(group)
    rank = np.empty(len(group), np.int64)
    rank[order] = np.arange(len(group)) - np.repeat(np.cumsum(size) - size, size)
    return rank, int(size.max())
