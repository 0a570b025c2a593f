"""From a robot's bags to a package and a report, with a few steps of every stage: two cameras, a
cut on the way, fine-tuning for another arm, a LeRobot dataset.
"""

from __future__ import annotations

import json
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import yaml

from export import artefact
from models.world_model import LatentWorldModel
from training import main, optimise, own_robot, recipes
from training.optimise import average_into
from training.origin import OriginError, find_origin, shapes_for, take
from training.recipes import (
    FINE,
    REAL,
    CompositorStage,
    TeacherStage,
    TokenizerStage,
    real_recipe,
    scaled,
)
from wm_ros import cli, cli_train
from wm_ros.backends import resolve_backend
from wm_ros.bag import BagRecorder, iter_steps
from wm_ros.bag.stream import action_bytes, image_bytes
from wm_ros.contract import StreamContract, find_contract
from wm_ros.contract_fields import ContractError
from wm_ros.evaluation import practised
from wm_ros.model_package import ModelPackage
from wm_ros.sources import ACTION, IMAGE
from wm_ros.tiles import untile
from wm_ros.world_model import WorldModel

CAMERAS = ('/head/image_raw', '/wrist/image_raw')
PERIOD_NS, FRAMES, BAGS = 40_000_000, 60, 5
SMALL = replace(
    REAL,
    model=replace(
        REAL.model, image_size=32, width=32, layers=2, heads=2, writer_width=16, tokenizer_width=8
    ),
    tokenizer=TokenizerStage(steps=4, batch=8),
    teachers=(TeacherStage(steps=4, clips=2, frames=32, loss_frames=4, ahead=2, event_share=0.0),),
    student=replace(REAL.student, steps=2, clips=2, frames=32, loss_frames=4, ahead=2, rollout=3),
    compositor=CompositorStage(steps=2, batch=4, clips=2, starts=2, ahead=4),
    variants=1,
)
STEPS = 4 + 4 + 2 + 2


def two_eyed(name: str, joints: int = 11) -> StreamContract:
    """The table-top's robot with a second camera, of so many joints."""
    values = StreamContract.load(find_contract('tabletop')).to_dict()
    values |= {'name': name, 'image_size': 32}
    values['cameras'] = [{'topic': topic, 'type': IMAGE} for topic in CAMERAS]
    values['actions'][0]['entries'] = values['actions'][0]['entries'][:joints]
    return StreamContract.from_dict(values)


def record(path: Path, seed: int, joints: int = 11) -> None:
    """A square goes to and fro as commanded, seen from two sides."""
    contract = two_eyed(path.name, joints)
    with BagRecorder(path) as recorder:
        for number in range(FRAMES):
            at_ns = 10**9 + number * PERIOD_NS
            place = np.sin((number + 7 * seed) / 6)
            values_A = contract.denormalise(np.full(joints, 0.9 * place))
            recorder.write('/command', ACTION, action_bytes(values_A, at_ns), at_ns)
            for topic, sign in zip(CAMERAS, (1, -1), strict=True):
                image_HWC = np.full((32, 64, 3), 60, np.uint8)
                left = 24 + round(sign * 20 * place)
                image_HWC[10:22, left : left + 16] = (240, 40, 60)
                recorder.write(topic, IMAGE, image_bytes(image_HWC, at_ns), at_ns)


def robot(folder: Path, name: str, joints: int = 11) -> list[str]:
    """Arguments: a contract and a folder of bags, both of them made."""
    contract = folder / f'{name}.yaml'
    contract.write_text(yaml.safe_dump(two_eyed(name, joints).to_dict()))
    for number in range(BAGS):
        record(folder / name / f'e{number}', number, joints)
    return ['--contract', str(contract), str(folder / name)]


