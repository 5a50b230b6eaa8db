"""Losses, proposals and metrics: arithmetic on tensors and arrays."""

__all__: list[str] = []
