"""Which bags weights have practised: known by content, kept beside them, handed on."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
from replay_bags import write_bag

from wm_ros.evaluation.practised import FILE, Practised, fingerprint, keep, practised_of, read


def test_a_bag_is_known_under_another_name_and_not_by_its_name(tmp_path: Path) -> None:
    bag, longer = write_bag(tmp_path / 'bag', 3), write_bag(tmp_path / 'longer', 4)
    mark = fingerprint(bag)
    assert len(mark) == 32 and mark != fingerprint(longer)
    shutil.copytree(bag, tmp_path / 'copy')
    (tmp_path / 'copy' / 'bag_0.mcap').rename(tmp_path / 'copy' / 'copy_0.mcap')
    (tmp_path / 'copy' / 'metadata.yaml').write_text('another')
    (tmp_path / 'copy' / 'bag_0.mcap.damaged').write_text('left by a recovery')
    (tmp_path / 'copy' / 'faults.json').write_text('{}')
    assert fingerprint(tmp_path / 'copy') == fingerprint(tmp_path / 'copy' / 'copy_0.mcap') == mark
    seen = practised_of([bag])
    assert seen.among({'copy': tmp_path / 'copy', 'bag': longer}) == {'copy': 'bag'}


def test_what_an_origin_has_practised_is_handed_on(tmp_path: Path) -> None:
    bags = [write_bag(tmp_path / name, frames) for name, frames in (('a', 3), ('b', 4), ('c', 5))]
    keep(tmp_path / 'first', practised_of(bags[:1]))
    keep(tmp_path / 'second', practised_of(bags[1:2], tmp_path / 'first'))
    second = read(tmp_path / 'second')
    assert sorted(second.bags.values()) == ['a', 'b'] and second.complete
    assert second == practised_of(bags[:2])
    # Who goes on from weights that do not say does not know either, and nor does the next.
    (tmp_path / 'older').mkdir()
    keep(tmp_path / 'third', practised_of(bags[2:], tmp_path / 'older'))
    third = practised_of(bags[:1], tmp_path / 'third')
    assert sorted(third.bags.values()) == ['a', 'c'] and not third.complete


def test_what_is_said_of_held_out_bags() -> None:
    def said(practised: Practised, *held_out: str) -> str:
        return ' '.join(practised.notes('mine', held_out))

    assert said(Practised()) == ''
    assert said(Practised(), 'a') == 'mine was trained on no recorded bags.'
    assert said(Practised({'1': 'x'}), 'b').startswith('mine has practised 1 bag(s), none of')
    assert 'a: held out, and called as a bag that mine' in said(Practised({'1': 'a'}), 'a', 'b')
    assert said(Practised({'1': 'x'}, complete=False), 'a').startswith('Unknown: mine does not')


@pytest.mark.parametrize('text', ['{', '[]', '{"format": 2}', '{"format": 1, "bags": [1]}'])
def test_a_record_that_makes_no_sense_is_refused(tmp_path: Path, text: str) -> None:
    (tmp_path / FILE).write_text(text)
    with pytest.raises(ValueError, match=r'practice\.json: not a list of bags'):
        read(tmp_path)
