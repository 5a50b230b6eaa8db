"""Chinese for the reports' own words. ``#`` stands for any number; what is not here stays English."""

CHINESE: dict[str, str] = {}
