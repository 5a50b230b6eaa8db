"""Limits (sizes, lengths, times and numbers) and settings of the server."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field, fields

from clipwise.errors import ClipwiseError


@dataclass(frozen=True)
class Limits:
    """Limits of the server; ``clipwise serve --help`` has an option for each.

    A request that goes over one is refused with a JSON error that names the limit.
    """

    max_upload_mb: float = 256.0
    """Size of a request's body, all its files together."""
    max_files: int = 8
    """Videos in one request."""
    max_duration_s: float = 1800.0
    max_frames: int = 120_000
    max_pixels: int = 4096 * 2304
    """Width times height of the video."""
    upload_timeout_s: float = 120.0
    """From a request's first byte to its last."""
    idle_timeout_s: float = 10.0
    """Longest silence inside a request, and time for its head."""
    decode_timeout_s: float = 180.0
    """Time that the decoder may work on one file, waiting not counted."""
    decode_memory_mb: int = 1536
    """Memory that the decoder may take for one file, on top of what it has before the file is opened."""
    request_timeout_s: float = 600.0
    """From the arrival of a video to its result; a job that takes longer is ended."""
    queue_length: int = 32
    """Videos that wait or are worked on; more are refused with 503."""
    per_client: int = 16
    """Of them, videos of one address; more are refused with 429."""
    max_windows: int = 240
    """Points of a timeline; longer videos get a larger stride."""
    result_ttl_s: float = 900.0
    """Time that a result can be fetched after it is there."""

    def __post_init__(self) -> None:
        for item in fields(self):
            value = getattr(self, item.name)
            if not value > 0:
                raise ClipwiseError(f"{item.name} is {value}; a limit must be greater than 0.")

    @property
    def max_upload_bytes(self) -> int:
        return int(self.max_upload_mb * 1e6)

    def public(self) -> dict[str, float | int]:
        """For ``GET /v1/model``."""
        return asdict(self)


@dataclass(frozen=True)
class Settings:
    """How the server behaves.

    Raises:
        ClipwiseError: numbers that make no sense.
    """

    limits: Limits = field(default_factory=Limits)
    allow_urls: bool = False
    allow_private_urls: bool = False
    """Fetch from private networks too; only for a server that nobody else reaches."""
    hosts: Sequence[str] = ("127.0.0.1", "localhost", "[::1]")
    """Names under which the server may be called; "*" takes any."""
    decoders: int = max(2, min(8, os.cpu_count() or 2))
    """Files that are decoded at once."""
    max_batch: int = 16
    window_s: float | None = None
    threshold: float = 0.5
    folder: str | None = None
    """Where uploads lie while they are worked on; None: the system's folder for temporary files."""

    def __post_init__(self) -> None:
        if self.decoders < 1 or self.max_batch < 1:
            raise ClipwiseError("--decoders and --max-batch must be at least 1.")
        if not 0 < self.threshold <= 1:
            raise ClipwiseError(f"--threshold {self.threshold}: it must be greater than 0 and at most 1.")
        if self.allow_private_urls and not self.allow_urls:
            raise ClipwiseError("--allow-private-urls has no effect without --allow-urls.")
