"""`wm train`: what it asks of training, what it refuses before hours have gone by."""

from __future__ import annotations

import importlib.util
import json
from pathlib import Path
from typing import Any

import pytest
import yaml
from replay_bags import contract, write_bag

from wm_ros import cli, cli_train
from wm_ros.bag import BagRecorder
from wm_ros.evaluation import practised, replay_several

Commands = list[list[str]]


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> Commands:
    """What would have been run; reports are left out."""
    commands: Commands = []

    def run(command: list[str]) -> int:
        commands.append(command)
        return 0

    monkeypatch.setattr(cli_train, 'run_training', run)
    return commands


@pytest.fixture
def told() -> list[str]:
    """What the newest report says of its bags."""
    return []


@pytest.fixture
def reported(monkeypatch: pytest.MonkeyPatch, told: list[str]) -> list[tuple[Any, ...]]:
    reports: list[tuple[Any, ...]] = []

    def run_several(order: Any, bags: Any, out: Path, *, notes: Any) -> int:
        told[:] = notes
        reports.append((order.package, list(bags), out))
        return 0

    monkeypatch.setattr(replay_several, 'run_several', run_several)
    return reports


@pytest.fixture
def robot(tmp_path: Path) -> list[str]:
    """Arguments: a contract, six bags in a folder, where to."""
    (tmp_path / 'arm.yaml').write_text(yaml.safe_dump({**contract().to_dict(), 'name': 'arm'}))
    for number in range(6):
        write_bag(tmp_path / 'bags' / f'e{number}', 2 + number)
    words = ['--contract', str(tmp_path / 'arm.yaml'), '--out', str(tmp_path / 'out')]
    return [*words, str(tmp_path / 'bags')]


def option(command: list[str], name: str) -> str:
    return command[command.index(name) + 1]


def test_training_gets_the_practice_bags_and_the_report_the_others(
    tmp_path: Path, robot: list[str], asked: Commands, reported: list[tuple[Any, ...]]
) -> None:
    assert cli.main(['train', *robot, '--threads', '2', '--effort', '0.5']) == 0
    (command,) = asked
    assert command[1:4] == ['-m', 'training.main', 'real']
    at = command.index('--bags')
    assert [Path(path).name for path in command[at + 1 :]] == ['e0', 'e1', 'e2', 'e4', 'e5']
    assert option(command, '--hold-out') == '' and option(command, '--name') == 'arm'
    assert (option(command, '--threads'), option(command, '--effort')) == ('2', '0.5')
    assert option(command, '--command').startswith('wm train --contract')
    assert Path(option(command, '--work')) == tmp_path / 'out' and '--fresh' not in command
    packaged = str(tmp_path / 'out' / 'packages' / 'arm')
    assert reported == [(packaged, ['e3'], tmp_path / 'out' / 'report' / 'arm')]
    assert '--quick' not in command
    assert cli.main(['train', *robot, '--quick']) == 0 and '--quick' in asked[1]


