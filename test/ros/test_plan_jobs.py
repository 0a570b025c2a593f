"""Jobs side by side: the first failure ends the others and everything that they started."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest

from wm_ros.nodes.plan_jobs import Job, JobFailed, run_side_by_side
from wm_ros.nodes.processes import ProcessFailed


def note(path: Path) -> None:
    """Say that the job was begun."""
    path.write_text('begun')


def parent_of_sleeper(path: Path) -> None:
    """Start a child that would outlive everyone, tell its number, wait."""
    child = subprocess.Popen(['sleep', '300'])
    path.with_suffix('.part').write_text(str(child.pid))
    path.with_suffix('.part').rename(path)
    child.wait()


def fail_after(path: Path, error: Exception) -> None:
    """Fail once a file is there."""
    wait_for(path)
    raise error


def die_after(path: Path) -> None:
    """Be killed once a file is there, with a child left behind."""
    parent = subprocess.Popen(['sleep', '300'])
    path.with_name('orphan').write_text(str(parent.pid))
    wait_for(path)
    os.kill(os.getpid(), signal.SIGKILL)


def wait_for(path: Path, seconds: float = 20.0) -> None:
    """Wait until a file is there."""
    end_s = time.monotonic() + seconds
    while not path.exists():
        assert time.monotonic() < end_s, f'{path} has not come'
        time.sleep(0.05)


def is_gone(path: Path, seconds: float = 5.0) -> bool:
    """Whether the process whose number a file holds has ended, or ends soon."""
    end_s = time.monotonic() + seconds
    while time.monotonic() < end_s:
        try:
            if psutil.Process(int(path.read_text())).status() == psutil.STATUS_ZOMBIE:
                return True
        except psutil.NoSuchProcess:
            return True
        time.sleep(0.05)
    return False


def test_all_jobs_are_carried_out(tmp_path: Path) -> None:
    paths = [tmp_path / str(number) for number in range(3)]
    run_side_by_side([Job(path.name, note, (path,)) for path in paths], 2)
    assert all(path.exists() for path in paths)


def test_no_more_jobs_run_at_a_time_than_asked_for(tmp_path: Path) -> None:
    second = tmp_path / 'second'
    # The first waits for what the second would do, if it were begun beside it.
    jobs = [Job('first', wait_for, (second, 2.0)), Job('second', note, (second,))]
    with pytest.raises(JobFailed, match='(?s)first: .*second has not come'):
        run_side_by_side(jobs, 1)
    assert not second.exists()
    jobs[0] = Job('first', wait_for, (second,))
    run_side_by_side(jobs, 2)


def test_the_first_failure_ends_what_runs_and_begins_nothing_more(tmp_path: Path) -> None:
    child, late = tmp_path / 'child', tmp_path / 'late'
    jobs = [
        Job('good', parent_of_sleeper, (child,)),
        Job('bad', fail_after, (child, ProcessFailed('the planner gave up free 7'))),
        Job('late', note, (late,)),
    ]
    begun_s = time.monotonic()
    with pytest.raises(JobFailed, match='^bad: the planner gave up free 7$'):
        run_side_by_side(jobs, 2)
    assert time.monotonic() - begun_s < 30
    assert is_gone(child)
    assert not late.exists()


def test_an_unexpected_error_comes_with_its_trace(tmp_path: Path) -> None:
    (tmp_path / 'go').touch()
    jobs = [Job('odd', fail_after, (tmp_path / 'go', ZeroDivisionError('by nothing')))]
    with pytest.raises(JobFailed, match='(?s)odd: .*fail_after.*ZeroDivisionError: by nothing'):
        run_side_by_side(jobs, 2)


def test_a_job_that_is_killed_is_told_and_leaves_nothing_behind(tmp_path: Path) -> None:
    child = tmp_path / 'child'
    jobs = [Job('good', parent_of_sleeper, (child,)), Job('killed', die_after, (child,))]
    with pytest.raises(JobFailed, match='killed: ended with status -9'):
        run_side_by_side(jobs, 2)
    assert is_gone(child) and is_gone(tmp_path / 'orphan')


def sleeper_in_context(path: Path) -> None:
    """Hold a child as the nodes are held: whoever unwinds the stack kills it."""
    with subprocess.Popen(['sleep', '300']) as child:
        try:
            path.write_text(str(child.pid))
            child.wait()
        finally:
            child.kill()


@pytest.mark.parametrize('number', [signal.SIGKILL, signal.SIGTERM, signal.SIGINT])
def test_a_run_that_is_ended_leaves_no_job_behind(tmp_path: Path, number: int) -> None:
    script = tmp_path / 'script.py'
    script.write_text(
        f'import sys; sys.path[:0] = [{str(Path(__file__).parent)!r}]\n'
        'from pathlib import Path\n'
        'from test_plan_jobs import Job, run_side_by_side, sleeper_in_context\n'
        'from wm_ros.nodes.plan_jobs import ended_by_signal\n'
        'if __name__ == "__main__":\n'
        '    with ended_by_signal():\n'
        '        job = Job("job", sleeper_in_context, (Path(sys.argv[1]),))\n'
        '        run_side_by_side([job], 2)\n'
    )
    child = tmp_path / 'child'
    run = subprocess.Popen([sys.executable, str(script), str(child)], stderr=subprocess.DEVNULL)
    wait_for(child)
    time.sleep(0.2)
    run.send_signal(number)
    assert run.wait(20) != 0
    assert is_gone(child, 10.0)
