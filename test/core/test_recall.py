"""The recall protocol: constructed models with known memories get the scores they must get."""

from dataclasses import replace

import numpy as np
import pytest

from wm_ros.datatypes import MemoryState, Rollout
from wm_ros.evaluation import recall
from wm_ros.evaluation.clips import Direction, RecallCase, RecallClip, Version, render_clip
from wm_ros.sim.config import SimConfig
from wm_ros.sim.episodes import plan_episode, twin
from wm_ros.sim.scene import FACTS, PALETTE, TableTop

SIZE, LENGTH = 8, 40
COLOURS = np.array([(250, 0, 0), (0, 250, 0), (0, 0, 250)], np.uint8)
BOXES = (slice(0, 2), slice(4, 6))  # rows of the picture that box 0 and box 1 cover


def world(colours: tuple[int, int], opened_TA: np.ndarray) -> np.ndarray:
    """Frames of two boxes that show their colour in the frame after they are commanded open."""
    frames = np.full((LENGTH, SIZE, SIZE, 3), 90, np.uint8)
    for t in range(1, LENGTH):
        for box in (0, 1):
            if opened_TA[t - 1, box] > 0:
                frames[t, BOXES[box]] = COLOURS[colours[box]]
    return frames


@pytest.fixture(scope='module')
def clip() -> RecallClip:
    """Both boxes are opened once early; box 0 again after 17 frames, box 1 after 25."""
    opened = np.full((LENGTH, 2), -1, np.float32)
    opened[[2, 20], 0] = 1
    opened[[5, 30], 1] = 1
    base, other = world((0, 2), opened), world((2, 0), opened)
    differs = tuple(int(t) for t in np.flatnonzero((base != other).any((1, 2, 3))))
    assert differs == (3, 6, 21, 31)
    cases = []
    for box, shown, same in ((0, 21, 14), (1, 31, 9)):
        directions = []
        for version, colours in enumerate(((0, 2), (2, 0))):
            candidates = []
            for colour in range(3):
                changed = (colour, colours[1]) if box == 0 else (colours[0], colour)
                candidates.append(world(changed, opened)[shown])
            truth = (base, other)[version][shown]
            directions.append(Direction(version, truth, np.stack(candidates), colours[box]))
        cases.append(
            RecallCase(
                f'box_{box}',
                f'box_{1 - box}',
                shown - (3, 6)[box],
                shown - 1,
                shown,
                same,
                *directions,
            )
        )
    twins = (Version(differs, other[list(differs)]),)
    return RecallClip('boxes', 0, base, opened, twins, tuple(cases))


class Painter:
    """A model of the two boxes that remembers the colours seen in the last `reach` frames.

    What it has forgotten it paints in `guess`; `mix` blends what it remembers with that.
    """

    def __init__(self, reach: int, guess: int | np.ndarray = 128, mix: float = 0.0) -> None:
        self.reach, self.guess, self.mix = reach, guess, mix

    def encode(self, images: np.ndarray) -> np.ndarray:
        return images.transpose(0, 3, 1, 2).astype(np.float32)

    def decode(self, latents: np.ndarray) -> np.ndarray:
        return latents.transpose(0, 2, 3, 1).round().astype(np.uint8)

    def reset(self, batch: int = 1) -> MemoryState:
        return MemoryState(
            {
                'colour': np.full((batch, 2, 3), np.nan, np.float32),
                'age': np.full((batch, 2), 1e6, np.float32),
            }
        )

    def observe_latent(
        self, memory: MemoryState, latent: np.ndarray, action: np.ndarray
    ) -> MemoryState:
        colour, age = memory.arrays['colour'].copy(), memory.arrays['age'] + 1
        for row in range(len(latent)):
            for box in (0, 1):
                seen = latent[row, :, BOXES[box].start, 0]
                if (seen != 90).any():
                    assert action[row, box] == 1  # shown by the command that led to this frame
                    colour[row, box], age[row, box] = seen, 1
        return MemoryState({'colour': colour, 'age': age})

    def noise(self, rng: np.random.Generator, batch: int = 1, horizon: int = 1) -> np.ndarray:
        return rng.standard_normal((batch, horizon, 1, 3, SIZE, SIZE), np.float32)

    def imagine(
        self, memory: MemoryState, actions: np.ndarray, noise: np.ndarray, *, decode: bool = True
    ) -> Rollout:
        batch, horizon = actions.shape[:2]
        assert np.array_equal(noise[0], noise[1])  # both twins get the same
        frames = np.full((batch, horizon, 3, SIZE, SIZE), 90, np.float32)
        for row, t, box in np.ndindex(batch, horizon, 2):
            if actions[row, t, box] > 0:
                known = memory.arrays['age'][row, box] <= self.reach
                colour = memory.arrays['colour'][row, box] if known else np.full(3, self.guess)
                colour = (1 - self.mix) * colour + self.mix * self.guess
                frames[row, t, :, BOXES[box]] = colour[:, None, None]
        return Rollout(frames, memory)


def run(subject: Painter, clip: RecallClip, **options: object) -> list[recall.RecallOutcome]:
    latents = recall.encode_clip(subject, clip)
    return recall.run_clip(subject, clip, latents, **options)  # type: ignore[arg-type]


def test_twin_latents_differ_only_where_frames_do(clip: RecallClip) -> None:
    latents = recall.encode_clip(Painter(100), clip)
    assert latents.shape == (2, LENGTH, 3, SIZE, SIZE)
    assert tuple(np.flatnonzero((latents[0] != latents[1]).any((1, 2, 3)))) == (3, 6, 21, 31)


