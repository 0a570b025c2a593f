"""Episodes: repeatable, dense in reveals, balanced in questions; twins differ in two colours."""

from collections import Counter

import numpy as np
import pytest

from wm_ros.config import SimNodeConfig
from wm_ros.sim.episodes import KINDS, EpisodePlan, plan_episode, play, twin
from wm_ros.sim.recall import CLIP_FRAMES, FIRST_FACT, LAGS, assign
from wm_ros.sim.scene import ACTION_LIMITS, FACTS, PALETTE, TableTop

RECALL_KINDS = tuple(FIRST_FACT)


@pytest.fixture(scope='module')
def clips() -> dict[tuple[str, int], EpisodePlan]:
    """Plan a few recall clips of every kind, once for all tests."""
    return {(kind, seed): plan_episode(kind, seed) for kind in RECALL_KINDS for seed in (0, 1, 57)}


@pytest.mark.parametrize('kind', KINDS)
def test_the_same_seed_gives_the_same_plan_and_another_seed_another(kind: str) -> None:
    one, two, other = plan_episode(kind, 5), plan_episode(kind, 5), plan_episode(kind, 6)
    assert one.actions_TA.tobytes() == two.actions_TA.tobytes()
    assert (one.layout, one.reveals, one.tests) == (two.layout, two.reveals, two.tests)
    assert one.actions_TA.tobytes() != other.actions_TA.tobytes()


def test_the_simulators_node_takes_every_kind() -> None:
    assert [SimNodeConfig(kind=kind).kind for kind in KINDS] == list(KINDS)


@pytest.mark.parametrize('kind', KINDS)
def test_actions_stay_within_their_limits_and_the_arm_is_busy(kind: str) -> None:
    plan = plan_episode(kind, 7)
    lows, highs = np.array(ACTION_LIMITS, np.float32).T
    assert (plan.actions_TA >= lows).all()
    assert (plan.actions_TA <= highs).all()
    still_T = (np.diff(plan.actions_TA[:, :3], axis=0) == 0).all(axis=1)
    assert still_T.mean() < 0.35


def test_practice_is_dense_covers_all_facts_and_all_lags() -> None:
    plans = [plan_episode('practice', seed) for seed in range(12)]
    for plan in plans:
        assert plan.frames == 2000
        assert len(plan.reveals) >= 0.025 * plan.frames
        assert {reveal.fact for reveal in plan.reveals} == set(FACTS)
    lags = np.array([reveal.lag for plan in plans for reveal in plan.reveals if reveal.lag])
    counts, _ = np.histogram(lags, [1, 20, 48, 128, 250, 500, 1000, 1600])
    assert (counts >= 5).all(), counts
    facts = Counter(reveal.fact for plan in plans for reveal in plan.reveals)
    assert min(facts.values()) > 0.4 * max(facts.values()), facts
    colours = Counter(colour for plan in plans for colour in plan.layout.colours)
    assert set(colours) == set(range(len(PALETTE)))


def test_a_practice_clip_can_have_any_length() -> None:
    for frames in (1, 37, 1234):
        plan = plan_episode('practice', 1, frames)
        assert plan.actions_TA.shape == (frames, 11)
        assert plan.visible_TF.shape == (frames, 7)


def test_unknown_kinds_and_lengths_are_refused() -> None:
    with pytest.raises(ValueError, match="'juggle': expected one of free"):
        plan_episode('juggle', 0)
    with pytest.raises(ValueError, match='1650 frames, 100 asked'):
        plan_episode('cup', 0, 100)
    with pytest.raises(ValueError, match='expected 1 or more'):
        plan_episode('free', 0, 0)


def test_push_moves_the_block_and_opens_nothing() -> None:
    plan = plan_episode('push', 2, 500)
    assert not plan.visible_TF.any()
    with TableTop() as table:
        places = []
        for frame in play(plan, table, range(0, 500, 25), truth=True):
            assert frame.truth is not None
            places.append((frame.truth.state.block_x_m, frame.truth.state.block_y_m))
    assert np.ptp(places, axis=0).max() > 0.02
    assert len(set(places)) > 5


def test_recall_clips_ask_after_the_exact_lags(clips: dict[tuple[str, int], EpisodePlan]) -> None:
    for plan in clips.values():
        assert plan.frames == CLIP_FRAMES
        assert tuple(test.lag for test in plan.tests) == LAGS
        for test in plan.tests:
            fact, partner = FACTS.index(test.fact), FACTS.index(test.partner)
            reveal = test.hidden_frame + 1
            assert plan.visible_TF[reveal, fact]
            assert plan.visible_TF[reveal - test.lag, fact]
            assert not plan.visible_TF[reveal - test.lag + 1:reveal, fact].any()
            assert not plan.visible_TF[reveal - 45:test.scored_frame + 1, partner].any()
            assert 0 < test.scored_frame - test.hidden_frame <= 12
            assert plan.layout.colours[fact] != plan.layout.colours[partner]


