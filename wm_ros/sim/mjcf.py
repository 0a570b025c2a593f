"""The MuJoCo model of the table-top, built of primitives from the numbers in `world.py`.

No dynamics: every joint is set, nothing is integrated. No shadows, reflections or multisampling: a
fact's colour can reach no pixel but its own.
"""

from __future__ import annotations

import math

from wm_ros.sim import world as w

CAMERA = 'camera'
LIGHT_DIRECTION = (0.45, 0.5, -1.0)
LIGHT_DIFFUSE = 0.55
HEAD_DIFFUSE = 0.12
HEAD_AMBIENT = 0.38
MATERIALS = {
    'table': (0.56, 0.52, 0.47), 'wall': (0.33, 0.35, 0.38), 'cup': (0.30, 0.32, 0.36),
    'rim': (0.46, 0.48, 0.52), 'wood': (0.42, 0.37, 0.32), 'front': (0.66, 0.62, 0.56),
    'panel': (0.22, 0.23, 0.26), 'arm': (0.86, 0.87, 0.89), 'joint': (0.14, 0.14, 0.16),
    'block': (0.95, 0.95, 0.95), 'stand': (0.74, 0.73, 0.71), 'lining': (0.10, 0.10, 0.10),
}
FACT_SHAPES = {
    'cup': ('cylinder', (0.060, 0.060)),
    'drawer': ('box', (0.050, 0.044, 0.018)),
    'occluder': ('box', (0.045, 0.028, 0.045)),
    'view': ('box', (0.068, 0.05, 0.065)),
}


def _numbers(values: tuple[float, ...]) -> str:
    return ' '.join(f'{value:.6g}' for value in values)


def _geom(kind: str, material: str, size: tuple[float, ...],
          pos: tuple[float, ...] = (0.0, 0.0, 0.0), extra: str = '') -> str:
    return (f'<geom type="{kind}" material="{material}" size="{_numbers(size)}" '
            f'pos="{_numbers(pos)}" {extra}/>')


def _slide(name: str, axis: tuple[float, ...]) -> str:
    return f'<joint name="{name}" type="slide" axis="{_numbers(axis)}"/>'


def _hinge(name: str, axis: tuple[float, ...]) -> str:
    return f'<joint name="{name}" type="hinge" axis="{_numbers(axis)}"/>'


def _rod(material: str, radius: float, end: tuple[float, ...]) -> str:
    return (f'<geom type="cylinder" material="{material}" size="{radius:.6g}" '
            f'fromto="0 0 0 {_numbers(end)}"/>')


def _fact(name: str, pos: tuple[float, ...]) -> str:
    kind, size = FACT_SHAPES[name.split('_')[0]]
    return _geom(kind, name, size, pos, f'name="{name}"')


def _cup(index: int) -> str:
    x, half = w.CUP_X_M[index], w.CUP_HEIGHT_M / 2
    lid = (f'<body name="cup_{index}_lid" pos="{x} 0 0">' + _slide(f'lid_{index}', (0, 0, 1))
           + _geom('cylinder', 'cup', (w.CUP_RADIUS_M, half), (0, 0, half))
           + _geom('cylinder', 'rim', (w.CUP_RADIUS_M + 0.002, 0.008), (0, 0, 0.008))
           + _geom('cylinder', 'rim', (0.016, 0.012), (0, 0, w.CUP_HEIGHT_M + 0.010)) + '</body>')
    return _fact(f'cup_{index}', (x, 0, FACT_SHAPES['cup'][1][1])) + lid


def _drawer() -> str:
    x, front, depth, height, width = -0.118, -0.222, 0.11, 0.052, 0.060
    middle, half, side = front + depth / 2, height / 2, width - 0.004
    shell = (_geom('box', 'wood', (width, depth / 2, 0.006), (x, middle, height + 0.006))
             + _geom('box', 'wood', (0.004, depth / 2, half), (x - side, middle, half))
             + _geom('box', 'wood', (0.004, depth / 2, half), (x + side, middle, half))
             + _geom('box', 'wood', (width, 0.004, half), (x, front + depth - 0.004, half)))
    tray = (f'<body name="drawer_tray" pos="{x} {front} 0">' + _slide('drawer', (0, -1, 0))
            + _geom('box', 'front', (width + 0.001, 0.004, half + 0.005),
                    (0, -0.004, half + 0.006))
            + _geom('box', 'joint', (0.018, 0.006, 0.005), (0, -0.012, half + 0.010))
            + _geom('box', 'lining', (width - 0.009, 0.05, 0.003), (0, 0.05, 0.006))
            + _fact('drawer', (0, 0.050, 0.009 + FACT_SHAPES['drawer'][1][2])) + '</body>')
    return shell + tray


def _occluder() -> str:
    x, y = 0.118, -0.180
    panel = (f'<body name="occluder_panel" pos="{x} {y - 0.042} 0">'
             + _slide('occluder', (1, 0, 0))
             + _geom('box', 'panel', (0.064, 0.004, 0.073), (0, 0, 0.073))
             + _geom('box', 'rim', (0.065, 0.006, 0.006), (0, 0, 0.148)) + '</body>')
    return _fact('occluder', (x, y, FACT_SHAPES['occluder'][1][2])) + panel


