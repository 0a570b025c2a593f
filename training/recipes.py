"""Recipes: every number of a training run, by name. A recipe is a value; `main.py` runs it stage
by stage.

`tiny` is the fixture that CI trains (a rasterised cups world), `tabletop` the shipped model,
`real` the model of a robot's own bags and `quick` a trial of it, `fine` one that goes on from
finished weights. Step counts are fixed, so that two runs are comparable whatever the machine.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TypeVar

from wm_ros.config import ModelConfig, check_knobs, knob
from wm_ros.contract import StreamContract
from wm_ros.contract_fields import ContractError


@dataclass(frozen=True, kw_only=True)
class TokenizerStage:
    """Reconstruction of single frames."""

    frames: int = knob(30_000, 'different frames to learn from', low=1)
    steps: int = knob(1600, 'optimiser steps', low=1)
    batch: int = knob(32, 'frames of a step', low=1)
    rate: float = knob(2e-3, 'peak learning rate', low=0)
    latent_noise: float = knob(
        0.05, 'noise on the latent, per standard deviation of its channel', low=0, high=1
    )
    salience: float = knob(
        4.0, 'weight gained by a pixel that is far from the mean picture there', low=0
    )
    edges: float = knob(
        0.0, 'weight of the error of differences between neighbouring pixels', low=0
    )
    variation: float = knob(
        0.0, 'how much frames are shifted, zoomed, turned and recoloured (augment.py)', low=0
    )

    def __post_init__(self) -> None:
        check_knobs(self)


@dataclass(frozen=True, kw_only=True)
class Stage:
    """What the stages of the world model share: what a step draws from the shards, and how fast
    it learns from that.
    """

    name: str
    steps: int = knob(1000, 'optimiser steps', low=1)
    rate: float = knob(1e-3, 'peak learning rate', low=0)
    ema: float = knob(0.995, 'decay of the moving average, which is the result', low=0, high=1)
    clips: int = knob(16, 'windows of a step', low=1)
    frames: int = knob(128, 'length of a window: the memory is scanned over all of it', low=8)
    loss_frames: int = knob(8, 'frames of a window whose successor is predicted', low=1)
    event_share: float = knob(0.5, 'share of them before a reveal, where known', low=0, high=1)
    ahead: int = knob(0, 'most frames imagined between the last seen and the target', low=0)
    skill_share: float = knob(0.0, 'share of windows that practise skills', low=0, high=1)
    skill_ahead: int = knob(0, 'most frames imagined before a target in those', low=0)
    whole_share: float = knob(
        0.0, 'share of their targets that a motion is imagined to from its start', low=0, high=1
    )
    depths: int = knob(1, 'targets on the way of every imagined stretch', low=1)
    noisy_share: float = knob(0.3, 'share of seen frames that are noised', low=0, high=1)
    noise_level: float = knob(0.3, 'most noise of such a frame, as flow time', low=0, high=1)
    dropped: float = knob(0.05, 'share of frames that are missing, not written', low=0, high=1)
    action_noise: float = knob(
        0.0, 'standard deviation of what is added to the actions of a window, [-1, 1] units', low=0
    )
    rollout: int = knob(0, 'frames imagined with gradient, each of them scored', low=0)
    rollout_share: float = knob(0.0, 'share of the loss that these have', low=0, high=1)

    def __post_init__(self) -> None:
        check_knobs(self)
        if bool(self.rollout) != bool(self.rollout_share):
            raise ValueError(
                f'{self.name}: rollout {self.rollout} frames at a share of {self.rollout_share}; '
                'give both or neither'
            )


@dataclass(frozen=True, kw_only=True)
class TeacherStage(Stage):
    """Flow matching with teacher forcing; the state is scanned over all frames, the loss taken
    on few.
    """

    name: str = 'teacher'
    rate: float = knob(1.5e-3, 'peak learning rate', low=0)
    warm_up: int = knob(100, 'steps until the rate is at its peak', low=0)
    shift: float = knob(4.0, 'how far flow times are moved towards noise; 1 is not', low=1)
    at_noise: float = knob(0.15, 'share of rows at flow time 1 exactly', low=0, high=1)
    change_weight: float = knob(0.0, 'weight gained by cells that change', low=0)
    gate_minutes: float = knob(
        0.0, 'when recall is judged, at the end at the latest; 0 never', unit='min', low=0
    )
    gate_2afc: float = knob(0.60, '2AFC at lag 128 that it must exceed by then', low=0, high=1)


@dataclass(frozen=True, kw_only=True)
class StudentStage(Stage):
    """Distillation to few steps, writer frozen."""

    name: str = 'student'
    method: str = knob(
        'cd',
        'consistency distillation, or ODE regression at the sampler steps',
        choices=('cd', 'ode'),
    )
    steps: int = knob(500, 'optimiser steps', low=1)
    rate: float = knob(5e-4, 'peak learning rate', low=0)
    ema: float = knob(0.95, 'decay of the moving average, which is the result', low=0, high=1)
    grid: int = knob(8, 'cells of the consistency grid (cd)', low=1)
    shift: float = knob(2.0, 'how far its flow times are moved towards noise (cd)', low=1)
    at_noise: float = knob(0.2, 'share of rows that start at flow time 1 (cd)', low=0, high=1)
    solver_steps: int = knob(6, "Euler steps of the teacher's solution (ode)", low=1)


@dataclass(frozen=True, kw_only=True)
class CompositorStage:
    """What the decoder makes of imagined futures and the last seen frame, for a model whose
    latents have a `reference`.
    """

    name: str = 'compositor'
    steps: int = knob(1500, 'optimiser steps', low=1)
    rate: float = knob(2e-3, 'peak learning rate', low=0)
    batch: int = knob(24, 'frames of a step', low=1)
    clips: int = knob(64, 'clips that futures are imagined over', low=1)
    starts: int = knob(18, 'futures of each', low=1)
    ahead: int = knob(25, 'frames of a future', low=1)
    exact_share: float = knob(
        0.3, 'share of frames shown from their own code, not an imagined one', low=0, high=1
    )
    edges: float = knob(
        0.5, 'weight of the error of differences between neighbouring pixels', low=0
    )

    def __post_init__(self) -> None:
        check_knobs(self)


AnyStage = TypeVar('AnyStage', bound=Stage)
# A window of the `window` arm, four times over: most rows find theirs full.
BASELINE_FRAMES = 64
BASELINE_CLIPS = 16  # windows of a step, at least
# Steps of its teachers: what two baselines can do in 45 minutes on 2 cores, from weights of `ttt`.
BASELINE_STEPS = (300, 300)


@dataclass(frozen=True)
class Recipe:
    """One model from nothing to a package.

    Attributes:
        practice_clips: how many clips are rendered before the first teacher, before the second
            and so on: the first need not wait for all.
        skill_clips: how many clips that practise what a planner may ask for are rendered before
            the first stage with a `skill_share`, before the second such stage and so on.
        compositor: the last stage, of a model whose latents have a `reference`.
        variants: of a folder of bags: how often every clip is there once more, seen differently
            (`augment.py`).
        goes_on_from: stages of `ttt` that a baseline may begin with; empty for `ttt` itself.
    """

    name: str
    world: str
    model: ModelConfig
    practice_clips: tuple[int, ...]
    practice_frames: int
    tokenizer: TokenizerStage
    teachers: tuple[TeacherStage, ...]
    student: StudentStage
    compositor: CompositorStage | None = None
    sampler_steps: tuple[float, ...] = (1.0, 2 / 3)
    noise_mode: str = 'deterministic'
    skill_clips: tuple[int, ...] = ()
    variants: int = 0
    probe_clips: int = 48
    seed: int = 0
    goes_on_from: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if self.model.reference != (self.compositor is not None):
            raise ValueError(
                f'recipe {self.name}: a model with a reference needs the stage `compositor`, and '
                'no other has one'
            )

    @property
    def stages(self) -> tuple[TeacherStage | StudentStage, ...]:
        """The world model's stages in order; each goes on from the one before."""
        return (*self.teachers, self.student)

    def for_arm(self, arm: str) -> Recipe:
        """The same recipe with another memory, begun with what all teachers of this one gave."""
        return replace(
            self,
            model=replace(self.model, arm=arm),
            goes_on_from=(self.teachers[-1].name, self.student.name),
        )


