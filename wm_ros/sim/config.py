"""Knobs of the simulator."""

from __future__ import annotations

from dataclasses import dataclass

from wm_ros.config import check_knobs, knob

RENDERERS = ('auto', 'egl', 'osmesa', 'ray')


@dataclass(frozen=True)
class SimConfig:
    """How the table-top is drawn. Its sizes and speeds, per frame, are fixed in `world.py`."""

    image_size: int = knob(64, 'side of the square frame', unit='px', low=32, high=256)
    supersample: int = knob(2, 'rendered pixels per frame pixel and side, averaged', low=1, high=4)
    renderer: str = knob('auto', 'what draws; auto takes MUJOCO_GL, else the first that works of '
                         'egl, osmesa, ray', choices=RENDERERS)

    def __post_init__(self) -> None:
        check_knobs(self)
