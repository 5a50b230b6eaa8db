"""Other projects' checkpoints and configs: recognized, converted, and the way back."""

__all__: list[str] = []
