"""Goals for planners: a start, a past, pictures to reach, and who is right about having reached
them.

Three tasks. `free`: the hand is to be where the picture shows it. `push`: the block is to lie
where the picture shows it; only its surroundings count. `memory`: each cup was opened once, more
than 60 s ago, and the cup with the wanted colour is to be opened; pictures show that colour in
each of the three cups, and any of them will do.
Axes: T frames, A action, G pictures, H W pixels, C channels.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import numpy as np

from wm_ros.datatypes import FloatArray, ImageArray
from wm_ros.sim import skills, world
from wm_ros.sim.scene import TableTop
from wm_ros.sim.script import Script
from wm_ros.sim.world import Layout, WorldState

TASKS = ('free', 'push', 'memory')
REACHED_M = {'free': 0.05, 'push': 0.015}
LEAST_WAY_M = {'free': 0.10, 'push': 0.03}
SKILL = {'free': 'reach', 'push': 'stroke', 'memory': 'open'}
# Free motion is stopped where its picture is nearest; a stroke or an opened lid is seen through.
OVER = {'free': 'best', 'push': 'last', 'memory': 'last'}
MOST_SKILLS = {'free': 3, 'push': 15, 'memory': 1}
WARM_UP_FRAMES = 25
HIDDEN_FRAMES = 1500  # 60 s
LEAST_CHANGED = {'free': 0.05, 'push': 0.02}  # of the picture's pixels
MOST_OFF_CENTRE = 0.85  # a hand to be reached is that far inside the picture, 1 is its edge
# The block's surroundings in the picture, as shares of it: left, top, width, height.
BLOCK_REGION = (0.25, 0.5, 0.5, 0.5)
SEED = 40_000_000


@dataclass(frozen=True)
class Goal:
    """One task from one start.

    Attributes:
        task, number: which.
        layout: the world it begins in.
        past_TA: float32 commands in physical units that lead from the world's first frame to now.
        pictures_GHWC: uint8, what is wanted; the nearest counts.
        region: x, y, width, height in pixels that count, or None for all of the picture.
        target: what is to be reached: the hand's or block's place in metres, or the right cup.
    """

    task: str
    number: int
    layout: Layout
    past_TA: FloatArray
    pictures_GHWC: ImageArray
    region: tuple[int, int, int, int] | None
    target: tuple[float, ...]

    @property
    def skill(self) -> str:
        """Name of the skill space that a planner searches."""
        return SKILL[self.task]

    @property
    def over(self) -> str:
        """Which of a candidate's frames is held against the pictures: `last` or `best`."""
        return OVER[self.task]

    @property
    def most_skills(self) -> int:
        """How many skills may be carried out, one after the other."""
        return MOST_SKILLS[self.task]

    def distance(self, state: WorldState) -> float:
        """How far from the target, m; for `memory` 0 when only the right cup is open, else 1."""
        if self.task == 'free':
            return math.dist((state.x_m, state.y_m, state.z_m), self.target)
        if self.task == 'push':
            return math.dist((state.block_x_m, state.block_y_m), self.target)
        opened = [cup for cup, opening in enumerate(state.lids) if opening > 0]
        return float(opened != [int(self.target[0])])

    def reached(self, state: WorldState) -> bool:
        """Whether a state is good enough: the hand within 5 cm, the block within 1.5 cm, or the
        right cup, and no other, open.
        """
        return self.distance(state) <= REACHED_M.get(self.task, 0.5)


def make_goal(task: str, number: int, table: TableTop) -> Goal:
    """Return goal `number` of a task; the same number gives the same goal.

    Args:
        task: entry of TASKS.
        number: non-negative.
        table: draws the pictures; where it stands afterwards is not defined.

    Raises:
        ValueError: unknown task.
    """
    if task not in TASKS:
        raise ValueError(f'task {task!r}: expected one of {", ".join(TASKS)}')
    rng = np.random.default_rng([TASKS.index(task), SEED + number])
    colours = [*rng.permutation(len(world.PALETTE))[:3], *rng.integers(0, 6, 4)]
    layout = Layout(
        colours=tuple(int(colour) for colour in colours),
        block_x_m=float(rng.uniform(*world.BLOCK_X_M)),
        block_y_m=float(rng.uniform(*world.BLOCK_Y_M)),
        block_yaw_rad=float(rng.uniform(-0.7, 0.7)),
    )
    if task == 'memory':
        return _memory_goal(number, layout, rng, table)
    past_TA = np.repeat(skills.rest_command()[None], WARM_UP_FRAMES, 0)
    table.reset(layout)
    for action_A in past_TA:
        table.step(action_A)
    now, before_HWC = table.world_state, table.render()
    draw, region = (_draw_hand, None) if task == 'free' else (_draw_block, block_region(table))
    while True:
        target, wanted = draw(rng, now)
        table.restore(wanted.vector())
        picture_HWC = table.render()
        goal = Goal(task, number, layout, past_TA, picture_HWC[None], region, target)
        changed = (picture_HWC != before_HWC).any(-1).mean()
        if goal.distance(now) >= LEAST_WAY_M[task] and changed >= LEAST_CHANGED[task]:
            return goal


