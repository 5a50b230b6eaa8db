"""Localization that says each segment as soon as no later part of the video can change it.

Features are made window by window while the network already looks at them, so the first segments of a three-hour file are known
minutes after its start. Answers and numbers are those of :class:`~clipwise.infer.localize.Localizer`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import torch
from numpy.typing import NDArray

from clipwise.infer.growing_rows import GrowingRows
from clipwise.infer.localize import Localizer
from clipwise.infer.segments import Localization, Segment
from clipwise.models.localizer_rules import FoundSegments, WindowCollector
from clipwise.tasks.window_stream import Settled, WindowStream


class StreamingLocalizer(Localizer):
    """A localizer that hands on segments while it works.

    Args:
        say: gets each segment once, of the video that is looked at. A segment belongs to the answer if and only if its score is not
            below that of the answer's weakest: what the best segment of the whole video is, nobody knows before its end. Of networks that take
            a video as a whole, and where a recognizer names the segments, all come at the end of the video.
        options: of :class:`Localizer`.
    """

    say: Callable[[Segment], None]

    def __init__(self, *args: Any, say: Callable[[Segment], None], **options: Any):
        super().__init__(*args, **options)
        self.say, self.said = say, False
        self._rule_of_collector, self.rules.collector = self.rules.collector, self._collector  # type: ignore[method-assign]
        self.by_windows = self.rules.windows is not None and (self.rules.labeled or self._labeler is False)

    @property
    def growing(self) -> bool:  # type: ignore[override]
        """Whether features are made while the network looks at them."""
        return self.by_windows and not self.made.get("positions")

    def __call__(self, video: Any, *, class_scores: Any = None, **options: Any) -> Localization:
        streams, self.said = self.by_windows, False
        self.by_windows = streams and class_scores is None
        try:
            found = super().__call__(video, class_scores=class_scores, **options)
        finally:
            self.by_windows = streams
        if not self.said:
            for segment in found.in_time:
                self.say(segment)
        return found

    def _batches(
        self, features: NDArray, duration_s: float, source: str
    ) -> Iterator[list[tuple[torch.Tensor, float, float]]]:
        usual = self.batch_size
        try:
            if isinstance(features, GrowingRows):  # each window as soon as it is there
                self.batch_size = 1
            yield from super()._batches(features, duration_s, source)
        finally:
            self.batch_size = usual

    def _collector(self, longest_s: float | None = None) -> Any:
        collector = self._rule_of_collector(longest_s)
        return _Watched(collector, self) if self.by_windows else collector

    def settled(self, one: Settled, first_s: float) -> None:
        """Hand on."""
        names, label = self.passport.classes or [], one.label
        a, b, s = one.start_s + first_s, one.end_s + first_s, one.score
        if self.rules.labeled:
            self.say(Segment(a, b, names[label] if names else str(label), s, label, s, 1.0))
        else:
            self.say(Segment(a, b, "action", s, proposal_score=s))


class _Watched:
    """A collector that also tells what is settled."""

    def __init__(self, collector: WindowCollector, localizer: StreamingLocalizer):
        self.collector, self.localizer = collector, localizer
        self.stream: WindowStream | None = None

    def add(
        self, video: str, start_s: float, found: FoundSegments, covered_s: float, first_s: float = 0.0
    ) -> FoundSegments | None:
        windows, localizer = self.collector.windows, self.localizer
        assert windows is not None
        if self.stream is None:
            localizer.said = True
            limits = {"min_score": localizer.min_score, "max_overlap": localizer.max_overlap}
            self.stream = WindowStream(windows.starts(covered_s), windows.length_s, covered_s, **self.collector.rule, **limits)  # fmt: skip
        for one in self.stream.add(found.segments_s, found.scores, found.labels):
            localizer.settled(one, first_s)
        return self.collector.add(video, start_s, found, covered_s, first_s)
