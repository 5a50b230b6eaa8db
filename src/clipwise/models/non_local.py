"""Non-local block (Wang et al., "Non-local Neural Networks", CVPR 2018), as SlowOnly and TSM use it.

* every position of the clip looks at every other one: y = pairwise(theta, phi) · g, out = x + BN(W y)
* four pairwise functions: embedded Gaussian, Gaussian, dot product, concatenation
* keys and values may be taken from a spatially halved map (``sub_sample``), which quarters the cost

Letters: B batch, T frames, C channels, I inner channels, H W space, Q = T·H·W query positions, K key positions.
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from clipwise.errors import RecipeError

MODES = ("embedded_gaussian", "gaussian", "dot_product", "concatenation")


class NonLocal(nn.Module):
    """Self-attention over all positions of a clip, added to its input.

    Args:
        channels: C; the inner width is C // 2.
        mode: pairwise function, one of ``MODES``.
        sub_sample: halve H and W of keys and values by max pooling.
        use_scale: divide the embedded Gaussian's products by sqrt(I); the other modes ignore it. MMAction2 sets
            it for SlowOnly and not for TSM.

    Raises:
        RecipeError: unknown mode.
    """

    def __init__(
        self,
        channels: int,
        mode: str = "embedded_gaussian",
        *,
        sub_sample: bool = True,
        use_scale: bool = True,
    ):
        super().__init__()
        if mode not in MODES:
            raise RecipeError(f"non_local: {mode!r} is not a pairwise function; choose one of {', '.join(MODES)}")
        inner = max(channels // 2, 1)
        self.mode = mode
        self.scale = inner**-0.5 if use_scale else 1.0
        self.pool = nn.MaxPool2d(2) if sub_sample else nn.Identity()
        self.g = nn.Conv2d(channels, inner, 1)
        if mode != "gaussian":
            self.theta = nn.Conv2d(channels, inner, 1)
            self.phi = nn.Conv2d(channels, inner, 1)
        if mode == "concatenation":
            self.project = nn.Conv2d(2 * inner, 1, 1, bias=False)
        self.out = nn.Conv2d(inner, channels, 1, bias=False)
        self.bn = nn.BatchNorm2d(channels)

    def forward(self, x: Tensor, num_frames: int) -> Tensor:
        """(B·T, C, H, W) -> the same shape; ``num_frames`` is T."""
        gaussian = self.mode == "gaussian"
        query = _positions(x if gaussian else self.theta(x), num_frames)  # (B, Q, I), or C channels for gaussian
        key = _positions(self.pool(x if gaussian else self.phi(x)), num_frames)  # (B, K, ·)
        value = _positions(self.pool(self.g(x)), num_frames)  # (B, K, I)

        if self.mode == "dot_product":
            # theta (phiᵀ g) instead of (theta phiᵀ) g: equal, and no Q×K matrix
            y = query @ (key.transpose(1, 2) @ value) / key.shape[1]
        elif self.mode == "concatenation":
            # the projection of [theta_i, phi_j] is a sum of two terms
            w_query, w_key = self.project.weight.flatten().chunk(2)
            pairwise = F.relu((query @ w_query)[:, :, None] + (key @ w_key)[:, None, :])
            y = pairwise @ value / key.shape[1]
        else:
            scale = self.scale if self.mode == "embedded_gaussian" else 1.0
            heads = F.scaled_dot_product_attention(query[:, None], key[:, None], value[:, None], scale=scale)
            y = heads[:, 0]

        h, w = x.shape[2:]
        y = y.unflatten(1, (num_frames, h, w)).flatten(0, 1).permute(0, 3, 1, 2)  # (B·T, I, H, W)
        return x + self.bn(self.out(y))

    @torch.no_grad()
    def initialize(self) -> None:
        """N(0, 0.01) for g, theta, phi; the closing norm starts at zero, so that the block starts as the identity.

        differs: MMAction2 without ImageNet weights overwrites this with Kaiming weights and a closing norm of one
        (tests/parity/test_recognition_blocks.py); the paper starts from the identity, and so do we in every case.
        """
        for name, module in self.named_children():
            if isinstance(module, nn.Conv2d):
                if name == "out":
                    nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")
                else:
                    nn.init.normal_(module.weight, std=0.01)
                if module.bias is not None:
                    nn.init.zeros_(module.bias)
        self.bn.weight.zero_()
        self.bn.bias.zero_()


def _positions(x: Tensor, num_frames: int) -> Tensor:
    """(B·T, C, H, W) -> (B, T·H·W, C)."""
    return x.permute(0, 2, 3, 1).unflatten(0, (-1, num_frames)).flatten(1, 3)
