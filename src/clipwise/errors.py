"""What clipwise raises towards a person: a sentence that says what was given, what is allowed, what to do."""


class ClipwiseError(Exception):
    """Wrong use or bad input. The command line prints the message and exits with code 2."""


class RecipeError(ClipwiseError):
    """A recipe, an override or an option that does not make sense."""


class DataError(ClipwiseError):
    """A list, a video, a frame folder or a feature file that cannot be used."""


class DecodeError(DataError):
    """A video that cannot be opened, or a frame of it that cannot be decoded."""


class CheckpointError(ClipwiseError):
    """A checkpoint that cannot be read, or that belongs to another model."""


class MissingExtraError(ClipwiseError):
    """An optional library is not installed."""

    def __init__(self, package: str, extra: str, purpose: str):
        super().__init__(
            f"{purpose} needs {package}, which is not installed. Install it with: pip install 'clipwise[{extra}]'"
        )


class ClipwiseWarning(UserWarning):
    """Something accepted that is probably not what was meant. The command line prints it as one line."""


class WorkError(Exception):
    """Something failed during work that had started well. The command line exits with code 1."""