def in_this_process(patch: pytest.MonkeyPatch) -> None:
    """Let `wm train` call training here, with the small recipe."""

    def run(command: list[str]) -> int:
        threads = ['--threads', str(torch.get_num_threads())]
        patch.setattr(sys, 'argv', [*command[2:4], *threads, *command[4:]])
        try:
            main.main()
        except KeyError:  # as a process that was killed
            return 1
        return 0

    patch.setattr(cli_train, 'run_training', run)
    patch.setattr(main, 'keep_freed_memory', lambda: None)
    patch.setattr(recipes, 'REAL', SMALL)
    patch.setattr(own_robot, 'REAL', SMALL)
    patch.setattr(own_robot, 'FINE', replace(SMALL, name='fine'))


class Steps:
    """Counts optimiser steps; is killed after some."""

    def __init__(self, patch: pytest.MonkeyPatch, killed_after: int | None = None) -> None:
        self.count, self.killed_after = 0, killed_after
        patch.setattr(optimise, 'average_into', self.step)
        patch.setattr(optimise, 'SAVE_SECONDS', 0.0)

    def step(self, *given: Any) -> None:
        if self.count == self.killed_after:
            raise KeyError
        self.count += 1
        average_into(*given)


@pytest.fixture(scope='module')
def trained(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, int, int]:
    """Folder of `wm train` on five bags of two cameras, killed in the teacher and called again;
    the steps before and after.
    """
    folder = tmp_path_factory.mktemp('trained')
    words = ['train', *robot(folder, 'two_eyed'), '--out', str(folder / 'out')]
    words += ['--backend', 'onnxruntime']
    with pytest.MonkeyPatch.context() as patch:
        in_this_process(patch)
        cut = Steps(patch, killed_after=4 + 2)
        assert cli.main(words) == 1
        again = Steps(patch)
        assert cli.main(words) == 0
    return folder, cut.count, again.count


@pytest.mark.slow
def test_two_cameras_train_and_both_views_are_predicted(trained: tuple[Path, int, int]) -> None:
    out = trained[0] / 'out'
    package = ModelPackage.load(out / 'packages' / 'two_eyed')
    model = WorldModel(package, resolve_backend('onnxruntime', package))
    contract = package.manifest.contract
    assert [camera.topic for camera in contract.cameras] == list(CAMERAS)
    memory, rng = model.reset(), np.random.default_rng(0)
    steps = list(iter_steps(trained[0] / 'two_eyed' / 'e0', contract))
    for step in steps[:5]:
        assert step.frame is not None
        latent = model.encode(step.frame.image_HWC[None])
        memory = model.observe_latent(memory, latent, step.action_A[None])
    future = model.imagine(memory, steps[5].action_A[None, None], model.noise(rng, 1, 1))
    assert np.isfinite(future.latents_BTCHW).all()
    views = untile(future.frames_BTHWC[0, 0], 2)
    assert [view.shape for view in views] == [(16, 32, 3)] * 2
    assert all(view.std() > 0 for view in views)


@pytest.mark.slow
def test_a_training_that_was_killed_goes_on_where_it_was(trained: tuple[Path, int, int]) -> None:
    folder, before, after = trained
    assert (before, before + after) == (4 + 2, STEPS)
    assert not list((folder / 'out').rglob('*.running'))


@pytest.mark.slow
def test_the_report_is_of_the_bags_that_were_held_out(trained: tuple[Path, int, int]) -> None:
    out = trained[0] / 'out'
    split = json.loads((out / 'two_eyed' / 'split.json').read_text())
    assert split == {'practice': ['e0', 'e1', 'e3', 'e4'], 'held_out': ['e2']}
    made_of = artefact.load(out / 'artefacts' / 'two_eyed' / 'tokenizer.pt').meta['made_of']
    assert sorted(made_of['world']['bytes']) == split['practice']
    seen = practised.read(out / 'artefacts' / 'two_eyed')
    assert sorted(seen.bags.values()) == split['practice'] and seen.complete
    assert list(seen.among({'e1': trained[0] / 'two_eyed' / 'e1'})) == ['e1']
    summary = json.loads((out / 'report' / 'two_eyed' / 'summary.json').read_text())
    assert [bag['name'] for bag in summary['bags']] == ['e2'] and summary['complete']
    assert summary['packages']['model']['name'] == 'two_eyed'
    assert summary['pooled']['by_horizon']['anchors'] == 1
    assert {'index.html', 'e2'} <= {path.name for path in (out / 'report' / 'two_eyed').iterdir()}