TINY = Recipe(
    name='tiny',
    world='cups',
    model=ModelConfig(action_width=3, image_size=32, latent_channels=16, patch=1, layers=2),
    practice_clips=(96,),
    practice_frames=600,
    tokenizer=TokenizerStage(frames=6000, steps=500, batch=64, rate=3e-3),
    teachers=(TeacherStage(steps=550, event_share=0.75),),
    student=StudentStage(
        method='ode', steps=40, rate=2e-4, ema=0.9, clips=12, frames=160, loss_frames=12
    ),
    probe_clips=32,
)

TABLETOP = Recipe(
    name='tabletop_small',
    world='tabletop',
    model=ModelConfig(),
    practice_clips=(80, 200),
    practice_frames=2000,
    skill_clips=(60, 0, 100),
    tokenizer=TokenizerStage(steps=4000),
    teachers=(
        TeacherStage(
            name='teacher_short',
            steps=1500,
            clips=24,
            loss_frames=16,
            ahead=3,
            event_share=0.6,
            gate_minutes=12,
        ),
        TeacherStage(
            name='teacher_mid',
            steps=1100,
            clips=14,
            frames=256,
            loss_frames=24,
            rate=1.2e-3,
            ahead=4,
            event_share=0.5,
        ),
        TeacherStage(
            name='teacher_long',
            steps=900,
            clips=6,
            frames=1024,
            loss_frames=40,
            rate=1e-3,
            shift=3.0,
            at_noise=0.1,
            ahead=4,
            event_share=0.5,
        ),
        TeacherStage(
            name='teacher_whole',
            steps=700,
            clips=3,
            frames=1800,
            loss_frames=48,
            rate=8e-4,
            shift=3.0,
            at_noise=0.1,
            ahead=4,
            event_share=0.55,
        ),
        TeacherStage(
            name='teacher_skills',
            steps=600,
            clips=6,
            frames=1024,
            loss_frames=48,
            rate=8e-4,
            shift=3.0,
            at_noise=0.1,
            ahead=16,
            event_share=0.5,
            skill_share=0.4,
            skill_ahead=16,
            change_weight=1.0,
        ),
        TeacherStage(
            name='teacher_strokes',
            steps=700,
            clips=4,
            frames=1800,
            loss_frames=56,
            rate=8e-4,
            shift=3.0,
            at_noise=0.15,
            ahead=4,
            event_share=0.6,
            skill_share=0.5,
            skill_ahead=22,
            change_weight=3.0,
        ),
        TeacherStage(
            name='teacher_pushes',
            steps=1000,
            clips=4,
            frames=1800,
            loss_frames=48,
            depths=4,
            rate=8e-4,
            shift=3.0,
            at_noise=0.15,
            ahead=4,
            event_share=0.6,
            skill_share=0.6,
            skill_ahead=26,
            whole_share=0.6,
            change_weight=3.0,
        ),
    ),
    student=StudentStage(
        method='ode',
        steps=240,
        clips=6,
        frames=1024,
        loss_frames=32,
        depths=3,
        ahead=6,
        event_share=0.5,
        skill_share=0.5,
        skill_ahead=26,
        whole_share=0.5,
        rate=2e-4,
        ema=0.98,
    ),
    noise_mode='fresh',  # measured against `deterministic`: docs/log.md
)

