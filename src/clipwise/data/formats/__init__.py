"""Lists, annotations and feature files in the forms that the field uses."""

__all__: list[str] = []
