"""TableTop: the simulated robot. Commands in, frames and ground truth out, bit-repeatable.

The world's arithmetic is `world.advance`; MuJoCo places the bodies and `drawing.py` draws them.
Frame I_t is rendered, then the command a_t acts until I_{t+1}: call `render`, then `step`.
Axes: F facts, H W pixels, C channels, A action.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt

from wm_ros.datatypes import FloatArray, ImageArray
from wm_ros.sim import world
from wm_ros.sim.config import SimConfig
from wm_ros.sim.drawing import choose_renderer, import_mujoco, open_drawing
from wm_ros.sim.mjcf import model_xml
from wm_ros.sim.visibility import facts_showing
from wm_ros.sim.world import (
    ACTION_LIMITS,
    ACTION_NAMES,
    ACTION_UNITS,
    FACTS,
    PALETTE,
    Layout,
    WorldState,
)

__all__ = ['ACTION_LIMITS', 'ACTION_NAMES', 'ACTION_UNITS', 'FACTS', 'PALETTE', 'Layout',
           'TableTop', 'Truth', 'WorldState']

JOINTS = ('yaw', 'shoulder', 'elbow', 'wrist', 'finger_0', 'finger_1', 'lid_0', 'lid_1', 'lid_2',
          'occluder', 'drawer', 'pan', 'tilt', 'block_x', 'block_y', 'block_yaw')


@dataclass(frozen=True)
class Truth:
    """Ground truth of one frame.

    Attributes:
        state: every pose and opening.
        colours: palette index per fact.
        positions_F3: float64 [F, 3] centre of each fact in metres, shown or not.
        hidden: per fact, True when it has no pixel in the frame. Counted with a mask;
            without one told by `visibility.facts_showing`, which holds for planned episodes only.
        visible_px: int64 [F] frame pixels that a fact reaches, None when no mask was asked for.
        fact_mask_HW: uint8 [S, S], 0 none, i + 1 where fact i is seen, None likewise.
    """

    state: WorldState
    colours: tuple[int, ...]
    positions_F3: npt.NDArray[np.float64]
    hidden: tuple[bool, ...]
    visible_px: npt.NDArray[np.int64] | None = None
    fact_mask_HW: ImageArray | None = None


class TableTop:
    """One simulated table with arm, cups, drawer, occluder, stands and a pan/tilt camera.

    Close it (or use it in a `with`): an OpenGL context left open complains when the process ends.
    """

    def __init__(self, config: SimConfig | None = None) -> None:
        """Build the model and open the drawing; RuntimeError when the renderer cannot be had."""
        self.config = config or SimConfig()
        mujoco: Any = import_mujoco(choose_renderer(self.config.renderer))
        side = self.config.image_size * self.config.supersample
        self._mujoco = mujoco
        self._model = mujoco.MjModel.from_xml_string(model_xml(side))
        self._data = mujoco.MjData(self._model)
        self._drawing = open_drawing(self.config.renderer, mujoco, self._model, self._data, side)
        self._qpos = [int(self._model.joint(name).qposadr[0]) for name in JOINTS]
        self._materials = [int(self._model.material(name).id) for name in FACTS]
        self._geoms = np.array([self._model.geom(name).id for name in FACTS])
        self.reset(Layout(colours=tuple(i % len(PALETTE) for i in range(len(FACTS)))))

    def __enter__(self) -> TableTop:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    @property
    def renderer(self) -> str:
        """What draws: `egl`, `osmesa` or `ray`."""
        return self._drawing.name

    @property
    def world_state(self) -> WorldState:
        """Every pose and opening now."""
        return self._state

    def reset(self, layout: Layout) -> None:
        """Start again: all closed, camera ahead, arm at home, facts in the layout's colours."""
        self.recolour(layout)
        self._move(world.start_state(layout))

    def recolour(self, layout: Layout) -> None:
        """Keep the state, change the facts' colours (the layout's block pose is not used)."""
        self._layout = layout
        for material, colour in zip(self._materials, layout.colours, strict=True):
            self._model.mat_rgba[material, :3] = PALETTE[colour]

    def step(self, action_A: FloatArray) -> None:
        """Let float32 [11] in physical units, clipped to its limits, act for one frame.

        Raises:
            ValueError: another shape, or an entry that is not finite.
        """
        if action_A.shape != (len(ACTION_NAMES),) or not np.isfinite(action_A).all():
            raise ValueError(f'action {action_A!r}: expected {len(ACTION_NAMES)} finite entries')
        self._move(world.advance(self._state, action_A))

    def state(self) -> npt.NDArray[np.float64]:
        """Return everything that moves as float64 [14] (colours are not part of it)."""
        return self._state.vector()

    def restore(self, state: npt.NDArray[np.float64]) -> None:
        """Go back to a state taken with `state()`."""
        self._move(WorldState.from_vector(state))

    def render(self) -> ImageArray:
        """Return the frame: uint8 RGB [S, S, 3]."""
        self._place()
        image_HWC = self._drawing.colour()
        if self.config.supersample == 1:
            return image_HWC
        size = (self.config.image_size, self.config.image_size)
        return np.asarray(cv2.resize(image_HWC, size, interpolation=cv2.INTER_AREA), np.uint8)

    def truth(self, mask: bool = True) -> Truth:
        """Return the ground truth of this frame; `mask=False` skips the segmentation pass."""
        self._place()
        colours = self._layout.colours
        positions_F3 = self._data.geom_xpos[self._geoms].copy()
        if not mask:
            hidden = tuple(not shows for shows in facts_showing(self._state))
            return Truth(self._state, colours, positions_F3, hidden)
        side, size = self.config.supersample, self.config.image_size
        geoms_HW = self._drawing.geoms()
        covered_FHW = np.zeros((len(FACTS), size, size), np.int64)
        for fact in np.flatnonzero(np.isin(self._geoms, geoms_HW)):
            fine_HW = geoms_HW == self._geoms[fact]
            covered_FHW[fact] = fine_HW.reshape(size, side, size, side).sum(axis=(1, 3))
        visible_px = np.count_nonzero(covered_FHW, axis=(1, 2))
        label_HW = np.where(covered_FHW.any(axis=0), covered_FHW.argmax(axis=0) + 1, 0)
        label_HW = label_HW.astype(np.uint8)
        hidden = tuple((visible_px == 0).tolist())
        return Truth(self._state, colours, positions_F3, hidden, visible_px, label_HW)

    def close(self) -> None:
        """Free the drawing; the table cannot be rendered afterwards."""
        self._drawing.close()

    def _move(self, state: WorldState) -> None:
        self._state = state
        self._placed = False

    def _place(self) -> None:
        """Set every joint from the state, once per state."""
        if self._placed:
            return
        s, lift = self._state, world.CUP_LIFT_M
        finger = 0.004 + 0.016 * s.gripper
        self._data.qpos[self._qpos] = (
            *world.arm_joints(s.x_m, s.y_m, s.z_m), finger, finger,
            s.lids[0] * lift, s.lids[1] * lift, s.lids[2] * lift,
            s.occluder * world.OCCLUDER_TRAVEL_M, s.drawer * world.DRAWER_TRAVEL_M, s.pan_rad,
            s.tilt_rad, s.block_x_m, s.block_y_m, s.block_yaw_rad)
        self._mujoco.mj_kinematics(self._model, self._data)
        self._mujoco.mj_camlight(self._model, self._data)
        self._placed = True