# Name, action width and image size come from the robot's contract: `real_recipe`. A trial of ten
# minutes: blurred.
QUICK = Recipe(
    name='quick',
    world='bags',
    model=ModelConfig(layers=3),
    practice_clips=(),
    practice_frames=0,
    tokenizer=TokenizerStage(frames=6000, steps=1500),
    teachers=(
        TeacherStage(
            steps=1200,
            clips=12,
            frames=96,
            loss_frames=12,
            shift=3.0,
            event_share=0.0,
            ahead=4,
        ),
    ),
    student=StudentStage(steps=300, clips=12, frames=96, loss_frames=12, ahead=4),
    probe_clips=0,
)

# A camera sees more than a simulator draws: four times the numbers per frame and four times the
# tokens. Its frames differ little from the last ones, so the model starts from those, and learns
# by imagining ahead what actions add up to (docs/log.md).
REAL = replace(
    QUICK,
    name='real',
    model=ModelConfig(
        layers=4,
        patch=1,
        latent_channels=32,
        tokenizer_width=32,
        change_std=0.15,
        reference=True,
        action_gain=32.0,
    ),
    variants=8,
    tokenizer=TokenizerStage(frames=6000, steps=6000, variation=1.0, edges=0.3),
    teachers=(
        TeacherStage(
            name='teacher_near',
            steps=1200,
            clips=6,
            frames=48,
            loss_frames=4,
            shift=3.0,
            at_noise=0.5,
            event_share=0.0,
            noisy_share=0.1,
            noise_level=0.1,
            action_noise=0.1,
            change_weight=5.0,
            rollout=10,
            rollout_share=0.9,
        ),
        TeacherStage(
            name='teacher_far',
            steps=200,
            clips=4,
            frames=192,
            loss_frames=4,
            rate=8e-4,
            shift=3.0,
            at_noise=0.5,
            event_share=0.0,
            noisy_share=0.1,
            noise_level=0.1,
            action_noise=0.1,
            change_weight=5.0,
            rollout=20,
            rollout_share=0.9,
        ),
    ),
    student=StudentStage(
        method='ode',
        steps=150,
        clips=4,
        frames=192,
        loss_frames=4,
        event_share=0.0,
        noisy_share=0.1,
        noise_level=0.1,
        action_noise=0.1,
        rate=5e-4,
        ema=0.98,
        rollout=12,
        rollout_share=0.9,
    ),
    compositor=CompositorStage(),
)

