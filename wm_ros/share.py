"""Where the project's own data lies: in the repository, or where a package was installed."""

from __future__ import annotations

import os
import sys
from pathlib import Path

REPOSITORY = Path(__file__).resolve().parents[1]
G1_BOTTLE_VARIABLE = 'WM_ROS_G1_BOTTLE'


def folders(in_repository: str, installed: str) -> list[Path]:
    """Return the folders to look in, in order; they need not exist.

    Args:
        in_repository: path below the repository.
        installed: path below `share/` of every prefix in AMENT_PREFIX_PATH, then of this Python.
    """
    prefixes = [p for p in os.environ.get('AMENT_PREFIX_PATH', '').split(os.pathsep) if p]
    found = [Path(prefix) / 'share' / installed for prefix in (*prefixes, sys.prefix)]
    return [REPOSITORY / in_repository, *found]


def g1_bottle() -> Path:
    """Return the folder of the real robot's bags: $WM_ROS_G1_BOTTLE, or beside the checkout."""
    beside = REPOSITORY.parent / 'shared' / 'data' / 'g1_bottle'
    return Path(os.environ.get(G1_BOTTLE_VARIABLE, beside))
