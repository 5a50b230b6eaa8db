"""Runs: device, optimizer, training loop, evaluation, checkpoints.

``train.train`` runs a recipe, ``test.evaluate`` scores a list, ``checkpoint`` reads and writes weights with their passport.
"""

__all__: list[str] = []
