"""What a model looks at, what it costs, and which settings are worth it."""

__all__: list[str] = []
