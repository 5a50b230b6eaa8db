"""Runs whose processes torchrun restarts."""

from __future__ import annotations

import os
from typing import Any

_FRESH_STORE = "TORCH_DISABLE_SHARE_RDZV_TCP_STORE"


def check_store(log: Any) -> None:
    """Report a setting of torch without which restarted processes may not find each other."""
    if os.environ.get(_FRESH_STORE) != "1":
        log.say(
            f"torchrun may restart these processes, but {_FRESH_STORE}=1 is not set in its environment: restarted processes may then "
            "find the addresses of those before them, and fail with 'Connection refused'."
        )
