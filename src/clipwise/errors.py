"""What clipwise raises towards a person: a sentence that says what was given, what is allowed, what to do."""

GIVEN_AS: dict[str, str] = {}
"""Local copies of downloaded files, and what the user called them; messages use the user's names."""


def _as_given(text: str) -> str:
    for path, name in GIVEN_AS.items():
        text = text.replace(path, name)
    return text


class ClipwiseError(Exception):
    """Wrong use or bad input. The command line prints the message and exits with code 2."""

    def __str__(self) -> str:
        return _as_given(super().__str__())


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

    def __str__(self) -> str:
        return _as_given(super().__str__())


class WorkError(Exception):
    """Something failed during work that had started well. The command line exits with code 1."""

    def __str__(self) -> str:
        return _as_given(super().__str__())
