"""Trained models at work: predictor, streams, features, localization, fusion."""

__all__: list[str] = []
