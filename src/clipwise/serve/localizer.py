"""The seam between the server and temporal localization: ``clipwise serve CKPT --localizer BMN_CKPT``."""

from __future__ import annotations

import math
from collections.abc import Sequence

from clipwise.errors import CheckpointError
from clipwise.infer.localize import Localizer
from clipwise.infer.predictor import VideoReader
from clipwise.infer.segments import Segment


class ServedLocalizer:
    """Segments of a BMN, for :class:`clipwise.serve.analysis.Analyzer`.

    Args:
        checkpoint: of the BMN.
        recognizer: what the server serves; used if the recognizer that the BMN remembers is not where it was. It must be
            the one that made the BMN's features.
        classes: of the served model, so that segments get its class numbers.
        device: where it computes.

    Raises:
        CheckpointError: the BMN or its recognizer cannot be used.
    """

    def __init__(
        self, checkpoint: str, recognizer: str | None, classes: Sequence[str] | None, device: str | None = None
    ):
        self.localizer = Localizer(checkpoint, device=device)
        try:
            self.localizer.extractor  # noqa: B018 - loads the recognizer now: the first video should not find it missing
        except CheckpointError:
            if recognizer is None:
                raise
            self.localizer = Localizer(checkpoint, recognizer, device=device)
            self.localizer.extractor  # noqa: B018
        self.localizer.namer  # noqa: B018
        self.index = {name: i for i, name in enumerate(classes or ())}

    def __call__(self, reader: VideoReader) -> list[Segment]:
        """Segments of an open video, by their start."""
        found = self.localizer(reader)
        return [
            Segment(s.start_s, s.end_s, s.name, min(1.0, s.score), self.index.get(s.name))
            for s in found.in_time
            if math.isfinite(s.score)
        ]
