"""Recipes: every number of a training run, by name. A recipe is a value; `main.py` runs it stage
by stage.

`tiny` is the fixture that CI trains (a rasterised cups world), `tabletop` the shipped model,
`real` the small model of a robot's own bags. Step counts are fixed, so that two runs are
comparable whatever the machine.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from wm_ros.config import ModelConfig
from wm_ros.contract import StreamContract


@dataclass(frozen=True)
class TokenizerStage:
    """Reconstruction of single frames."""

    frames: int = 30_000
    steps: int = 1600
    batch: int = 32
    rate: float = 2e-3
    latent_noise: float = 0.05
    salience: float = 4.0


@dataclass(frozen=True)
class TeacherStage:
    """Flow matching with teacher forcing; the state is scanned over all frames, the loss taken
    on few.
    """

    name: str = 'teacher'
    steps: int = 1000
    clips: int = 16
    frames: int = 128
    loss_frames: int = 8
    rate: float = 1.5e-3
    warm_up: int = 100
    shift: float = 4.0
    at_noise: float = 0.15
    event_share: float = 0.5
    ahead: int = 0
    change_weight: float = 0.0
    noisy_share: float = 0.3
    noise_level: float = 0.3
    dropped: float = 0.05
    ema: float = 0.995
    gate_minutes: float = 0.0
    gate_2afc: float = 0.60


@dataclass(frozen=True)
class StudentStage:
    """Distillation to few steps, writer frozen. method: `cd` (consistency) or `ode`
    (regression).
    """

    name: str = 'student'
    method: str = 'cd'
    steps: int = 500
    clips: int = 12
    frames: int = 160
    loss_frames: int = 12
    ahead: int = 0
    rate: float = 5e-4
    grid: int = 8
    shift: float = 2.0
    at_noise: float = 0.2
    ema: float = 0.95
    solver_steps: int = 6
    noisy_share: float = 0.3
    noise_level: float = 0.3
    dropped: float = 0.05


@dataclass(frozen=True)
class Recipe:
    """One model from nothing to a package."""

    name: str
    world: str
    model: ModelConfig
    practice_clips: int
    practice_frames: int
    tokenizer: TokenizerStage
    teachers: tuple[TeacherStage, ...]
    student: StudentStage
    sampler_steps: tuple[float, ...] = (1.0, 2 / 3)
    noise_mode: str = 'deterministic'
    probe_clips: int = 48
    seed: int = 0

    @property
    def stages(self) -> tuple[TeacherStage | StudentStage, ...]:
        """The world model's stages in order; each goes on from the one before."""
        return (*self.teachers, self.student)

    def for_arm(self, arm: str) -> Recipe:
        """The same recipe with another memory."""
        return replace(self, model=replace(self.model, arm=arm))


TINY = Recipe(
    name='tiny',
    world='cups',
    model=ModelConfig(action_width=3, image_size=32, latent_channels=16, patch=1, layers=2),
    practice_clips=96,
    practice_frames=600,
    tokenizer=TokenizerStage(frames=6000, steps=500, batch=64, rate=3e-3),
    teachers=(TeacherStage(steps=550, event_share=0.75),),
    student=StudentStage(method='ode', steps=40, rate=2e-4, ema=0.9),
    probe_clips=32,
)

TABLETOP = Recipe(
    name='tabletop_small',
    world='tabletop',
    model=ModelConfig(),
    practice_clips=280,
    practice_frames=2000,
    tokenizer=TokenizerStage(),
    teachers=(
        TeacherStage(
            'teacher_short', steps=2000, clips=24, ahead=3, event_share=0.7, gate_minutes=25
        ),
        TeacherStage(
            'teacher_mid',
            steps=1100,
            clips=14,
            frames=256,
            loss_frames=12,
            rate=1.2e-3,
            ahead=4,
            event_share=0.75,
        ),
        TeacherStage(
            'teacher_long',
            steps=800,
            clips=6,
            frames=1024,
            loss_frames=24,
            rate=7e-4,
            shift=3.0,
            at_noise=0.1,
            ahead=4,
            event_share=0.7,
        ),
    ),
    student=StudentStage(
        method='ode',
        steps=240,
        clips=6,
        frames=1024,
        loss_frames=32,
        ahead=4,
        rate=2e-4,
        ema=0.98,
    ),
)

# Name, action width and image size come from the robot's contract: `real_recipe`.
REAL = Recipe(
    name='real',
    world='bags',
    model=ModelConfig(layers=3),
    practice_clips=0,
    practice_frames=0,
    tokenizer=TokenizerStage(frames=6000, steps=1500),
    teachers=(
        TeacherStage(
            'teacher',
            steps=1200,
            clips=12,
            frames=96,
            loss_frames=12,
            shift=3.0,
            event_share=0.0,
            ahead=4,
        ),
    ),
    student=StudentStage(steps=300, frames=96, ahead=4),
    probe_clips=0,
)


def real_recipe(contract: StreamContract) -> Recipe:
    """Return the recipe for one robot's bags."""
    model = replace(REAL.model, action_width=contract.action_width, image_size=contract.image_size)
    return replace(REAL, name=contract.name, model=model)


RECIPES = {recipe.name: recipe for recipe in (TINY, TABLETOP, REAL)}
