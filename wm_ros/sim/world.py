"""The table-top as numbers: what is where, how fast it moves, what an action entry means.

Pure arithmetic, no MuJoCo: the planner of episodes and the renderer read the same constants and
the same `advance`, so a plan knows every pose without drawing anything.
World frame: origin on the table under the middle cup, x right, y away from the camera, z up.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from wm_ros.datatypes import FloatArray

RATE_HZ = 25.0

ACTION_NAMES = ('x', 'y', 'z', 'gripper', 'lid_0', 'lid_1', 'lid_2', 'occluder', 'drawer', 'pan',
                'tilt')
ACTION_UNITS = ('m', 'm', 'm', '1', '1', '1', '1', '1', '1', 'rad', 'rad')
ACTION_LIMITS: tuple[tuple[float, float], ...] = (
    (-0.22, 0.22), (-0.26, 0.16), (0.02, 0.40), (0.0, 1.0), (0.0, 1.0), (0.0, 1.0), (0.0, 1.0),
    (0.0, 1.0), (0.0, 1.0), (-0.75, 0.75), (-0.15, 0.15))

FACTS = ('cup_0', 'cup_1', 'cup_2', 'drawer', 'occluder', 'view_left', 'view_right')

PALETTE: tuple[tuple[float, float, float], ...] = (
    (0.92, 0.08, 0.08), (0.08, 0.72, 0.12), (0.10, 0.18, 0.95),  # red, green, blue
    (0.98, 0.86, 0.05), (0.92, 0.12, 0.88), (0.05, 0.82, 0.90))  # yellow, magenta, cyan

# Speeds, per frame of 40 ms. The opening step is a power of two: openings are exact.
ARM_STEP_M = 0.05
GRIPPER_STEP = 0.25
OPENING_STEP = 0.25
PAN_STEP_RAD = 0.125
TILT_STEP_RAD = 0.05

# Furniture.
CUP_X_M = (-0.150, 0.0, 0.150)
CUP_RADIUS_M = 0.068
CUP_HEIGHT_M = 0.128
CUP_LIFT_M = 0.20
DRAWER_TRAVEL_M = 0.105
OCCLUDER_TRAVEL_M = 0.115
HOME_M = (0.0, 0.10, 0.24)

# The block: half side, and where its centre may go.
BLOCK_HALF_M = 0.022
BLOCK_X_M = (-0.03, 0.03)
BLOCK_Y_M = (-0.20, -0.14)
TIP_RADIUS_M = 0.014

# Camera: pan and tilt axes pass through the optical centre, so turning it changes no occlusion.
CAMERA_M = (0.0, -0.50, 0.42)
LOOK_AT_M = (0.0, -0.05, 0.045)
FOVY_DEG = 47.0

# Arm: shoulder above the base, two links, gripper pointing down from the wrist.
BASE_M = (0.0, 0.27, 0.0)
SHOULDER_M = 0.20
UPPER_M = 0.30
LOWER_M = 0.30
HAND_M = 0.09


@dataclass(frozen=True)
class Layout:
    """What differs between two worlds of the same action sequence.

    Attributes:
        colours: palette index per fact, in the order of FACTS.
        block_x_m, block_y_m, block_yaw_rad: the block's first pose.
    """

    colours: tuple[int, ...]
    block_x_m: float = 0.0
    block_y_m: float = -0.15
    block_yaw_rad: float = 0.0

    def __post_init__(self) -> None:
        if len(self.colours) != len(FACTS):
            raise ValueError(f'{len(self.colours)} colours given, {len(FACTS)} facts expected')
        if any(not 0 <= colour < len(PALETTE) for colour in self.colours):
            raise ValueError(f'colours {self.colours}: expected indices below {len(PALETTE)}')


@dataclass(frozen=True)
class WorldState:
    """Everything that moves. Openings are 0 closed to 1 open; gripper 0 closed to 1 open."""

    x_m: float
    y_m: float
    z_m: float
    gripper: float
    lids: tuple[float, float, float]
    occluder: float
    drawer: float
    pan_rad: float
    tilt_rad: float
    block_x_m: float
    block_y_m: float
    block_yaw_rad: float

    def vector(self) -> np.ndarray:
        """Return the state as float64 [14]."""
        return np.array([self.x_m, self.y_m, self.z_m, self.gripper, *self.lids, self.occluder,
                         self.drawer, self.pan_rad, self.tilt_rad, self.block_x_m, self.block_y_m,
                         self.block_yaw_rad])

    @classmethod
    def from_vector(cls, values: np.ndarray) -> WorldState:
        """Inverse of `vector`; raises ValueError on another length."""
        if values.shape != (14,):
            raise ValueError(f'state of shape {values.shape}: expected (14,)')
        v = [float(value) for value in values]
        return cls(v[0], v[1], v[2], v[3], (v[4], v[5], v[6]), *v[7:])


def start_state(layout: Layout) -> WorldState:
    """Return the first state: everything closed, camera ahead, arm at home."""
    return WorldState(*HOME_M, 1.0, (0.0, 0.0, 0.0), 0.0, 0.0, 0.0, 0.0, layout.block_x_m,
                      layout.block_y_m, layout.block_yaw_rad)


def _toward(value: float, goal: float, step: float) -> float:
    return goal if abs(goal - value) <= step else value + math.copysign(step, goal - value)


def advance(state: WorldState, action_A: FloatArray) -> WorldState:
    """Let one action act for one frame (40 ms).

    Args:
        state: the state at the frame.
        action_A: float32 [11] absolute commands in physical units; clipped to ACTION_LIMITS.
    """
    a = [min(max(float(value), low), high)
         for value, (low, high) in zip(action_A, ACTION_LIMITS, strict=True)]
    dx, dy, dz = a[0] - state.x_m, a[1] - state.y_m, a[2] - state.z_m
    distance = math.sqrt(dx * dx + dy * dy + dz * dz)
    part = 1.0 if distance <= ARM_STEP_M else ARM_STEP_M / distance
    x, y, z = state.x_m + part * dx, state.y_m + part * dy, state.z_m + part * dz
    lids = (_toward(state.lids[0], a[4], OPENING_STEP), _toward(state.lids[1], a[5], OPENING_STEP),
            _toward(state.lids[2], a[6], OPENING_STEP))
    block = _push(state, x, y, z)
    return WorldState(x, y, z, _toward(state.gripper, a[3], GRIPPER_STEP), lids,
                      _toward(state.occluder, a[7], OPENING_STEP),
                      _toward(state.drawer, a[8], OPENING_STEP),
                      _toward(state.pan_rad, a[9], PAN_STEP_RAD),
                      _toward(state.tilt_rad, a[10], TILT_STEP_RAD), *block)


def _push(state: WorldState, x: float, y: float, z: float) -> tuple[float, float, float]:
    """Quasi-static push: the block gives way to the finger tip along the normal and turns.

    The tip sweeps its path in five parts; after each, an overlap moves the block away.
    """
    bx, by, yaw = state.block_x_m, state.block_y_m, state.block_yaw_rad
    if z > 2.0 * BLOCK_HALF_M:
        return bx, by, yaw
    start_x, start_y = state.x_m, state.y_m
    for part in range(1, 6):
        tip_x, tip_y = start_x + (x - start_x) * part / 5, start_y + (y - start_y) * part / 5
        cos, sin = math.cos(yaw), math.sin(yaw)
        rx, ry = tip_x - bx, tip_y - by
        lx, ly = cos * rx + sin * ry, -sin * rx + cos * ry
        cx = min(max(lx, -BLOCK_HALF_M), BLOCK_HALF_M)
        cy = min(max(ly, -BLOCK_HALF_M), BLOCK_HALF_M)
        nx, ny = lx - cx, ly - cy
        gap = math.hypot(nx, ny)
        if gap >= TIP_RADIUS_M:
            continue
        if gap > 1e-9:
            depth, nx, ny = TIP_RADIUS_M - gap, nx / gap, ny / gap
        else:
            edge_x, edge_y = BLOCK_HALF_M - abs(lx), BLOCK_HALF_M - abs(ly)
            side = edge_x < edge_y
            nx, ny = (math.copysign(1.0, lx), 0.0) if side else (0.0, math.copysign(1.0, ly))
            depth = TIP_RADIUS_M + min(edge_x, edge_y)
        mx, my = -nx * depth, -ny * depth
        bx, by = bx + cos * mx - sin * my, by + sin * mx + cos * my
        yaw += 0.5 * (cx * my - cy * mx) / (BLOCK_HALF_M * BLOCK_HALF_M)
        bx, by = min(max(bx, BLOCK_X_M[0]), BLOCK_X_M[1]), min(max(by, BLOCK_Y_M[0]), BLOCK_Y_M[1])
    return bx, by, yaw


def arm_joints(x_m: float, y_m: float, z_m: float) -> tuple[float, float, float, float]:
    """Return yaw, shoulder, elbow, wrist [rad] that bring the finger tips to a point, hand down.

    Two-link inverse kinematics with the elbow up. The upper front corners of ACTION_LIMITS are
    up to 3 cm out of reach: there the arm is drawn stretched toward the point.
    """
    dx, dy = x_m - BASE_M[0], y_m - BASE_M[1]
    yaw = math.atan2(dx, -dy)
    reach, rise = math.hypot(dx, dy), z_m + HAND_M - SHOULDER_M
    distance = math.hypot(reach, rise)
    cos_elbow = (distance * distance - UPPER_M**2 - LOWER_M**2) / (2.0 * UPPER_M * LOWER_M)
    elbow = math.acos(min(max(cos_elbow, -1.0), 1.0))
    shoulder = math.atan2(rise, reach) + math.atan2(LOWER_M * math.sin(elbow),
                                                    UPPER_M + LOWER_M * math.cos(elbow))
    return yaw, shoulder, -elbow, -(shoulder - elbow)
