"""The server: an HTTP API and a page for a trained model. Needs the extra ``serve``."""

__all__: list[str] = []