def test_a_run_goes_on_with_its_split_and_with_no_other(
    tmp_path: Path,
    robot: list[str],
    asked: Commands,
    reported: list[tuple[Any, ...]],
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert cli.main(['train', *robot, '--hold-out', 'e0,e5']) == 0
    assert cli.main(['train', *robot]) == 0
    assert [bags for _, bags, _ in reported] == [['e0', 'e5']] * 2
    assert cli.main(['train', *robot, '--hold-out', '1']) == 1
    assert '--fresh' in capsys.readouterr().err and len(asked) == 2
    assert cli.main(['train', *robot, '--hold-out', '1', '--fresh']) == 0
    assert '--fresh' in asked[-1]
    kept = json.loads((tmp_path / 'out' / 'arm' / 'split.json').read_text())
    assert kept['held_out'] == ['e3']
    assert cli.main(['train', *robot, '--name', 'other', '--hold-out', '0']) == 0
    assert len(reported) == 3 and 'no report' in capsys.readouterr().out


def test_a_report_holds_nothing_of_an_earlier_one(
    tmp_path: Path, robot: list[str], asked: Commands, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each package has a report of its own; what a person has put beside it stays."""
    made = tmp_path / 'out' / 'report' / 'arm'

    def run_several(order: Any, bags: Any, out: Path, **others: Any) -> int:
        assert not (out / 'index.html').exists(), 'gone before the new one is there'
        for name in bags:
            (out / name).mkdir(parents=True, exist_ok=True)
            for file in ('metrics.json', 'timing.json', 'report.html', 'side_by_side.mp4'):
                (out / name / file).touch()
        for file in ('index.html', 'summary.json'):
            (out / file).touch()
        return 0

    monkeypatch.setattr(replay_several, 'run_several', run_several)
    assert cli.main(['train', *robot, '--hold-out', 'e0,e1']) == 0
    (made / 'e1' / 'notes.txt').touch()
    assert cli.main(['train', *robot, '--name', 'other', '--hold-out', 'e5']) == 0
    names = ['e0', 'e1', 'index.html', 'summary.json']
    assert sorted(path.name for path in made.iterdir()) == names
    assert cli.main(['train', *robot, '--fresh', '--hold-out', 'e2']) == 0
    files = {str(path.relative_to(made)) for path in made.rglob('*') if path.is_file()}
    assert {name for name in files if not name.startswith('e2/')} == {
        'e1/notes.txt', 'index.html', 'summary.json',
    }  # fmt: skip
    assert cli.main(['train', *robot, '--fresh', '--hold-out', '0']) == 0
    assert [path.name for path in made.rglob('*') if path.is_file()] == ['notes.txt']


def test_fine_tuning_says_what_it_goes_on_from(
    tmp_path: Path, robot: list[str], asked: Commands, reported: list[tuple[Any, ...]]
) -> None:
    assert cli.main(['fine-tune', '--from', 'tabletop_small', '--tokenizer-only', *robot]) == 0
    (tmp_path / 'mine').mkdir()
    words = ['--from', str(tmp_path / 'mine'), '--train-tokenizer', '--name', 'b']
    assert cli.main(['fine-tune', *words, *robot]) == 0
    assert [command[3] for command in asked] == ['fine-tune'] * 2
    assert [option(c, '--from') for c in asked] == ['tabletop_small', str(tmp_path / 'mine')]
    flags = ('--tokenizer-only', '--train-tokenizer')
    assert [[flag in command for flag in flags] for command in asked] == [
        [True, False],
        [False, True],
    ]


def test_fine_tuning_holds_out_what_its_origin_has_not_practised(
    tmp_path: Path,
    robot: list[str],
    asked: Commands,
    reported: list[tuple[Any, ...]],
    told: list[str],
    capsys: pytest.CaptureFixture[str],
) -> None:
    bags, origin = tmp_path / 'bags', tmp_path / 'mine'
    practised.keep(origin, practised.practised_of([bags / f'e{i}' for i in (0, 2, 3, 5)]))
    (bags / 'e3').rename(bags / 'renamed')
    words = ['fine-tune', '--from', str(origin), *robot]
    assert cli.main(words) == 0
    said = capsys.readouterr().out
    assert 'never held out: e0, e2, e5, renamed (then e3)' in said
    assert [names for _, names, _ in reported] == [['e4']]
    at = asked[0].index('--bags')
    assert [Path(path).name for path in asked[0][at + 1 :]] == ['e0', 'e1', 'e2', 'e5', 'renamed']
    assert told == ['mine has practised 4 bag(s), none of those held out.'] and told[0] in said
    assert cli.main([*words, '--name', 'b', '--hold-out', 'e4,renamed']) == 1
    assert '--hold-out renamed: practised already' in capsys.readouterr().err
    assert len(asked) == 1
    # Weights of an older training do not say; those of a simulator have seen nobody's bags.
    (origin / practised.FILE).unlink()
    assert cli.main([*words, '--name', 'c']) == 0
    (note,) = told
    assert note.startswith('Unknown: ') and note in capsys.readouterr().out
    assert reported[-1][1] == ['e4']
    assert cli.main(['fine-tune', '--from', 'tabletop_small', '--name', 'd', *robot]) == 0
    assert told == ['tabletop_small was trained on no recorded bags.']


def test_what_cannot_be_trained_on_is_refused_before_training(
    tmp_path: Path, robot: list[str], asked: Commands, capsys: pytest.CaptureFixture[str]
) -> None:
    def refused(*words: str) -> str:
        assert cli.main(['train', *words]) == 1
        return capsys.readouterr().err

    assert 'expected letters' in refused(*robot, '--name', '../x')
    nameless = tmp_path / 'nameless.yaml'
    for name in ('', '../../x', '.hidden', 'two words'):
        nameless.write_text(yaml.safe_dump({**contract().to_dict(), 'name': name}))
        said = refused(*robot, '--contract', str(nameless))
        assert f'package name {name!r} (of {nameless}; --name gives another)' in said
    assert '--backend onnx: expected one of auto' in refused(*robot, '--backend', 'onnx')
    assert '--threads 0' in refused(*robot, '--threads', '0')
    assert '--effort 0' in refused(*robot, '--effort', '0')
    assert 'no bag there' in refused(*robot, str(tmp_path / 'nowhere'))
    with BagRecorder(tmp_path / 'blind') as recorder:
        recorder.write('/chatter', 'std_msgs/msg/Empty', bytes([0, 1, 0, 0, 0]), 1)
    said = refused(*robot, str(tmp_path / 'blind'))
    assert 'blind has no messages of /camera/image_raw, /command' in said and '/chatter' in said
    (cut,) = (tmp_path / 'bags' / 'e4').glob('*.mcap')
    cut.write_bytes(cut.read_bytes()[:200])
    assert 'e4' in refused(*robot)
    assert asked == [] and not (tmp_path / 'out').exists()


def test_an_installation_that_cannot_train_says_how_one_can(
    tmp_path: Path,
    robot: list[str],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    with monkeypatch.context() as patched:
        patched.setattr(cli_train, 'NEEDED', ('numpy', 'no_such_torch'))
        assert cli.main(['train', *robot]) == 1
    said = capsys.readouterr().err
    assert 'needs no_such_torch' in said and 'make setup-train in' in said
    find_spec = importlib.util.find_spec
    with monkeypatch.context() as patched:
        hidden = {'onnxruntime': None}
        patched.setattr(
            importlib.util, 'find_spec', lambda name: hidden.get(name, True) and find_spec(name)
        )
        assert cli.main(['train', *robot]) == 1
    said = capsys.readouterr().err
    assert 'needs onnxruntime' in said and 'make setup-train ENGINES=ort,openvino' in said
    monkeypatch.setattr(cli_train.share, 'REPOSITORY', tmp_path)
    assert cli.main(['train', *robot]) == 1
    assert 'clone of the repository' in capsys.readouterr().err


def test_training_that_fails_or_is_interrupted_gives_no_report(
    robot: list[str],
    reported: list[tuple[Any, ...]],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr(cli_train, 'run_training', lambda command: 3)
    assert cli.main(['train', *robot]) == 1
    assert 'status 3' in capsys.readouterr().err

    def interrupted(command: list[str]) -> int:
        raise KeyboardInterrupt

    monkeypatch.setattr(cli_train, 'run_training', interrupted)
    assert cli.main(['train', *robot]) == 130
    assert 'goes on' in capsys.readouterr().err and reported == []
