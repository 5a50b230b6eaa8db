"""TSM's mixer of frames: channels move, nothing is computed (Lin et al., ICCV 2019).

Letters: B batch, T frames, C channels, H W space.
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class TemporalShift(nn.Module):
    """Move 1/``div`` of the channels one frame towards the past and as many towards the future; zeros fill the ends.

    The zero-padded offline shift of the paper. The first fold brings the *next* frame's channels,
    the second the *previous* frame's; Paddle's operator has them the other way round (``reverse``). ``online`` leaves the
    next frame's channels where they are, so that no frame waits for a later one (section 4.2 of the paper).
    """

    def __init__(self, div: int = 8, *, reverse: bool = False, online: bool = False):
        super().__init__()
        self.div = div
        self.reverse = reverse
        self.online = online

    def forward(self, x: Tensor, num_frames: int) -> Tensor:
        fold = x.shape[1] // self.div
        if torch.compiler.is_exporting() and not torch.compiler.is_dynamo_compiling():  # torch 2.11 says so of both
            return self._shift_maps(x, num_frames, fold)
        # Channels innermost, as in memory: concatenating rows is several times faster than concatenating strided maps.
        rows = x.permute(0, 2, 3, 1).unflatten(0, (-1, num_frames)).flatten(2, 3)  # (B, T, H·W, C)
        padded = F.pad(rows[..., : 2 * fold], (0, 0, 0, 0, 1, 1))  # a frame of zeros before and after
        previous, following = padded[:, :-2], rows if self.online else padded[:, 2:]
        first, second = (previous, following) if self.reverse else (following, previous)
        shifted = torch.cat((first[..., :fold], second[..., fold : 2 * fold], rows[..., 2 * fold :]), dim=3)
        return shifted.unflatten(2, x.shape[2:]).flatten(0, 1).permute(0, 3, 1, 2)

    def _shift_maps(self, x: Tensor, num_frames: int, fold: int) -> Tensor:
        """The same in four axes: runtimes keep maps in blocks of channels, which any other shape makes them unpack."""
        time = torch.arange(x.shape[0], device=x.device).view(-1, 1, 1, 1) % num_frames

        def previous(part: Tensor) -> Tensor:
            return F.pad(part[:-1], (0, 0, 0, 0, 0, 0, 1, 0)) * (time != 0).to(x.dtype)

        def following(part: Tensor) -> Tensor:
            if self.online:
                return part
            return F.pad(part[1:], (0, 0, 0, 0, 0, 0, 0, 1)) * (time != num_frames - 1).to(x.dtype)

        first, second = (previous, following) if self.reverse else (following, previous)
        return torch.cat((first(x[:, :fold]), second(x[:, fold : 2 * fold]), x[:, 2 * fold :]), dim=1)

    def extra_repr(self) -> str:
        return f"div={self.div}, reverse={self.reverse}, online={self.online}"
