"""Where a figure was taken: the commit that is told, and when it is called dirty."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from wm_ros.evaluation import machine


def test_a_commit_is_dirty_by_what_the_work_itself_does_not_write(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(machine, 'REPOSITORY', tmp_path)
    assert machine.commit() == 'unknown'

    def git(*arguments: str) -> None:
        settings = ('-c', 'user.name=x', '-c', 'user.email=x')
        subprocess.run(['git', '-C', str(tmp_path), *settings, *arguments], check=True)

    code, made = tmp_path / 'code.py', tmp_path / 'made' / 'weights.pt'
    made.parent.mkdir()
    for path in (code, made):
        path.write_text('before')
    git('init', '-q')
    git('add', '.')
    git('commit', '-q', '-m', 'first')
    clean = machine.commit()
    assert len(clean) == 12
    (tmp_path / 'untracked').touch()
    made.write_text('after')
    assert machine.commit() == f'{clean}-dirty'
    assert machine.commit(besides=('made',)) == clean
    code.write_text('after')
    assert machine.commit(besides=('made',)) == f'{clean}-dirty'