def block_region(table: TableTop) -> tuple[int, int, int, int]:
    """Return the pixels around the block's area: x, y, width, height."""
    x, y, width, height = (round(share * table.config.image_size) for share in BLOCK_REGION)
    return x, y, width, height


def _draw_hand(rng: np.random.Generator, now: WorldState) -> tuple[tuple[float, ...], WorldState]:
    while True:
        x, y, z = (float(rng.uniform(*pair)) for pair in skills.REACH_M)
        if off_centre((x, y, z)) <= MOST_OFF_CENTRE:
            return (x, y, z), replace(now, x_m=x, y_m=y, z_m=z)


def off_centre(place_m: tuple[float, float, float]) -> float:
    """Return how far from the picture's centre a place is seen, camera ahead; 1 is the edge."""
    camera, ahead = np.array(world.CAMERA_M), np.array(world.LOOK_AT_M) - np.array(world.CAMERA_M)
    ahead /= np.linalg.norm(ahead)
    up = np.cross((1.0, 0.0, 0.0), ahead)
    ray = np.array(place_m) - camera
    reach = math.tan(math.radians(world.FOVY_DEG) / 2) * float(ray @ ahead)
    return max(abs(float(ray[0])), abs(float(ray @ up))) / reach


def _draw_block(rng: np.random.Generator, now: WorldState) -> tuple[tuple[float, ...], WorldState]:
    x, y = float(rng.uniform(*world.BLOCK_X_M)), float(rng.uniform(*world.BLOCK_Y_M))
    yaw = float(rng.uniform(-0.7, 0.7))
    return (x, y), replace(now, block_x_m=x, block_y_m=y, block_yaw_rad=yaw)


def _memory_goal(number: int, layout: Layout, rng: np.random.Generator, table: TableTop) -> Goal:
    """Open each cup once, keep busy with the arm for 60 s, ask for one of the colours. The right
    cup goes round by number: whoever always opens the same one finds a third of them.
    """
    script = Script(layout, rng)
    script.follow(np.repeat(skills.rest_command()[None], 5, 0))
    for cup in rng.permutation(3):
        opened_TA = skills.open_cup(script.command_A, int(cup), int(rng.integers(6, 10)))
        script.follow(opened_TA)
        script.follow(opened_TA[3::-1])
        script.follow(np.repeat(skills.rest_command()[None], 3, 0))
    last_seen = int(np.flatnonzero(script.showing()[:, :3].any(1))[-1])
    while script.frame < last_seen + HIDDEN_FRAMES:
        stroke = (
            rng.uniform(*skills.AREA_X_M),
            rng.uniform(*skills.AREA_Y_M),
            rng.uniform(-np.pi, np.pi),
            rng.uniform(*skills.STROKE_M),
        )
        script.follow(skills.stroke(script.command_A, *stroke))
        script.follow(skills.lasting(script.command_A[None], int(rng.integers(1, 6))))
    script.follow(np.repeat(skills.rest_command()[None], 10, 0))
    past_TA = script.actions()
    table.reset(layout)
    for action_A in past_TA:
        table.step(action_A)
    now, cup = table.world_state, number % 3
    pictures = []
    for other in range(3):
        colours = list(layout.colours)
        colours[other] = layout.colours[cup]
        table.recolour(replace(layout, colours=tuple(colours)))
        lids = tuple(float(place == other) for place in range(3))
        table.restore(replace(now, lids=(lids[0], lids[1], lids[2])).vector())
        pictures.append(table.render())
    return Goal('memory', number, layout, past_TA, np.stack(pictures), None, (float(cup),))
