"""Reappearances on hand-made streams: exact lags, arms that pass, flicker, light, bounds."""

from __future__ import annotations

import numpy as np
import pytest

from wm_ros.evaluation.reappearance import Reappearance, Reappearances

SIZE_PX = 32
TABLE, LID, RED, BLUE = (120, 110, 100), (40, 40, 45), (220, 30, 30), (30, 30, 220)
ROW, COLUMN = 2, 1  # the cell with the box


def frame(colour: tuple[int, int, int] = LID, light: int = 0) -> np.ndarray:
    """A table with a box that fills one cell."""
    image = np.full((SIZE_PX, SIZE_PX, 3), TABLE, np.int16)
    image[8 * ROW : 8 * ROW + 8, 8 * COLUMN : 8 * COLUMN + 8] = colour
    return np.clip(image + light, 0, 255).astype(np.uint8)


def textured() -> np.ndarray:
    """A table on which every cell has a pattern of its own."""
    coarse = np.random.default_rng(0).integers(0, 256, (SIZE_PX // 4, SIZE_PX // 4, 3), np.uint8)
    return coarse.repeat(4, 0).repeat(4, 1)


def watch(
    images: list[np.ndarray], book: Reappearances | None = None, start: int = 0
) -> list[tuple[int, Reappearance]]:
    book = book or Reappearances(SIZE_PX)
    return [
        (index, found)
        for index, image in enumerate(images, start)
        for found in book.look(index, image)
    ]


@pytest.mark.parametrize('hidden_frames', [24, 25, 40, 1500])
def test_a_lid_opens_onto_a_colour_last_seen_exactly_so_long_ago(hidden_frames: int) -> None:
    images = [frame()] * 30 + [frame(RED)] * 10 + [frame()] * hidden_frames + [frame(RED)] * 10
    opened = 40 + hidden_frames
    found = watch(images)
    colours = [(index, item) for index, item in found if index == opened]
    # last seen in frame 39, and the lid itself comes back too soon in frame 40
    assert found == colours
    lag = hidden_frames + 1
    assert [item for _, item in found] == [Reappearance(ROW, COLUMN, lag, False, True)]


def test_hidden_for_less_than_the_shortest_lag_does_not_count() -> None:
    images = [frame()] * 30 + [frame(RED)] * 10 + [frame()] * 23 + [frame(RED)] * 10
    assert watch(images) == []


def test_a_glimpse_counts_as_seen() -> None:
    hidden = [frame()] * 40
    images = [frame(RED)] * 10 + hidden + [frame(RED)] * 2 + hidden + [frame(RED)] * 5
    assert [(index, item.lag) for index, item in watch(images)] == [(50, 41), (92, 41)]


def test_what_was_never_stable_or_never_there_is_not_remembered() -> None:
    for shown in (4, 0):
        images = [frame()] * 30 + [frame(RED)] * shown + [frame()] * 40 + [frame(RED)] * 10
        assert watch(images) == []
    assert watch([frame()] * 40 + [frame((0, 0, 0))] * 10) == []  # what an empty place would hold
    another = [frame(RED)] * 10 + [frame()] * 40 + [frame(BLUE)] * 10
    assert watch(another) == []


def test_flicker_is_no_memory() -> None:
    assert watch([frame(RED if index % 2 else BLUE) for index in range(200)]) == []
    assert watch([frame(RED if index // 6 % 2 else BLUE) for index in range(200)]) == []


def test_light_that_drifts_changes_nothing_and_is_followed() -> None:
    """0.25 levels a frame, 50 in all: no cell comes back, but the lid still opens onto red."""
    light = [round(0.25 * index) for index in range(201)]
    assert watch([frame(RED, level) for level in light]) == []
    closed = [frame(LID, 50)] * 60
    images = [frame(RED, level) for level in light] + closed + [frame(RED, 50)] * 5
    assert [item.lag for _, item in watch(images)] == [61]
    as_at_first = [frame(RED, level) for level in light] + closed + [frame(RED, 0)] * 5
    assert not [item for _, item in watch(as_at_first) if (item.row, item.column) == (ROW, COLUMN)]


def test_shades_of_one_appearance_take_one_place() -> None:
    light = [round(0.25 * abs(index - 100)) for index in range(201)]
    book = Reappearances(SIZE_PX, remembered=2)
    images = [frame(BLUE, 25)] * 6 + [frame(RED, level) for level in light] + [frame(BLUE, 25)] * 2
    assert [(item.lag, item.common) for _, item in watch(images, book)] == [(202, False)]


def test_an_appearance_is_kept_as_it_was_last_seen() -> None:
    images = [frame(RED)] * 10 + [frame()] * 40
    images += [frame(RED, 5)] * 10 + [frame(LID, 5)] * 40 + [frame(RED, 10)] * 5
    found = [(index, item.lag) for index, item in watch(images) if item.row == ROW]
    assert found == [(50, 41), (100, 41)]


def test_what_creeps_over_a_cell_is_not_taken_for_light() -> None:
    """68 levels in 20 frames: each step is small, the whole is another appearance."""
    red, lid = np.array(RED), np.array(LID)
    steps = [frame(tuple(np.rint(red + (lid - red) * k / 20).astype(int))) for k in range(21)]
    [(index, item)] = watch([frame(RED)] * 20 + steps + [frame()] * 30 + [frame(RED)] * 5)
    assert index == 71 and 48 <= item.lag <= 52 and item.distinct


def test_noise_hides_nothing() -> None:
    rng = np.random.default_rng(0)
    clean = [frame(RED)] * 20 + [frame()] * 60 + [frame(RED)] * 20
    noisy = [
        np.clip(image + np.rint(rng.normal(0, 3, image.shape)), 0, 255).astype(np.uint8)
        for image in clean
    ]
    assert [(index, item.lag) for index, item in watch(noisy)] == [(80, 61)]


def test_an_arm_that_passes_and_rests_gives_back_what_is_common() -> None:
    table = textured()
    covered = table.copy()
    covered[:, 8:16] = 200
    images = [table] * 50 + [covered] * 30 + [table] * 10
    found = watch(images)
    assert [(item.row, item.column) for _, item in found] == [(row, 1) for row in range(4)]
    assert all(item.common and item.lag == 31 and index == 80 for index, item in found)
    passing = [table] * 50 + [covered] * 10 + [table] * 50 + [covered] * 10 + [table] * 10
    for index, item in watch(passing):  # the arm came back: by itself, not the table behind it
        assert index == 110 and not item.common


def test_a_bare_table_is_not_distinct() -> None:
    bare = frame(TABLE)
    covered = bare.copy()
    covered[8:16, 8:16] = 200
    [(index, item)] = watch([bare] * 50 + [covered] * 30 + [bare] * 5)
    assert (index, item) == (80, Reappearance(1, 1, 31, True, False))


def test_what_moves_in_from_nearby_is_not_distinct() -> None:
    """A patterned block comes back into its cell, 4 px a frame: the last frame shows it."""
    pattern = textured()[:8, :8]

    def at(x_px: int) -> np.ndarray:
        image = frame(TABLE)
        image[8:16, x_px : x_px + 8] = pattern
        return image

    away = [at(x_px) for x_px in range(8, 25, 4)]
    found = watch([at(8)] * 20 + away + [at(24)] * 40 + away[::-1] + [at(8)] * 5)
    block = [item for _, item in found if (item.row, item.column) == (1, 1)]
    assert block and not any(item.distinct for item in block)
    # the same block, back at once
    sudden = watch([at(8)] * 20 + [frame(TABLE)] * 40 + [at(8)] * 5)
    assert [item for _, item in sudden] == [Reappearance(1, 1, 41, False, True)]


def test_a_slow_change_is_not_a_reappearance() -> None:
    """Back to red in steps below what counts as a change."""
    red, lid = np.array(RED), np.array(LID)
    steps = [frame(tuple(np.rint(lid + (red - lid) * k / 10).astype(int))) for k in range(11)]
    assert watch([frame(RED)] * 20 + [frame()] * 40 + steps + [frame(RED)] * 10) == []


def test_only_the_most_recent_appearances_are_kept() -> None:
    colours = [(20 * k, 255 - 20 * k, 128) for k in range(1, 8)]
    seen = [image for colour in colours for image in [frame(colour)] * 6]

    def lags_of_red(remembered: int) -> list[int]:
        book = Reappearances(SIZE_PX, remembered=remembered)
        return [item.lag for _, item in watch([frame(RED)] * 6 + seen + [frame(RED)] * 3, book)]

    assert lags_of_red(8) == [43]
    assert lags_of_red(7) == []


def test_appearances_that_look_the_same_are_one() -> None:
    """Two shades of red take one place of two, so blue is still there."""
    redder = (224, 33, 27)
    images = [frame(BLUE)] * 6
    for _ in range(5):
        images += [frame(RED)] * 6 + [frame((150, 150, 150))] * 1 + [frame(redder)] * 6
    images += [frame(BLUE)] * 2
    found = watch(images, Reappearances(SIZE_PX, remembered=2))
    assert [(item.lag, item.common) for _, item in found] == [(66, False)]


def test_what_takes_the_place_of_another_counts_from_nothing() -> None:
    green = (30, 200, 30)
    images = [frame(RED)] * 100 + [frame(BLUE)] * 30 + [frame(green)] * 10
    images += [frame(BLUE)] * 30 + [frame(green)] * 2
    book = Reappearances(SIZE_PX, remembered=2)
    assert [(item.lag, item.common) for _, item in watch(images, book)] == [(31, False)]


def test_reset_forgets() -> None:
    book = Reappearances(SIZE_PX)
    assert watch([frame(RED)] * 10 + [frame()] * 40, book) == []
    book.reset()
    assert watch([frame()] * 10 + [frame(RED)] * 10, book) == []


def test_lags_are_counted_in_the_indices_given() -> None:
    book = Reappearances(SIZE_PX)
    watch([frame(RED)] * 10 + [frame()] * 10, book)
    assert [item.lag for item in book.look(500, frame(RED))] == [491]


def test_refusals() -> None:
    book = Reappearances(SIZE_PX)
    book.look(3, frame())
    with pytest.raises(ValueError, match='frame 3 after frame 3'):
        book.look(3, frame())
    with pytest.raises(ValueError, match=r'expected uint8 \(32, 32, 3\)'):
        book.look(4, frame().astype(np.float32))
    with pytest.raises(ValueError, match=r'expected uint8 \(32, 32, 3\)'):
        book.look(4, frame()[:16])
    with pytest.raises(ValueError, match='cells of 7 px'):
        Reappearances(SIZE_PX, cell_px=7)
    with pytest.raises(ValueError, match='remembered 0'):
        Reappearances(SIZE_PX, remembered=0)