def test_perfect_memory_scores_one_and_finds_the_colour(clip: RecallClip) -> None:
    outcomes = run(Painter(100), clip, keep_pictures=True)
    assert [outcome.lag for outcome in outcomes] == [18, 25]
    for outcome in outcomes:
        assert outcome.choices == (1.0, 1.0) and outcome.identified == (1.0, 1.0)
        assert outcome.commit_errors == (0.0, 0.0) and not outcome.blind
        assert np.array_equal(outcome.pictures[0], outcome.pictures[2])


def test_no_memory_scores_exactly_half_whatever_it_paints(clip: RecallClip) -> None:
    for guess in (0, 1, 128, 200, 255):
        for outcome in run(Painter(2, guess), clip, reach_frames=2):
            assert outcome.score == 0.5 and outcome.blind and outcome.gap == 0


def test_a_window_is_right_inside_its_length_and_exactly_half_beyond(clip: RecallClip) -> None:
    near, far = run(Painter(19), clip, reach_frames=19)
    # box 0 was last seen 18 frames before the last observed one, box 1 25 frames: beyond 19
    assert near.score == 1.0 and not near.blind
    assert far.score == 0.5


def test_a_blurred_memory_gains_nothing_in_identification(clip: RecallClip) -> None:
    sure, unsure = run(Painter(100, mix=0.2), clip)[0], run(Painter(100, mix=0.9), clip)[0]
    assert sure.commit_errors[0] < sure.half_palettes[0]
    assert unsure.commit_errors[0] > unsure.half_palettes[0]
    assert run(Painter(100, mix=1.0), clip)[0].score == 0.5


def test_a_model_that_knows_more_than_it_can_is_a_leak(clip: RecallClip) -> None:
    with pytest.raises(recall.LeakError, match=r'box_0 at lag 18 scored 1\.0'):
        run(Painter(100), clip, reach_frames=2)
    with pytest.raises(recall.LeakError, match=r'scored 0\.0'):
        run(Swapped(100), clip, reach_frames=2)


def test_a_leak_too_faint_to_change_a_choice_is_one_too(clip: RecallClip) -> None:
    faint = Painter(100, guess=np.asarray(COLOURS[0]), mix=0.9)
    outcome = run(faint, clip)[0]
    assert outcome.choices == (1.0, 0.0) and outcome.gap > 0
    with pytest.raises(recall.LeakError, match=rf'by predictions {outcome.gap} levels'):
        run(faint, clip, reach_frames=2)


class Swapped(Painter):
    """Knows, and says the opposite: as much a leak as the truth."""

    def imagine(
        self, memory: MemoryState, actions: np.ndarray, noise: np.ndarray, *, decode: bool = True
    ) -> Rollout:
        return super().imagine(
            MemoryState({name: array[::-1] for name, array in memory.arrays.items()}),
            actions,
            noise,
        )


def test_the_scored_frame_itself_is_never_observed(clip: RecallClip) -> None:
    frames = clip.frames_THWC.copy()
    frames[21:] = COLOURS[1]  # were it observed, box 0 would be remembered in this colour
    only = replace(clip, frames_THWC=frames, cases=clip.cases[:1])
    assert run(Painter(100), only)[0].score == 1.0


@pytest.fixture(scope='module')
def rendered() -> tuple[RecallClip, list[np.ndarray]]:
    """A real clip up to lag 128 and, rendered in full and apart, the twin of its two tests."""
    plan = plan_episode('cup', 10_000_003)
    table = TableTop(SimConfig())
    try:
        clip = render_clip(plan, table, (48, 128))
        apart = twin(plan, plan.tests[0].fact, plan.tests[0].partner)
        table.reset(apart.layout)
        frames = []
        for t in range(len(clip.frames_THWC)):
            frames.append(table.render())
            table.step(apart.actions_TA[t])
        with pytest.raises(ValueError, match='no test at lags'):
            render_clip(plan, table, (7,))
    finally:
        table.close()
    return clip, frames


def test_rendered_twin_equals_the_twin_played_apart(
    rendered: tuple[RecallClip, list[np.ndarray]],
) -> None:
    clip, apart = rendered
    frames = clip.frames_THWC.copy()
    frames[list(clip.twins[0].frames_N)] = clip.twins[0].images_NHWC
    assert np.array_equal(frames, np.stack(apart))


def test_rendered_cases_keep_the_protocol(rendered: tuple[RecallClip, list[np.ndarray]]) -> None:
    clip, _ = rendered
    assert [case.lag for case in clip.cases] == [48, 128]
    assert np.abs(clip.actions_TA).max() <= 1 and clip.actions_TA.shape == (
        len(clip.frames_THWC),
        11,
    )
    for case in clip.cases:
        assert 0 < case.scored_frame - case.hidden_frame <= 12
        assert case.same_frames >= 45
        differing = [t for t in clip.twins[0].frames_N if t <= case.hidden_frame]
        assert case.hidden_frame - max(differing) == case.same_frames
        assert {case.fact, case.partner} <= set(FACTS)
        assert len(case.base.candidates_KHWC) == len(PALETTE)
        assert np.array_equal(case.base.candidates_KHWC[case.base.colour], case.base.truth_HWC)
        assert np.array_equal(case.twin.candidates_KHWC[case.twin.colour], case.twin.truth_HWC)
        assert case.base.colour != case.twin.colour


def test_clips_take_the_kinds_in_turn_from_fresh_seeds() -> None:
    names = recall.clip_names(10_000_000, 7)
    assert names[:4] == [
        ('cup', 10_000_000),
        ('drawer', 10_000_000),
        ('view', 10_000_000),
        ('cup', 10_000_001),
    ]
    assert len(set(names)) == 7
