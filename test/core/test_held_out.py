"""Which bags are meant, and which of them are kept apart: the same for the same names."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from wm_ros.bag import BagError
from wm_ros.bag.episodes import bytes_of, find_episodes
from wm_ros.evaluation.held_out import FILE, Split, choose, kept_split

NAMES = [f'e{i:02d}' for i in range(18)]


def test_about_a_fifth_is_held_out_evenly_spread() -> None:
    split = choose(NAMES[::-1], None)
    assert split.held_out == ('e02', 'e06', 'e11', 'e15')
    assert sorted(split.practice + split.held_out) == NAMES
    for count, held_out in ((1, 0), (2, 1), (3, 1), (7, 1), (8, 2), (10, 2)):
        assert len(choose(NAMES[:count], None).held_out) == held_out, count


def test_held_out_bags_are_counted_or_named() -> None:
    assert len(choose(NAMES, '5').held_out) == 5
    assert choose(NAMES, '0').held_out == choose(NAMES, '').held_out == ()
    assert choose(NAMES, 'e03, e01').held_out == ('e01', 'e03')
    assert choose(['4', '5', '6'], '4').held_out == ('4',)  # a bag of that name
    with pytest.raises(ValueError, match='--hold-out e99: not among the bags, which are e00'):
        choose(NAMES, 'e01,e99')
    for everything in ('18', '40', ','.join(NAMES)):
        with pytest.raises(ValueError, match='nothing is left of 18 bags'):
            choose(NAMES, everything)


def test_what_was_practised_before_is_never_held_out(tmp_path: Path) -> None:
    first = choose(NAMES, None)
    names, seen = NAMES[:10], first.practice
    assert choose(names, None).held_out == ('e02', 'e07'), 'and e07 was practised'
    assert choose(names, None, seen).held_out == ('e06',)
    assert choose(names, '2', seen).held_out == choose(names, 'e06,e02', seen).held_out
    with pytest.raises(ValueError, match='--hold-out 3: of 10 bags --from has not practised e02'):
        choose(names, '3', seen)
    with pytest.raises(ValueError, match='--hold-out e05, e07: practised already'):
        choose(names, 'e02,e07,e05', seen)
    with pytest.raises(ValueError, match='not among the bags'):
        choose(names, 'e07,x', seen)
    assert choose(names, None, NAMES) == Split(tuple(names), ()), 'nothing is left to judge by'
    new = [*NAMES, *(f'new{i}' for i in range(10))]
    assert choose(new, None, NAMES).held_out == ('new2', 'new7'), 'a fifth of the new ones'
    # A split that was kept before its origin was known to have practised some of it.
    kept_split(tmp_path, names, None, fresh=False)
    with pytest.raises(ValueError, match=r'split\.json: .* begun with held out e07: pract'):
        kept_split(tmp_path, names, None, fresh=False, seen=seen)
    assert kept_split(tmp_path, names, None, fresh=True, seen=seen).held_out == ('e06',)


def test_a_run_that_goes_on_has_the_split_it_began_with(tmp_path: Path) -> None:
    named = kept_split(tmp_path / 'run', NAMES, 'e00', fresh=False)
    assert kept_split(tmp_path / 'run', NAMES, None, fresh=False) == named
    assert kept_split(tmp_path / 'run', NAMES, 'e00', fresh=False) == named
    for names, asked in ((NAMES, 'e01'), (NAMES[:-1], None), ([*NAMES, 'e18'], None)):
        with pytest.raises(ValueError, match=r'split\.json: this run was begun with .*--fresh'):
            kept_split(tmp_path / 'run', names, asked, fresh=False)
    assert json.loads((tmp_path / 'run' / FILE).read_text())['held_out'] == ['e00']
    assert kept_split(tmp_path / 'run', NAMES, 'e01', fresh=True).held_out == ('e01',)
    assert kept_split(tmp_path / 'run', NAMES, None, fresh=False).held_out == ('e01',)
    (tmp_path / 'run' / FILE).write_text('{"practice": [')
    with pytest.raises(ValueError, match='not a split of bags'):
        kept_split(tmp_path / 'run', NAMES, None, fresh=False)
    assert kept_split(tmp_path / 'run', NAMES, None, fresh=True) == choose(NAMES, None)


def test_a_split_says_what_is_apart() -> None:
    assert str(Split(('a', 'b'), ('c',))) == '2 bags to learn from; held out: c'
    assert str(Split(('a',), ())).endswith('nothing')


def test_folders_of_bags_are_looked_into(tmp_path: Path) -> None:
    for name in ('b', 'a', '.cache'):
        (tmp_path / 'many' / name).mkdir(parents=True)
    (tmp_path / 'many' / 'c.mcap').write_bytes(b'12345')
    (tmp_path / 'many' / 'LICENSE').touch()
    one = tmp_path / 'one'
    one.mkdir()
    (one / 'metadata.yaml').write_text('x')
    (one / 'inner').mkdir()
    found = find_episodes([tmp_path / 'many', one])
    assert list(found) == ['a', 'b', 'c', 'one']
    assert found['one'] == one and found['c'].name == 'c.mcap'
    assert bytes_of({'c': found['c'], 'a': found['a']}) == {'c': 5, 'a': 0}
    assert list(find_episodes([one, one])) == ['one']  # named twice is meant once


def test_paths_without_bags_and_bags_of_one_name_are_refused(tmp_path: Path) -> None:
    for path, word in (('none', 'no bag there'), ('LICENSE', 'not a bag'), ('empty', 'no bags')):
        (tmp_path / 'empty').mkdir(exist_ok=True)
        (tmp_path / 'LICENSE').touch()
        with pytest.raises(BagError, match=f'{path}: {word}'):
            find_episodes([tmp_path / path])
    for folder in ('x', 'y'):
        (tmp_path / folder / 'episode').mkdir(parents=True)
    with pytest.raises(BagError, match='of one name cannot be told apart: .*x/episode, .*y/epis'):
        find_episodes([tmp_path / 'x', tmp_path / 'y'])
