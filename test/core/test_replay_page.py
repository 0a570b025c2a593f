"""docs/replay.md says what the code says: names, places, options, grammar, counts, files."""

from __future__ import annotations

import argparse
import re
import textwrap
from pathlib import Path

import pytest

from wm_ros import cli_degrade, cli_replay
from wm_ros.datatypes import ResetReason
from wm_ros.evaluation import fail_if, replay_figures, replay_free, replay_futures, replay_run
from wm_ros.evaluation.fail_if import ConditionError, parse
from wm_ros.evaluation.metrics import CHANGE_DILATION_PX, CHANGE_THRESHOLD, PSNR_CEILING_DB
from wm_ros.evaluation.replay_hooks import CELL_PX
from wm_ros.evaluation.replay_lags import NAMES, NEAREST
from wm_ros.evaluation.replay_page import FILM
from wm_ros.rejection import RejectReason

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / 'docs' / 'replay.md').read_text()
SECONDS = ' '.join(f'{seconds}s' for seconds in replay_free.SECONDS)
AHEAD = f'1 to {replay_futures.HORIZON}'


def part(name: str) -> str:
    """What stands between the two marks of a name."""
    (found,) = re.findall(rf'<!-- {name}:begin -->\n(.*?)<!-- {name}:end -->', PAGE, re.DOTALL)
    return str(found)


def rows(text: str) -> list[list[str]]:
    """The cells of a table without its head."""
    lines = [line for line in text.splitlines() if line.startswith('|')][2:]
    found = [[cell.strip() for cell in line.strip('|').split('|')] for line in lines]
    assert found and len({len(cells) for cells in found}) == 1 and all(map(all, found))
    return found


def places_text(metric: str) -> str:
    """The places of a metric as they have to stand on the page."""
    if metric == replay_figures.RECALL:
        return 'frames since last seen, from 25 on'
    known, words = replay_figures.places_of(metric), []
    if '' in known:
        words.append('(none)')
    if set(replay_figures.AHEAD) <= set(known):
        words.append(AHEAD)
    elif set(replay_figures.AT_MARKS) <= set(known):
        words.append(' '.join(replay_figures.AT_MARKS))
    if set(replay_figures.LATER) <= set(known):
        words.append(SECONDS)
    return ', '.join(words)


def options_of(arguments: object) -> list[str]:
    parser = argparse.ArgumentParser(add_help=False)
    arguments(parser)  # type: ignore[operator]
    return [action.option_strings[0] for action in parser._actions if action.option_strings]


def test_every_metric_is_told_with_its_places_and_pixels() -> None:
    table = rows(part('metrics'))
    assert {cells[0].strip('`') for cells in table} == set(replay_figures.KNOWN)
    assert len(table) == len(replay_figures.KNOWN)
    for name, places, over, *_ in table:
        metric = name.strip('`')
        assert places == places_text(metric), metric
        if metric != replay_figures.RECALL:
            assert (over == 'whole frame') is (metric in replay_figures.OF_ALL_PIXELS), metric


def test_the_grammar_is_that_of_the_code() -> None:
    found = re.search(r'\n\n(    CONDITION .*?)\n\n', fail_if.__doc__ or '', re.DOTALL)
    assert found is not None
    assert part('grammar') == f'```\n{textwrap.dedent(found[1])}\n```\n'
    listed = re.search(r'METRIC     (.*?)PLACE', part('grammar'), re.DOTALL)
    assert listed is not None and set(listed[1].split()) == set(replay_figures.KNOWN)
    assert all(who in part('grammar') for who in fail_if.WHO)


def test_conditions_on_the_page_can_be_read() -> None:
    conditions = re.findall(r'--fail-if "([^"]+)"', PAGE)
    assert len(conditions) >= 4
    for text in conditions:
        parse(text)
    with pytest.raises(ConditionError):
        parse('psnr@26 < copy_last')


def test_options_are_those_of_the_commands() -> None:
    table = '|' + PAGE.split('| option | what ')[1].split('\n\n')[0]
    told = [cells[0].strip('`') for cells in rows(table)]
    assert told == options_of(cli_replay.arguments)
    faults = set(options_of(cli_degrade.arguments)) - {'--out', '--contract', '--seed'}
    assert faults <= set(re.findall(r'`(--[a-z-]+)`', PAGE.split('## Bad bags')[1]))


def test_numbers_in_the_text_are_those_of_the_code() -> None:
    assert f'every {replay_futures.EVERY}th frame, from {replay_futures.SETTLED} frames' in PAGE
    assert f'| 1 to {replay_futures.HORIZON} frames |' in PAGE
    assert f'commands {replay_futures.SHIFT} frames late' in PAGE
    assert f'at most {replay_free.ANCHORS} fixed' in PAGE
    assert f'the first after {replay_free.WARM_UP_S:g} s' in PAGE
    assert f'more than {CHANGE_THRESHOLD} levels of 255' in PAGE
    assert f'{CHANGE_DILATION_PX} pixels around' in PAGE
    assert f'up to {PSNR_CEILING_DB:g}' in PAGE and f'{CELL_PX} x {CELL_PX} px' in PAGE
    last = NEAREST + replay_futures.EVERY - 1
    assert f'{NEAREST} to {last} frames ahead' in PAGE
    assert f'({", ".join(NAMES)}; upper ends' in PAGE


def test_everything_that_is_counted_is_told() -> None:
    """Words of the synchroniser, found in its text: there is no list of them."""
    told = ' '.join(cells[0] for cells in rows(part('counts')))
    source = ''.join(
        (ROOT / 'wm_ros' / f'{name}.py').read_text() for name in ('sync', 'views', 'tracks')
    )
    counted = set(re.findall(r"counts\[f?'((?:frame|view|action)\.[a-z_]+)", source))
    assert len(counted) >= 9
    notes = set(re.findall(r"(?:note =|return) '([a-z_]+)'", source))
    assert notes == {'backward', 'duplicate', 'clock_jump'}
    for name in counted | {f'action.{note}' for note in notes}:
        assert name in told, name
    named = set(re.findall(r'`((?:frame|action)\.[a-z_]+)`', told))
    assert named == {n for n in counted if not n.startswith('view')} | {
        f'action.{note}' for note in notes
    }
    assert set(re.findall(r'`(\w+)`', part('reasons'))) == {str(reason) for reason in RejectReason}
    (resets,) = [cells[1] for cells in rows(part('counts')) if 'reset.' in cells[0]]
    assert set(re.findall(r'`(\w+)`', resets)) == {str(reason) for reason in ResetReason}


def test_files_are_those_that_are_written() -> None:
    told = {cells[0].strip('`') for cells in rows(PAGE.split('## Files')[1])}
    assert told == {replay_run.METRICS, replay_run.TIMING, replay_run.REPORT, FILM}


def test_links_lead_somewhere() -> None:
    text = re.sub(r'```.*?```', '', PAGE, flags=re.DOTALL)
    headings = re.findall(r'^#+ (.*)$', text, re.MULTILINE)
    anchors = {re.sub(r'[^\w\- ]', '', heading.lower()).replace(' ', '-') for heading in headings}
    links = re.findall(r'\]\(([^)]+)\)', PAGE)
    assert links
    for link in links:
        if link.startswith('#'):
            assert link[1:] in anchors, link
        else:
            assert (ROOT / 'docs' / link).exists(), link
    for path in re.findall(r'`(test/[\w/]+\.py)`', PAGE):
        assert (ROOT / path).exists(), path


def test_figures_have_their_place() -> None:
    assert rows(part('FIGURES'))
