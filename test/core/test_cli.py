"""The command line: what it prints, its exit codes, and one clear line instead of a traceback."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

from wm_ros import cli
from wm_ros.bag import BagRecorder, bag_info
from wm_ros.bag.stream import action_bytes
from wm_ros.contract import StreamContract, find_contract
from wm_ros.sources import ACTION

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture
def bag(tmp_path: Path) -> Path:
    with BagRecorder(tmp_path / 'bag') as recorder:
        for i in range(40):
            recorder.write('/command', ACTION, action_bytes([i], i + 1), i * 100_000_000)
    return tmp_path / 'bag'


def test_bag_info_lists_topics(bag: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(['bag', 'info', str(bag)]) == 0
    out = capsys.readouterr().out
    assert '40 messages in 3.900 s' in out
    assert '/command  wm_ros_msgs/msg/Action  40 messages, 10.00 Hz' in out


def test_bag_recover_says_what_was_lost(bag: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(['bag', 'recover', str(bag)]) == 0
    out = capsys.readouterr().out
    assert 'was complete, 40 messages' in out and 'as it was found' not in out
    path = bag / 'bag_0.mcap'
    data = path.read_bytes()
    path.write_bytes(data[: len(data) // 2])
    assert cli.main(['bag', 'info', str(bag)]) == 1
    assert f'wm bag recover {bag}' in capsys.readouterr().err
    assert cli.main(['bag', 'recover', str(bag)]) == 0
    out = capsys.readouterr().out
    kept = bag_info(bag).messages
    assert 0 < kept < 40
    assert f'kept {kept} messages' in out
    assert f'of {len(data) // 2} bytes' in out
    damaged = bag / 'bag_0.mcap.damaged'
    assert f'the file as it was found: {damaged}\n' in out
    assert damaged.read_bytes() == data[: len(data) // 2]


def test_bag_steps_and_contract_check(bag: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(['contract', 'check', 'g1_bottle']) == 0
    assert '30 Hz, 64 px, 26 action entries' in capsys.readouterr().out
    assert cli.main(['bag', 'steps', str(bag), '--contract', 'tabletop']) == 1
    assert f'bag {bag} has no topic /camera/image_raw' in capsys.readouterr().err


@pytest.mark.parametrize(
    ('arguments', 'words'),
    [
        (['bag', 'info', 'nowhere'], 'no bag at nowhere'),
        (['bag', 'recover', 'nowhere'], 'nowhere holds 0 .mcap files'),
        (['contract', 'check', 'nowhere'], "no contract 'nowhere'"),
        (['sim', 'nosuch', '--out', 'unused'], "episode kind 'nosuch'"),
    ],
)
def test_user_errors_are_one_line(
    arguments: list[str], words: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert cli.main(arguments) == 1
    out, err = capsys.readouterr()
    assert out == ''
    assert err.startswith('wm: error: ')
    assert words in err
    assert err.count('\n') == 1
    with pytest.raises((ValueError, OSError), match=re.escape(words)):
        cli.main(['--traceback', *arguments])


@pytest.mark.parametrize('arguments', [[], ['bag'], ['nosuch'], ['sim', 'practice']])
def test_wrong_usage_exits_with_2(arguments: list[str]) -> None:
    with pytest.raises(SystemExit) as stop:
        cli.main(arguments)
    assert stop.value.code == 2


def test_inspect_refuses_what_is_no_package(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    nowhere = tmp_path / 'nowhere'
    for place, reason in (
        (tmp_path, f'refused {tmp_path}: no manifest.json'),
        (nowhere, f"refused no model package '{nowhere}'"),
    ):
        assert cli.main(['inspect', str(place)]) == 1
        assert capsys.readouterr().out.startswith(reason)


def test_help_needs_none_of_the_extras() -> None:
    code = (
        'import sys; from wm_ros import cli\n'
        'try: cli.main(["--help"])\n'
        'except SystemExit: pass\n'
        'heavy = {"numpy", "mujoco", "onnxruntime", "openvino", "rclpy", "torch"}\n'
        'sys.exit(" ".join(heavy & set(sys.modules)) or 0)'
    )
    done = subprocess.run(
        [sys.executable, '-c', code], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert 'bag' in done.stdout


def test_sim_plays_an_episode_into_a_bag(tmp_path: Path) -> None:
    from wm_ros.bag import iter_steps
    from wm_ros.sim.episodes import plan_episode

    out = tmp_path / 'sim'
    arguments = ['sim', 'practice', '--seed', '3', '--frames', '40', '--out', str(out)]
    assert cli.main(arguments) == 0
    contract = StreamContract.load(find_contract('tabletop'))
    steps = list(iter_steps(out, contract))
    plan = plan_episode('practice', 3, 40)
    assert len(steps) == 40
    for step, action_A in zip(steps, plan.actions_TA, strict=True):
        assert step.frame is not None
        assert step.frame.image_HWC.std() > 5
        assert (step.action_A == contract.normalise(action_A)).all()
    assert cli.main(arguments) == 1