# From finished weights: a third of the steps at half the rate. Chosen, not measured. Shapes come
# from the weights, and the tokenizer's stage counts only where it is trained on.
FINE = replace(
    REAL,
    name='fine',
    tokenizer=replace(REAL.tokenizer, steps=1000, rate=1e-3),
    teachers=tuple(
        replace(stage, steps=stage.steps // 3, rate=stage.rate / 2) for stage in REAL.teachers
    ),
    student=replace(REAL.student, steps=REAL.student.steps // 2),
)


def baseline(recipe: Recipe, arm: str) -> Recipe:
    """Return the recipe of another arm of the same size.

    Every arm has the same parameters, so a baseline goes on from what `ttt` has learnt
    (`Run.start`) and has only to get used to its own memory: the first teacher and the last one,
    shortened, and the student, on windows as long as that memory has a use for, and more of them.
    """

    def shorter(stage: AnyStage, steps: int) -> AnyStage:
        clips = max(stage.clips, BASELINE_CLIPS)
        return replace(
            stage,
            steps=steps,
            clips=clips,
            frames=min(stage.frames, BASELINE_FRAMES),
            loss_frames=max(1, stage.clips * stage.loss_frames // clips),
        )

    first, last = recipe.teachers[0], recipe.teachers[-1]
    stages = [first, last] if first != last else [first]
    return replace(
        recipe.for_arm(arm),
        teachers=tuple(map(shorter, stages, BASELINE_STEPS)),
        student=shorter(recipe.student, recipe.student.steps),
    )


def real_recipe(contract: StreamContract, quick: bool = False) -> Recipe:
    """Return the recipe for one robot's bags; `quick` for a trial.

    Raises:
        ContractError: an image size that the model's tokens do not tile.
    """
    recipe = QUICK if quick else REAL
    try:
        model = replace(
            recipe.model, action_width=contract.action_width, image_size=contract.image_size
        )
    except ValueError as error:
        raise ContractError(
            f'contract {contract.name}: no model for image_size {contract.image_size} and '
            f'{contract.action_width} action entries ({error}); image sizes that fit: '
            f'{", ".join(map(str, fitting_sizes(recipe.model)))} px'
        ) from error
    return replace(recipe, name=contract.name, model=model)


def fitting_sizes(model: ModelConfig) -> list[int]:
    """Return the image sizes, px, that a model of this shape could have."""

    def fits(image_size: int) -> bool:
        try:
            replace(model, image_size=image_size)
        except ValueError:
            return False
        return True

    return [image_size for image_size in range(8, 257, 8) if fits(image_size)]


def scaled(recipe: Recipe, effort: float) -> Recipe:
    """Return the recipe with every stage's steps times `effort`, above 0: a trial, or a longer
    run. Clips that futures are imagined over are as many times more or fewer.
    """

    def steps(count: int) -> int:
        return max(1, round(count * effort))

    return replace(
        recipe,
        tokenizer=replace(recipe.tokenizer, steps=steps(recipe.tokenizer.steps)),
        teachers=tuple(replace(stage, steps=steps(stage.steps)) for stage in recipe.teachers),
        student=replace(recipe.student, steps=steps(recipe.student.steps)),
        compositor=recipe.compositor
        and replace(
            recipe.compositor,
            steps=steps(recipe.compositor.steps),
            clips=steps(recipe.compositor.clips),
        ),
    )
