"""What every room may use: files, downloads, safe reading of strangers' files. Imports nothing of ours but errors."""

__all__: list[str] = []
