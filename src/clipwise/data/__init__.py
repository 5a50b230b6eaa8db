"""Data: lists and their formats, sampling, geometry, augmentation, data sets, loader.

``lists.read_list`` reads a list, ``dataset.ClipDataset`` cuts clips from its videos, ``feature_dataset`` serves localizers.
"""

__all__: list[str] = []
