"""Draws the table-top without OpenGL: one ray per pixel against boxes, cylinders and spheres.

MuJoCo's own `mj_multiRay` (3.17) was tried and misses whole geoms now and then, so the three
intersections are written here. Lights and materials are those of `mjcf.py`.
N rays, 3 coordinates, H W pixels, C channels.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import numpy.typing as npt

from wm_ros.datatypes import ImageArray
from wm_ros.sim import mjcf

Array = npt.NDArray[np.float64]
SPHERE, CYLINDER, BOX = 2, 5, 6
FAR_M = 1e6


class RayDrawing:
    """Draws a placed model from its camera, see `drawing.Drawing`."""

    name = 'ray'

    def __init__(self, model: Any, data: Any, side: int) -> None:
        """Prepare the rays of square pictures of `side` pixels."""
        self._model, self._data, self._side = model, data, side
        self._camera = int(model.camera(mjcf.CAMERA).id)
        half = math.tan(math.radians(float(model.cam_fovy[self._camera])) / 2)
        across_W = (2.0 * (np.arange(side) + 0.5) / side - 1.0) * half
        x_HW, y_HW = np.meshgrid(across_W, -across_W)
        rays_N3 = np.stack([x_HW.ravel(), y_HW.ravel(), np.full(side * side, -1.0)], axis=1)
        self._rays_N3 = rays_N3 / np.linalg.norm(rays_N3, axis=1, keepdims=True)
        to_light_3 = -np.array(mjcf.LIGHT_DIRECTION)
        self._to_light_3 = to_light_3 / np.linalg.norm(to_light_3)

    def colour(self) -> ImageArray:
        """Return uint8 RGB [H, W, 3]."""
        geom_N, normal_N3 = self._trace()
        ahead_3 = -self._data.cam_xmat[self._camera].reshape(3, 3)[:, 2]
        material_N = self._model.geom_matid[geom_N]
        bright_N = (self._model.mat_emission[material_N] + mjcf.HEAD_AMBIENT
                    + mjcf.LIGHT_DIFFUSE * np.maximum(normal_N3 @ self._to_light_3, 0.0)
                    + mjcf.HEAD_DIFFUSE * np.maximum(normal_N3 @ -ahead_3, 0.0))
        bright_N[geom_N < 0] = 0.0
        rgb_N3 = np.clip(self._model.mat_rgba[material_N, :3] * bright_N[:, None], 0.0, 1.0)
        return np.rint(rgb_N3 * 255.0).astype(np.uint8).reshape(self._side, self._side, 3)

    def geoms(self) -> npt.NDArray[np.int32]:
        """Return the geom id per pixel, int32 [H, W], -1 where nothing is hit."""
        return self._trace()[0].reshape(self._side, self._side)

    def close(self) -> None:
        """Do nothing: there is nothing to free."""

    def _trace(self) -> tuple[npt.NDArray[np.int32], Array]:
        """Return per ray the nearest geom and its normal there, in world axes."""
        model, data = self._model, self._data
        eye_3 = data.cam_xpos[self._camera]
        rays_N3 = self._rays_N3 @ data.cam_xmat[self._camera].reshape(3, 3).T
        nearest_N = np.full(len(rays_N3), FAR_M)
        geom_N = np.full(len(rays_N3), -1, np.int32)
        normal_N3 = np.zeros_like(rays_N3)
        for geom in range(model.ngeom):
            centre_3 = data.geom_xpos[geom] - eye_3
            near_N = _rays_near(rays_N3, centre_3, float(model.geom_rbound[geom]))
            turn_33 = data.geom_xmat[geom].reshape(3, 3)
            origin_3 = -centre_3 @ turn_33
            hit = HITS[int(model.geom_type[geom])]
            distance_N, local_N3 = hit(origin_3, rays_N3[near_N] @ turn_33, model.geom_size[geom])
            closer_N = distance_N < nearest_N[near_N]
            chosen_N = near_N[closer_N]
            nearest_N[chosen_N] = distance_N[closer_N]
            geom_N[chosen_N] = geom
            normal_N3[chosen_N] = local_N3[closer_N] @ turn_33.T
        return geom_N, normal_N3


def _rays_near(rays_N3: Array, centre_3: Array, radius: float) -> npt.NDArray[np.intp]:
    """Return the indices of the rays that come within `radius` of a point seen from the eye."""
    distance = float(np.linalg.norm(centre_3))
    if distance <= radius:
        return np.arange(len(rays_N3))
    return np.flatnonzero(rays_N3 @ centre_3 >= math.sqrt(distance**2 - radius**2) - 1e-9)


def _hit_sphere(origin_3: Array, rays_N3: Array, size_3: Array) -> tuple[Array, Array]:
    along_N = rays_N3 @ origin_3
    root_N = along_N**2 - (origin_3 @ origin_3 - size_3[0] ** 2)
    distance_N = np.where(root_N >= 0, -along_N - np.sqrt(np.maximum(root_N, 0.0)), FAR_M)
    return _in_front(distance_N), (origin_3 + distance_N[:, None] * rays_N3) / size_3[0]


def _hit_box(origin_3: Array, rays_N3: Array, size_3: Array) -> tuple[Array, Array]:
    steps_N3 = np.where(np.abs(rays_N3) < 1e-12, 1e-12, rays_N3)
    enter_N3 = (-np.sign(steps_N3) * size_3 - origin_3) / steps_N3
    leave_N3 = (np.sign(steps_N3) * size_3 - origin_3) / steps_N3
    axis_N = enter_N3.argmax(axis=1)
    rows_N = np.arange(len(rays_N3))
    enter_N = enter_N3[rows_N, axis_N]
    distance_N = np.where(enter_N <= leave_N3.min(axis=1), enter_N, FAR_M)
    normal_N3 = np.zeros_like(rays_N3)
    normal_N3[rows_N, axis_N] = -np.sign(steps_N3[rows_N, axis_N])
    return _in_front(distance_N), normal_N3


def _hit_cylinder(origin_3: Array, rays_N3: Array, size_3: Array) -> tuple[Array, Array]:
    radius, half = float(size_3[0]), float(size_3[1])
    a_N = np.maximum(rays_N3[:, 0] ** 2 + rays_N3[:, 1] ** 2, 1e-15)
    b_N = rays_N3[:, 0] * origin_3[0] + rays_N3[:, 1] * origin_3[1]
    root_N = b_N**2 - a_N * (origin_3[0] ** 2 + origin_3[1] ** 2 - radius**2)
    wall_N = (-b_N - np.sqrt(np.maximum(root_N, 0.0))) / a_N
    on_wall_N = (root_N >= 0) & (np.abs(origin_3[2] + wall_N * rays_N3[:, 2]) <= half)
    z_N = np.where(np.abs(rays_N3[:, 2]) < 1e-12, 1e-12, rays_N3[:, 2])
    cap_N = (-np.sign(z_N) * half - origin_3[2]) / z_N
    at_cap_N2 = origin_3[:2] + cap_N[:, None] * rays_N3[:, :2]
    on_cap_N = (at_cap_N2**2).sum(axis=1) <= radius**2
    wall_N, cap_N = np.where(on_wall_N, wall_N, FAR_M), np.where(on_cap_N, cap_N, FAR_M)
    distance_N = np.minimum(wall_N, cap_N)
    normal_N3 = np.zeros_like(rays_N3)
    normal_N3[:, :2] = (origin_3[:2] + wall_N[:, None] * rays_N3[:, :2]) / radius
    normal_N3[cap_N < wall_N] = 0.0
    normal_N3[cap_N < wall_N, 2] = -np.sign(z_N[cap_N < wall_N])
    return _in_front(distance_N), normal_N3


def _in_front(distance_N: Array) -> Array:
    return np.where(distance_N > 1e-9, distance_N, FAR_M)


HITS = {SPHERE: _hit_sphere, CYLINDER: _hit_cylinder, BOX: _hit_box}
