"""Runs: device, optimizer, training loop, evaluation, checkpoints.

``train.train`` runs a recipe, ``test.evaluate`` scores a list, ``checkpoint`` reads and writes weights with their passport.
"""

import sys
import warnings

__all__: list[str] = []

if "ipykernel" in sys.modules:  # bars of libraries are not shown, so it does not matter that ipywidgets is missing
    warnings.filterwarnings("ignore", message="IProgress not found")
