"""Auditing and preparing data sets: check, index, resize, frames, flow, lists, shards."""

__all__: list[str] = []
