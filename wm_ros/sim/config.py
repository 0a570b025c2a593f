"""Knobs of the simulator."""

from __future__ import annotations

from dataclasses import dataclass

from wm_ros.config import check_knobs, knob


@dataclass(frozen=True)
class SimConfig:
    """How the table-top is rendered. The world itself (sizes, speeds, 25 Hz) is fixed in `world.py`."""

    image_size: int = knob(64, 'side of the square frame', unit='px', low=32, high=256)
    supersample: int = knob(2, 'rendered pixels per frame pixel and side, averaged', low=1, high=4)

    def __post_init__(self) -> None:
        check_knobs(self)