def _view(side: str, sign: float) -> str:
    # Azimuth as seen from the camera: outside the frame when it looks ahead.
    azimuth, away = math.radians(42.5), 0.62
    x, y = sign * away * math.sin(azimuth), w.CAMERA_M[1] + away * math.cos(azimuth)
    yaw = -sign * azimuth
    half = FACT_SHAPES['view'][1][2]
    return (f'<body pos="{x:.6g} {y:.6g} 0" euler="0 0 {yaw:.6g}">'
            + _geom('cylinder', 'stand', (0.055, 0.02), (0, 0, 0.02))
            + _fact(f'view_{side}', (0, 0, 0.04 + half)) + '</body>')


def _arm() -> str:
    fingers = ''.join(
        '<body>' + _slide(f'finger_{i}', (sign, 0, 0))
        + _geom('box', 'joint', (0.006, 0.010, 0.024), (0.007 * sign, 0, -w.HAND_M + 0.024))
        + '</body>'
        for i, sign in enumerate((-1, 1)))
    hand = (f'<body pos="0 {-w.LOWER_M} 0">' + _hinge('wrist', (-1, 0, 0))
            + _geom('sphere', 'joint', (0.026,))
            + _geom('box', 'arm', (0.032, 0.018, 0.016), (0, 0, -0.036)) + fingers + '</body>')
    lower = (f'<body pos="0 {-w.UPPER_M} 0">' + _hinge('elbow', (-1, 0, 0))
             + '<geom type="cylinder" material="joint" size="0.036 0.034" euler="0 1.5708 0"/>'
             + _rod('arm', 0.024, (0.0, -w.LOWER_M, 0.0)) + hand + '</body>')
    upper = (f'<body pos="0 0 {w.SHOULDER_M}">' + _hinge('shoulder', (-1, 0, 0))
             + '<geom type="cylinder" material="joint" size="0.042 0.045" euler="0 1.5708 0"/>'
             + _rod('arm', 0.030, (0.0, -w.UPPER_M, 0.0)) + lower + '</body>')
    return (f'<body pos="{_numbers(w.BASE_M)}">'
            + _geom('cylinder', 'joint', (0.075, 0.012), (0, 0, 0.012))
            + '<body>' + _hinge('yaw', (0, 0, 1))
            + _rod('arm', 0.045, (0.0, 0.0, w.SHOULDER_M)) + upper + '</body></body>')


def _camera() -> str:
    dy, dz = w.LOOK_AT_M[1] - w.CAMERA_M[1], w.LOOK_AT_M[2] - w.CAMERA_M[2]
    pitch = math.pi / 2 + math.atan2(dz, dy)
    return (f'<body pos="{_numbers(w.CAMERA_M)}">' + _hinge('pan', (0, 0, -1))
            + '<body>' + _hinge('tilt', (1, 0, 0))
            + '<inertial pos="0 0 0" mass="1" diaginertia="1 1 1"/>'
            f'<camera name="{CAMERA}" fovy="{w.FOVY_DEG}" euler="{pitch:.9g} 0 0"/></body></body>')


def model_xml(image_px: int) -> str:
    """Return the MJCF text for frames of `image_px` rendered pixels a side."""
    def grey(level: float) -> str:
        return _numbers((level,) * 3)

    def material(name: str, rgb: tuple[float, ...], emission: float) -> str:
        return (f'<material name="{name}" rgba="{_numbers(rgb)} 1" specular="0" shininess="0" '
                f'reflectance="0" emission="{emission}"/>')
    materials = ''.join(material(name, rgb, 0.0) for name, rgb in MATERIALS.items())
    materials += ''.join(material(fact, (1.0, 1.0, 1.0), 0.35) for fact in w.FACTS)
    body = (_geom('box', 'table', (2.0, 0.66, 0.02), (0, 0.1, -0.02))
            + _geom('box', 'wall', (3.0, 0.02, 1.2), (0, 0.80, 0.5))
            + ''.join(_cup(i) for i in range(3)) + _drawer() + _occluder()
            + _view('left', -1.0) + _view('right', 1.0) + _arm() + _camera()
            + '<body name="block">' + _slide('block_x', (1, 0, 0)) + _slide('block_y', (0, 1, 0))
            + _hinge('block_yaw', (0, 0, 1))
            + _geom('box', 'block', (w.BLOCK_HALF_M,) * 3, (0, 0, w.BLOCK_HALF_M)) + '</body>')
    return ('<mujoco model="table_top">'
            '<compiler angle="radian" boundmass="0.01" boundinertia="0.001"/>'
            '<option><flag contact="disable" gravity="disable"/></option>'
            f'<visual><global offwidth="{image_px}" offheight="{image_px}"/>'
            f'<headlight ambient="{grey(HEAD_AMBIENT)}" diffuse="{grey(HEAD_DIFFUSE)}" '
            'specular="0 0 0"/>'
            '<map znear="0.02" zfar="10"/>'
            '<quality offsamples="0" shadowsize="0" numslices="20" numstacks="8" numquads="1"/>'
            f'</visual><statistic extent="1" center="0 0 0"/><asset>{materials}</asset>'
            '<worldbody><light directional="true" castshadow="false" '
            f'dir="{_numbers(LIGHT_DIRECTION)}" diffuse="{grey(LIGHT_DIFFUSE)}" '
            'ambient="0 0 0" specular="0 0 0"/>'
            f'{body}</worldbody></mujoco>')