@pytest.mark.slow
def test_fine_tuning_takes_what_fits_and_names_what_does_not(
    trained: tuple[Path, int, int],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    in_this_process(monkeypatch)
    began_with: list[dict[str, torch.Tensor]] = []
    train = sys.modules['training.run'].train_teacher

    def watched(model: torch.nn.Module, *given: Any, **others: Any) -> torch.nn.Module:
        began_with.append({name: value.clone() for name, value in model.state_dict().items()})
        return train(model, *given, **others)

    monkeypatch.setattr('training.run.train_teacher', watched)
    given = trained[0] / 'out' / 'artefacts' / 'two_eyed'
    words = ['fine-tune', '--from', str(given), *robot(tmp_path, 'nine', joints=9)]
    words += ['--out', str(tmp_path / 'out'), '--hold-out', '0']
    assert cli.main(words) == 0
    said = ' '.join(capsys.readouterr().out.split())
    assert 'begun afresh: writer.action.0.weight' in said and 'denoiser.action.0.weight' in said
    theirs, ours = artefact.load(given / 'ttt.pt').state, began_with[0]
    differ = {name for name, value in ours.items() if not torch.equal(value, theirs[name])}
    assert differ == {'writer.action.0.weight', 'denoiser.action.0.weight'}
    tokenizers = [
        artefact.load(path / 'tokenizer.pt').state
        for path in (given, tmp_path / 'out' / 'artefacts' / 'nine')
    ]
    torch.testing.assert_close(*tokenizers, rtol=0, atol=0)
    package = ModelPackage.load(tmp_path / 'out' / 'packages' / 'nine')
    assert package.manifest.contract.action_width == 9
    seen = practised.read(tmp_path / 'out' / 'artefacts' / 'nine')
    assert len(seen.bags) == BAGS + BAGS - 1 and seen.complete, "its own and its origin's"
    # The second time there is nothing to do; a tokenizer that is trained on is another one.
    assert cli.main(words) == 0 and len(began_with) == 1
    monkeypatch.setattr('training.run.Run.export', lambda *_, **__: None)
    assert cli.main([*words, '--train-tokenizer']) == 0 and len(began_with) == 2
    trained_on = artefact.load(tmp_path / 'out' / 'artefacts' / 'nine' / 'tokenizer.pt').state
    assert not torch.equal(trained_on['encoder.0.weight'], tokenizers[0]['encoder.0.weight'])


@pytest.mark.slow
def test_a_lerobot_dataset_trains(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    pytest.importorskip('pyarrow')
    from wm_ros.lerobot import DatasetWriter

    camera = 'observation.images.top'
    with DatasetWriter(
        tmp_path / 'dataset', fps=25, cameras={camera: (32, 32)}, action_names=['x', 'y'],
        state_names=['s'],
    ) as writer:  # fmt: skip
        for episode in range(3):
            for number in range(FRAMES):
                image_HWC = np.full((32, 32, 3), 40 * episode, np.uint8)
                image_HWC[8:16, number % 24 : number % 24 + 8] = 250
                writer.add_frame(
                    {camera: image_HWC}, np.full(2, number / FRAMES), np.zeros(1), 'push'
                )
            writer.end_episode()
    given = ['import', 'lerobot', str(tmp_path / 'dataset'), '--image-size', '32']
    assert cli.main([*given, '--out', str(tmp_path / 'arm')]) == 0
    in_this_process(monkeypatch)
    words = ['train', '--contract', str(tmp_path / 'arm' / 'contract.yaml'), str(tmp_path / 'arm')]
    words += ['--out', str(tmp_path / 'out'), '--hold-out', '0']
    assert cli.main(words) == 0
    package = ModelPackage.load(tmp_path / 'out' / 'packages' / 'arm')
    assert package.manifest.contract.action_width == 2
    assert '3 bags to learn from' in capsys.readouterr().out


def test_the_shipped_weights_fit_another_robot_but_for_its_actions() -> None:
    g1 = StreamContract.load(find_contract('g1_bottle'))
    origin = find_origin('tabletop_small', tokenizer_only=False, train_tokenizer=False)
    model = shapes_for(origin, g1, REAL.model)
    assert origin.world_model is not None
    assert model == replace(origin.world_model.config, action_width=26)
    left = take(origin.world_model, LatentWorldModel(model))
    assert [name.split()[0] for name in left] == [
        'writer.action.0.weight',
        'denoiser.action.0.weight',
    ]
    assert 'is [96, 26], there [96, 11]' in left[0]
    same = take(origin.world_model, LatentWorldModel(origin.world_model.config))
    assert same == []
    recipe = own_robot.fine_recipe(origin, g1)
    assert (recipe.name, recipe.teachers) == ('g1_bottle', FINE.teachers)
    only = find_origin('tabletop_small', tokenizer_only=True, train_tokenizer=False)
    recipe = own_robot.fine_recipe(only, g1)
    small = {'latent_channels': 8, 'tokenizer_width': 24}  # the tokenizer's
    assert recipe.model == replace(REAL.model, action_width=26, **small)
    assert recipe.teachers == REAL.teachers


def test_weights_that_cannot_be_gone_on_from_are_refused(tmp_path: Path) -> None:
    def find(name: object, **others: bool) -> Any:
        flags = {'tokenizer_only': False, 'train_tokenizer': False, **others}
        return find_origin(str(name), **flags)

    large = replace(StreamContract.load(find_contract('g1_bottle')), image_size=128)
    with pytest.raises(OriginError, match='image_size 128; expected 64'):
        shapes_for(find('tabletop_small'), large, REAL.model)
    with pytest.raises(OriginError, match=r'no tokenizer\.pt and no ttt\.pt .*tabletop_small'):
        find('nowhere')
    (tmp_path / 'package').mkdir()
    (tmp_path / 'package' / 'manifest.json').touch()
    with pytest.raises(OriginError, match='a model package, whose graphs cannot be trained'):
        find(tmp_path / 'package')
    # A tokenizer of another latent than the model's.
    shipped = find('tabletop_small')
    other = replace(shipped.tokenizer.config, latent_channels=4)
    for name, config in (('tokenizer', other), ('ttt', other)):
        parts = {'config': config.to_dict(), 'state': {}, 'meta': {}}
        torch.save(parts, tmp_path / f'{name}.pt')
    assert find(tmp_path).world_model.config == other
    parts = {'config': shipped.tokenizer.config.to_dict(), 'state': {}, 'meta': {}}
    torch.save(parts, tmp_path / 'ttt.pt')
    with pytest.raises(OriginError, match=r'latents \(8, 8, 8\), tokenizer\.pt makes \(4, 8, 8\)'):
        find(tmp_path)
    assert find(tmp_path, tokenizer_only=True).world_model is None


def test_numbers_of_a_recipe() -> None:
    assert scaled(REAL, 1.0) == REAL
    half = scaled(REAL, 0.5)
    assert half.teachers[0].steps == REAL.teachers[0].steps // 2
    assert scaled(REAL, 1e-6).student.steps == 1
    assert sum(stage.steps for stage in FINE.stages) < sum(stage.steps for stage in REAL.stages)
    odd = replace(StreamContract.load(find_contract('g1_bottle')), image_size=48)
    with pytest.raises(ContractError, match='no model for image_size 48.*fit: 32, 64, 96'):
        real_recipe(odd, quick=True)
    assert real_recipe(odd).model.image_size == 48
    with pytest.raises(ContractError, match='no model for image_size 56.*fit: 32, 48, 64'):
        real_recipe(replace(odd, image_size=56))
