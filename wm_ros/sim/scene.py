"""TableTop: the simulated robot. Commands in, frames and ground truth out, the same bytes for the same seed.

The world's arithmetic is `world.advance`; MuJoCo places the bodies and draws them (EGL, else OSMesa).
Frame I_t is rendered, then the command a_t acts until I_{t+1}: call `render`, then `step`.
Axes: F facts, H W pixels, C channels, A action.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from types import ModuleType
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt

from wm_ros.datatypes import FloatArray, ImageArray
from wm_ros.sim import world
from wm_ros.sim.config import SimConfig
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

__all__ = ['ACTION_LIMITS', 'ACTION_NAMES', 'ACTION_UNITS', 'FACTS', 'PALETTE', 'Layout', 'TableTop', 'Truth']

JOINTS = ('yaw', 'shoulder', 'elbow', 'wrist', 'finger_0', 'finger_1', 'lid_0', 'lid_1', 'lid_2', 'occluder',
          'drawer', 'pan', 'tilt', 'block_x', 'block_y', 'block_yaw')


@dataclass(frozen=True)
class Truth:
    """Ground truth of one frame.

    Attributes:
        state: every pose and opening.
        colours: palette index per fact.
        hidden: per fact, True when it has no pixel in the frame.
        visible_px: int [F] frame pixels that a fact reaches, or None when no mask was asked for.
        fact_mask_HW: uint8 label map, 0 none, i + 1 where fact i is seen, or None likewise.
    """

    state: WorldState
    colours: tuple[int, ...]
    hidden: tuple[bool, ...]
    visible_px: npt.NDArray[np.int64] | None = None
    fact_mask_HW: ImageArray | None = None


def import_mujoco() -> ModuleType:
    """Import MuJoCo with a headless OpenGL: MUJOCO_GL where set, else EGL, else OSMesa.

    Raises:
        RuntimeError: naming the system packages, when neither works.
    """
    if 'MUJOCO_GL' not in os.environ:
        os.environ['MUJOCO_GL'] = 'egl'
    import mujoco
    return mujoco


class TableTop:
    """One simulated table with arm, cups, drawer, occluder, stands and a pan/tilt camera."""

    def __init__(self, config: SimConfig | None = None) -> None:
        self.config = config or SimConfig()
        mujoco: Any = import_mujoco()
        self._mujoco = mujoco
        side = self.config.image_size * self.config.supersample
        self._model = mujoco.MjModel.from_xml_string(model_xml(side))
        self._data = mujoco.MjData(self._model)
        self._renderer = mujoco.Renderer(self._model, side, side)
        for flag in (mujoco.mjtRndFlag.mjRND_SHADOW, mujoco.mjtRndFlag.mjRND_REFLECTION,
                     mujoco.mjtRndFlag.mjRND_SKYBOX, mujoco.mjtRndFlag.mjRND_HAZE):
            self._renderer.scene.flags[flag] = 0
        self._qpos = [int(self._model.joint(name).qposadr[0]) for name in JOINTS]
        self._materials = [int(self._model.material(name).id) for name in FACTS]
        self._geoms = np.array([self._model.geom(name).id for name in FACTS])
        self.reset(Layout(colours=tuple(i % len(PALETTE) for i in range(len(FACTS)))))

    def reset(self, layout: Layout) -> None:
        """Start again: everything closed, camera ahead, arm at home, facts in the layout's colours."""
        self.recolour(layout)
        self._state = world.start_state(layout)
        self._placed = False

    def recolour(self, layout: Layout) -> None:
        """Keep the state, change the facts' colours (the layout's block pose is not used)."""
        self._layout = layout
        for material, colour in zip(self._materials, layout.colours, strict=True):
            self._model.mat_rgba[material, :3] = PALETTE[colour]

    def step(self, action_A: FloatArray) -> None:
        """Let `action_A` (float32 [11], physical units, clipped to the limits) act for one frame."""
        self._state = world.advance(self._state, action_A)
        self._placed = False

    def state(self) -> np.ndarray:
        """Return everything that moves as float64 [14] (colours are not part of it)."""
        return self._state.vector()

    def restore(self, state: np.ndarray) -> None:
        """Go back to a state taken with `state()`."""
        self._state = WorldState.from_vector(state)
        self._placed = False

    def render(self) -> ImageArray:
        """Return the frame: uint8 RGB [S, S, 3]."""
        self._place()
        image_HWC = self._renderer.render()
        return self._shrink(image_HWC)

    def truth(self, mask: bool = True) -> Truth:
        """Return the ground truth of the current frame; `mask=False` skips the segmentation pass."""
        colours = self._layout.colours
        if not mask:
            showing = facts_showing(self._state)
            return Truth(self._state, colours, tuple(not shows for shows in showing))
        side, size = self.config.supersample, self.config.image_size
        self._place()
        self._renderer.enable_segmentation_rendering()
        try:
            ids_HW = self._renderer.render()[:, :, 0]
        finally:
            self._renderer.disable_segmentation_rendering()
        covered_FHW = (ids_HW[None] == self._geoms[:, None, None]).reshape(
            len(FACTS), size, side, size, side).sum(axis=(2, 4))
        visible_px = (covered_FHW > 0).sum(axis=(1, 2))
        label_HW = np.where(covered_FHW.any(axis=0), covered_FHW.argmax(axis=0) + 1, 0).astype(np.uint8)
        return Truth(self._state, colours, tuple(bool(px == 0) for px in visible_px), visible_px, label_HW)

    def close(self) -> None:
        """Free the OpenGL context."""
        self._renderer.close()

    def _place(self) -> None:
        if self._placed:
            self._renderer.update_scene(self._data, camera='camera')
            return
        s = self._state
        finger = 0.004 + 0.016 * s.gripper
        values = (*world.arm_joints(s.x_m, s.y_m, s.z_m), finger, finger,
                  s.lids[0] * world.CUP_LIFT_M, s.lids[1] * world.CUP_LIFT_M, s.lids[2] * world.CUP_LIFT_M,
                  s.occluder * world.OCCLUDER_TRAVEL_M, s.drawer * world.DRAWER_TRAVEL_M, s.pan_rad, s.tilt_rad,
                  s.block_x_m, s.block_y_m, s.block_yaw_rad)
        self._data.qpos[self._qpos] = values
        self._mujoco.mj_kinematics(self._model, self._data)
        self._mujoco.mj_camlight(self._model, self._data)
        self._renderer.update_scene(self._data, camera='camera')
        self._placed = True

    def _shrink(self, image_HWC: ImageArray) -> ImageArray:
        if self.config.supersample == 1:
            return image_HWC
        size = (self.config.image_size, self.config.image_size)
        return np.asarray(cv2.resize(image_HWC, size, interpolation=cv2.INTER_AREA), dtype=np.uint8)
