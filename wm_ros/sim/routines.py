"""Routines without questions: `practice` and `skills` for training, `free` and `push` for motion.

Each takes a script and writes frames into it until it holds enough.
"""

from __future__ import annotations

import math

import numpy as np

from wm_ros.sim import skills
from wm_ros.sim.script import Script
from wm_ros.sim.world import ACTION_LIMITS, BLOCK_HALF_M, FACTS, TIP_RADIUS_M

RESTING = 3
REDRAW_FRAMES = 300


def practise(script: Script, frames: int) -> None:
    """Reveal facts by skewed weights, about 44 in 1,000 frames; some rest: long lags occur too."""
    rng, redraw = script.rng, 0
    weights_F = np.ones(len(FACTS))
    rests: dict[str, int] = {}
    while script.frame < frames:
        if script.frame >= redraw:
            weights_F = np.exp(1.5 * rng.standard_normal(len(FACTS)))
            redraw = script.frame + REDRAW_FRAMES
        due = [fact for fact, end in rests.items() if end <= script.frame]
        if due:
            fact = due[0]
            del rests[fact]
        else:
            awake_F = weights_F * [fact not in rests for fact in FACTS]
            fact = FACTS[int(rng.choice(len(FACTS), p=awake_F / awake_F.sum()))]
        reveal_somehow(script, fact)
        if len(rests) < RESTING and rng.random() < 0.6:
            rests[fact] = script.frame + _rest(rng, frames - script.frame)
        if rng.random() < 0.06:
            script.glance()
        script.wait(int(rng.integers(2, 14)))


def _rest(rng: np.random.Generator, left: int) -> int:
    """Draw how long a fact stays hidden, so that its return still fits into the frames left."""
    if rng.random() < 0.5:
        rest = math.exp(rng.uniform(math.log(120), math.log(600)))
    else:
        rest = rng.uniform(600, 1600)
    return int(rest if rest < left - 20 else rng.uniform(0.3, 0.95) * left)


def reveal_somehow(script: Script, fact: str, led: bool | None = None) -> None:
    """Open and close one container at a random pace; 6 of 10 cups are led by the gripper."""
    rng = script.rng
    if led is None:
        led = fact.startswith('cup') and bool(rng.random() < 0.6)
    script.prepare(fact, led)
    script.reveal(fact, script.draw_levels(fact), led)


def roam(script: Script, frames: int) -> None:
    """`free`: anything may happen: glances, pushes, part openings, two containers at once."""
    rng = script.rng
    while script.frame < frames:
        choice = rng.random()
        if choice < 0.25:
            script.glance()
        elif choice < 0.5:
            script.reveal_two()
        elif choice < 0.75:
            fact = FACTS[int(rng.integers(0, 5))]
            script.prepare(fact, False)
            levels = script.draw_levels(fact, peak=float(rng.integers(2, 8)) / 8)
            script.reveal(fact, levels, False)
        else:
            reveal_somehow(script, FACTS[int(rng.integers(0, len(FACTS)))])
        script.wait(int(rng.integers(5, 50)))


def push_about(script: Script, frames: int) -> None:
    """`push`: the block is pushed forth, back and sideways; every container stays closed."""
    while script.frame < frames:
        script.tick()


def practise_skills(script: Script, frames: int) -> None:
    """`skills`: what a planner may ask for: strokes at and beside the block, reaches anywhere,
    cups opened and closed.
    """
    rng = script.rng
    script.follow(skills.rest_command()[None])
    while script.frame < frames:
        choice = rng.random()
        if choice < 0.7:
            script.follow(skills.stroke(script.command_A, *_draw_stroke(rng, script.block_m)))
        elif choice < 0.9:
            limits = ACTION_LIMITS[:3]
            script.follow(skills.reach(script.command_A, *(rng.uniform(*pair) for pair in limits)))
            script.follow(skills.lasting(script.command_A[None], int(rng.integers(1, 5))))
            if rng.random() < 0.5:
                script.follow(skills.reach(script.command_A, *skills.REST_M))
        else:
            script.follow(skills.reach(script.command_A, *skills.REST_M))
            cup = int(rng.integers(0, 3))
            opened_TA = skills.open_cup(script.command_A, cup, int(rng.integers(4, 12)))
            script.follow(opened_TA)
            script.follow(opened_TA[3::-1])
            script.follow(skills.rest_command()[None])
        script.follow(skills.lasting(script.command_A[None], int(rng.integers(1, 6))))


def _draw_stroke(
    rng: np.random.Generator, block_m: tuple[float, float]
) -> tuple[float, float, float, float]:
    """Draw x, y, angle, length: three in four begin behind the block and go through it."""
    angle, length = rng.uniform(-np.pi, np.pi), rng.uniform(*skills.STROKE_M)
    if rng.random() < 0.25:
        return rng.uniform(*skills.AREA_X_M), rng.uniform(*skills.AREA_Y_M), angle, length
    back = BLOCK_HALF_M + TIP_RADIUS_M + rng.uniform(0.0, 0.02)
    side = rng.uniform(-0.025, 0.025)
    x = block_m[0] - np.cos(angle) * back - np.sin(angle) * side
    y = block_m[1] - np.sin(angle) * back + np.cos(angle) * side
    return x, y, angle, length