def test_recall_clips_open_with_every_fact_and_stay_busy(
        clips: dict[tuple[str, int], EpisodePlan]) -> None:
    for plan in clips.values():
        opening = [reveal for reveal in plan.reveals if reveal.lag is None]
        assert {reveal.fact for reveal in opening} == set(FACTS)
        assert plan.reveals[:7] == tuple(opening)
        assert opening[-1].frame_first_visible < 150
        assert len(plan.reveals) > 35


def test_partners_are_mutual_so_three_twins_serve_six_tests(
        clips: dict[tuple[str, int], EpisodePlan]) -> None:
    for plan in clips.values():
        pairs = {frozenset((test.fact, test.partner)) for test in plan.tests}
        assert len(pairs) == 3
        asked = {test.lag: test for test in plan.tests}
        for one, two in ((48, 128), (250, 500), (1000, 1500)):
            assert asked[one].partner == asked[two].fact


@pytest.mark.parametrize('kind', RECALL_KINDS)
@pytest.mark.parametrize('start', [0, 42 * 17])
def test_facts_and_colours_are_balanced_per_lag(kind: str, start: int) -> None:
    facts: Counter[tuple[int, str]] = Counter()
    colours: Counter[tuple[int, int]] = Counter()
    for seed in range(start, start + 42):
        who = assign(kind, seed)
        assert {*who.facts, who.spare} == set(FACTS)
        for lag, fact in zip(LAGS, who.facts, strict=True):
            facts[lag, fact] += 1
            colours[lag, who.colours[FACTS.index(fact)]] += 1
            assert who.colours[FACTS.index(fact)] != who.colours[FACTS.index(who.partner(fact))]
    assert set(facts.values()) == {6}
    assert len(facts) == len(LAGS) * len(FACTS)
    assert set(colours.values()) == {7}
    assert len(colours) == len(LAGS) * len(PALETTE)


def test_a_plan_uses_its_assignment(clips: dict[tuple[str, int], EpisodePlan]) -> None:
    for (kind, seed), plan in clips.items():
        who = assign(kind, seed)
        assert plan.layout.colours == who.colours
        assert tuple(test.fact for test in plan.tests) == who.facts
    assert {assign(kind, 0).facts[0] for kind in RECALL_KINDS} == {'cup_0', 'drawer', 'view_left'}


def test_twins_differ_only_where_one_of_the_two_facts_shows(
        clips: dict[tuple[str, int], EpisodePlan]) -> None:
    plan = clips['drawer', 1]
    test = plan.tests[2]
    other = twin(plan, test.fact, test.partner)
    assert other.actions_TA is plan.actions_TA
    pair = [FACTS.index(test.fact), FACTS.index(test.partner)]
    end = test.scored_frame + 15
    shown = set(np.flatnonzero(plan.visible_TF[:end, pair].any(axis=1)).tolist())
    with TableTop() as table:
        ours = [frame.image_HWC for frame in play(plan, table, slice(0, end))]
        theirs = [frame.image_HWC for frame in play(other, table, slice(0, end))]
        sparse = {frame.index: frame.image_HWC for frame in play(other, table, shown)}
    different = {index for index in range(end) if not np.array_equal(ours[index], theirs[index])}
    assert different == shown
    assert set(sparse) == shown
    assert all(np.array_equal(sparse[index], theirs[index]) for index in shown)
    assert test.hidden_frame not in different
    scored = (ours[test.scored_frame] != theirs[test.scored_frame]).any(axis=2)
    assert scored.sum() >= 205


def test_playing_some_frames_gives_the_frames_of_playing_all() -> None:
    plan = plan_episode('practice', 9, 120)
    with TableTop() as table:
        everything = list(play(plan, table))
        some = list(play(plan, table, slice(30, 90, 7)))
        with pytest.raises(ValueError, match='asked of a plan of 120'):
            list(play(plan, table, [5, 120]))
    assert [frame.index for frame in some] == list(range(30, 90, 7))
    for frame in some:
        np.testing.assert_array_equal(frame.image_HWC, everything[frame.index].image_HWC)
        np.testing.assert_array_equal(frame.action_A, plan.actions_TA[frame.index])
