"""What turns poses into pixels: OpenGL (EGL or OSMesa), or rays where there is no OpenGL.

EGL and OSMesa give the same bytes; rays give nearly the same picture (round things are truly
round) and exact visibility, several times slower. Which one drew is told by `name`. H W pixels,
C channels.
"""

from __future__ import annotations

import ctypes
import logging
import os
import sys
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from wm_ros.datatypes import ImageArray
from wm_ros.sim import mjcf
from wm_ros.sim.rays import RayDrawing

LIBRARIES = {'egl': ('libEGL.so.1',),
             'osmesa': ('libOSMesa.so.8', 'libOSMesa.so.6', 'libOSMesa.so')}
PACKAGES = ('apt install libegl1 libgl1-mesa-dri for EGL, libosmesa6 for OSMesa; '
            'renderer "ray" needs neither')


class Drawing(Protocol):
    """Draws the placed model from its camera."""

    name: str

    def colour(self) -> ImageArray:
        """Return uint8 RGB [H, W, 3]."""

    def geoms(self) -> npt.NDArray[np.int32]:
        """Return the geom id per pixel, int32 [H, W], negative where nothing is hit."""

    def close(self) -> None:
        """Free what the drawing holds."""


def choose_renderer(wanted: str) -> str:
    """Return `egl`, `osmesa` or `ray` for a knob value; probes the libraries, opens no context.

    Raises:
        RuntimeError: an OpenGL renderer is asked for by name and its library is missing.
    """
    if wanted == 'ray':
        return 'ray'
    if wanted == 'auto':
        named = os.environ.get('MUJOCO_GL', '').lower()
        if named in LIBRARIES:
            return named
        return next((name for name in LIBRARIES if _loads(name)), 'ray')
    if not _loads(wanted):
        libraries = ', '.join(LIBRARIES[wanted])
        raise RuntimeError(f'renderer {wanted}: none of {libraries} found; {PACKAGES}')
    return wanted


def _loads(name: str) -> bool:
    for library in LIBRARIES[name]:
        try:
            ctypes.CDLL(library)
        except OSError:
            continue
        return True
    return False


def import_mujoco(renderer: str) -> Any:
    """Import MuJoCo, telling it which OpenGL to load; the first import in a process decides."""
    if 'mujoco' not in sys.modules:
        os.environ['MUJOCO_GL'] = 'disable' if renderer == 'ray' else renderer
    import mujoco
    return mujoco


def open_drawing(wanted: str, mujoco: Any, model: Any, data: Any, side: int) -> Drawing:
    """Return the drawing for square pictures of `side` pixels.

    Raises:
        RuntimeError: an OpenGL renderer is asked for by name and gives no context.
    """
    name = choose_renderer(wanted)
    if name == 'ray':
        return RayDrawing(model, data, side)
    try:
        renderer = mujoco.Renderer(model, side, side)
    except Exception as error:  # the OpenGL bindings raise classes of their own
        if wanted != 'auto':
            raise RuntimeError(f'renderer {name}: no context ({error}); {PACKAGES}') from error
        logging.getLogger(__name__).warning('%s: no context (%s), drawing with rays', name, error)
        return RayDrawing(model, data, side)
    return GlDrawing(name, mujoco, renderer, data)


class GlDrawing:
    """MuJoCo's own renderer, without shadows, reflections and sky."""

    def __init__(self, name: str, mujoco: Any, renderer: Any, data: Any) -> None:
        self.name = name
        self._data, self._renderer = data, renderer
        for flag in ('mjRND_SHADOW', 'mjRND_REFLECTION', 'mjRND_SKYBOX', 'mjRND_HAZE'):
            renderer.scene.flags[getattr(mujoco.mjtRndFlag, flag)] = 0

    def colour(self) -> ImageArray:
        """Return uint8 RGB [H, W, 3]."""
        self._renderer.update_scene(self._data, camera=mjcf.CAMERA)
        return np.asarray(self._renderer.render(), np.uint8)

    def geoms(self) -> npt.NDArray[np.int32]:
        """Return the geom id per pixel, int32 [H, W], negative where nothing is hit."""
        self._renderer.update_scene(self._data, camera=mjcf.CAMERA)
        self._renderer.enable_segmentation_rendering()
        try:
            return np.asarray(self._renderer.render()[:, :, 0], np.int32)
        finally:
            self._renderer.disable_segmentation_rendering()

    def close(self) -> None:
        """Free the OpenGL context."""
        self._renderer.close()
