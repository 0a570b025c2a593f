"""A run goes on where it was, and only there: what was made of other numbers is made anew."""

from __future__ import annotations

import argparse
import json
import sys
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from export import artefact
from models.autoencoder import Autoencoder
from models.rounding import round_to_fp16
from models.world_model import LatentWorldModel
from training import main
from training.compare import compare, samplers
from training.optimise import Schedule, average_into, optimise, running_state
from training.own_robot import practice_bags
from training.recipes import (
    BASELINE_STEPS,
    TABLETOP,
    Recipe,
    StudentStage,
    TeacherStage,
    TokenizerStage,
    baseline,
)
from training.run import Run, numbers
from training.shards import Shards, write_shards
from wm_ros import cli_train
from wm_ros.backends import EngineUnavailable
from wm_ros.bag import BagError
from wm_ros.config import ModelConfig
from wm_ros.contract import StreamContract
from wm_ros.manifest import PackageError
from wm_ros.model_package import MANIFEST, ModelPackage
from wm_ros.nodes import demo_real
from wm_ros.share import REPOSITORY
from wm_ros.toy_package import write_toy_package

MODEL = ModelConfig(
    action_width=3,
    image_size=32,
    latent_channels=4,
    tokenizer_width=8,
    patch=1,
    width=32,
    layers=1,
    heads=2,
    writer_width=16,
    memory_heads=2,
    key_width=8,
    value_width=8,
    window=4,
)
SHORT = TeacherStage(name='short', steps=2, clips=2, frames=16, loss_frames=2)
RECIPE = Recipe(
    name='speck',
    world='cups',
    model=MODEL,
    practice_clips=(1, 1),
    practice_frames=40,
    tokenizer=TokenizerStage(frames=40, steps=2, batch=4),
    teachers=(SHORT, replace(SHORT, name='long', frames=24)),
    student=StudentStage(method='ode', steps=2, clips=2, frames=16, loss_frames=2),
    probe_clips=0,
)


def run_of(folder: Path, recipe: Recipe = RECIPE) -> Run:
    return Run(
        recipe,
        work=folder / 'work',
        artefacts=folder / 'artefacts',
        contract=None,
        bags=[],
        workers=1,
        packages=folder / 'packages',
        command='make it',
    )


def trained(run: Run, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Train and return what was trained for it, in order."""
    names: list[str] = []

    def watched(*args: object, name: str, **others: object) -> torch.nn.Module:
        names.append(name)
        return optimise(*args, name=name, **others)

    for module in ('tokenizer', 'teacher', 'distil'):
        monkeypatch.setattr(f'training.{module}.optimise', watched)
    run.train()
    return names


STAGES = ['tokenizer', 'ttt.short', 'ttt.long', 'ttt.student']


def test_a_changed_recipe_is_trained_from_the_first_stage_that_it_touches(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert trained(run_of(tmp_path), monkeypatch) == STAGES
    assert trained(run_of(tmp_path), monkeypatch) == []
    shards = tmp_path / 'work' / 'speck' / 'shards' / 'from_0' / 'index.json'
    written = shards.stat().st_mtime_ns

    student = replace(RECIPE, student=replace(RECIPE.student, rate=1e-3))
    capsys.readouterr()
    assert trained(run_of(tmp_path, student), monkeypatch) == STAGES[3:]
    said = ' '.join(capsys.readouterr().out.split())
    assert 'student is trained anew: stage.rate was 0.0005 and is 0.001' in said

    first = replace(RECIPE, teachers=(replace(SHORT, rate=1e-3), RECIPE.teachers[1]))
    assert trained(run_of(tmp_path, first), monkeypatch) == STAGES[1:]
    assert shards.stat().st_mtime_ns == written

    # What a stage is judged by is no part of what it is made of.
    judged = replace(
        first, teachers=(replace(first.teachers[0], gate_2afc=0.9), first.teachers[1])
    )
    assert trained(run_of(tmp_path, judged), monkeypatch) == []

    tokenizer = replace(first, tokenizer=replace(first.tokenizer, steps=3))
    assert trained(run_of(tmp_path, tokenizer), monkeypatch) == STAGES
    assert shards.stat().st_mtime_ns > written  # latents of another tokenizer


def test_the_newest_artefact_alone_is_enough_and_one_of_unknown_making_is_not(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = run_of(tmp_path)
    trained(run, monkeypatch)
    newest = artefact.load(run.path)
    assert newest.meta['stage'] == 'student'
    # A fresh clone has the committed files and no work folder.
    run.work.rename(tmp_path / 'elsewhere')
    assert trained(run_of(tmp_path), monkeypatch) == []
    meta = {name: value for name, value in newest.meta.items() if name != 'made_of'}
    model = run.train()
    artefact.save(run.path, model, MODEL, meta)
    assert trained(run_of(tmp_path), monkeypatch) == STAGES[1:]


def test_a_baseline_begun_afresh_leaves_what_it_shares(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    baseline = RECIPE.for_arm('none')
    with pytest.raises(FileNotFoundError, match='shares the tokenizer'):
        run_of(tmp_path, baseline).train()
    run = run_of(tmp_path)
    run.train()
    index = run.work / 'shards' / 'from_0' / 'index.json'
    shared = {path: path.stat().st_mtime_ns for path in (index, run.path)}
    of_none = ['none.short', 'none.long', 'none.student']
    other = run_of(tmp_path, baseline)
    assert trained(other, monkeypatch) == of_none
    assert other.path.parent == other.work  # a baseline's weights are not for committing
    other.forget()
    assert trained(other, monkeypatch) == of_none
    assert {path: path.stat().st_mtime_ns for path in shared} == shared
    run.forget()
    assert not any(path.exists() for path in shared)


class _Cut(RuntimeError):
    pass


def test_a_number_that_is_off_leaves_what_was_made_before_it_was_known() -> None:
    """The committed artefacts know nothing of it, and are not trained anew."""
    folder = REPOSITORY / 'training' / 'artefacts' / 'tabletop_small'
    made_of = artefact.load(folder / 'tokenizer.pt').meta['made_of']
    assert isinstance(made_of, dict) and made_of['stage'] == numbers(TABLETOP.tokenizer)
    committed = artefact.load(folder / 'ttt.pt').meta
    (stage,) = (stage for stage in TABLETOP.stages if stage.name == committed['stage'])
    made_of = committed['made_of']
    assert isinstance(made_of, dict) and set(numbers(stage)) <= set(made_of['stage'])
    assert numbers(replace(TABLETOP.tokenizer, variation=1.0))['variation'] == 1.0


def test_a_running_state_of_other_numbers_is_not_continued(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr('training.optimise.SAVE_SECONDS', 0.0)
    steps: list[int] = []

    def run(made_of: str, first_weight: float = 1.0, cut_at: int = 0) -> list[int]:
        module = torch.nn.Linear(1, 1, bias=False)
        torch.nn.init.constant_(module.weight, first_weight)
        steps.clear()

        def on_step(step: int, seconds: float, average: torch.nn.Module) -> None:
            steps.append(step)
            if step == cut_at:
                raise _Cut

        optimise(
            module,
            lambda rng, generator: module.weight.square().sum(),
            Schedule(6, 1e-2),
            name='s',
            work=tmp_path,
            seed=0,
            made_of={'shards': made_of},
            on_step=on_step,
        )
        return steps

    for kwargs, goes_on_at in (
        ({'made_of': 'a'}, 4),
        ({'made_of': 'b'}, 1),
        ({'made_of': 'a', 'first_weight': 2.0}, 1),
    ):
        with pytest.raises(_Cut):
            run('a', cut_at=4)
        assert run(**kwargs)[0] == goes_on_at
        running_state(tmp_path, 's').unlink()


@pytest.fixture(scope='module')
def uncut(tmp_path_factory: pytest.TempPathFactory) -> artefact.Artefact:
    """What a run leaves that nothing has cut off."""
    run = run_of(tmp_path_factory.mktemp('uncut'))
    run.train()
    return artefact.load(run.path)


@pytest.mark.parametrize(
    ('judge', 'stages'),
    [
        ('reconstruction_psnr_db', 1),
        ('artefact.save', 1),
        ('Run.recall', 2),
        ('few_step_error', 4),
    ],
)
def test_a_stage_cut_off_between_its_last_step_and_its_artefact_loses_nothing(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    uncut: artefact.Artefact,
    judge: str,
    stages: int,
) -> None:
    steps = 0

    def counted(*args: object) -> None:
        nonlocal steps
        steps += 1
        average_into(*args)

    def cut(*_: object, **__: object) -> None:
        raise _Cut

    monkeypatch.setattr('training.optimise.average_into', counted)
    with monkeypatch.context() as patched:
        patched.setattr(f'training.run.{judge}', cut)
        with pytest.raises(_Cut):
            run_of(tmp_path).train()
    assert steps == 2 * stages
    run = run_of(tmp_path)
    run.train()
    assert steps == 2 * 4  # none of them twice
    torch.testing.assert_close(artefact.load(run.path).state, uncut.state, rtol=0, atol=0)
    assert not list(tmp_path.rglob('*.running'))


def test_both_ways_to_distil_are_judged_on_one_teacher(tmp_path: Path) -> None:
    run = run_of(tmp_path, replace(RECIPE, probe_clips=1))
    run.train()
    teacher = run.kept('long')
    result = compare(run, teacher)
    assert not list(run.work.rglob('*.running'))
    told = json.loads((run.work / 'compare.json').read_text())
    assert told == json.loads(json.dumps(result))
    assert set(told['models']) == {'teacher', 'cd', 'ode'}
    for passes in told['models'].values():
        assert {count: list(by_noise) for count, by_noise in passes.items()} == {
            '1': ['deterministic'],
            '2': ['deterministic', 'fresh'],
            '4': ['deterministic', 'fresh'],
        }
    one_pass = {name: passes['1']['deterministic'] for name, passes in told['models'].items()}
    assert len({row['error'] for row in one_pass.values()}) == 3
    assert all(set(row['recall_2afc']) == {'48', '128', '256'} for row in one_pass.values())
    # The teacher was left as it was, and the run goes on from its own student.
    assert artefact.load(run.path).meta['stage'] == 'student'
    with pytest.raises(ValueError, match="holds 'student'"):
        compare(run, run.path)


def test_a_clone_compares_the_committed_teacher_or_says_what_to_do(tmp_path: Path) -> None:
    run = run_of(tmp_path)
    with pytest.raises(FileNotFoundError, match='ttt.pt is not there: train'):
        run.last_teacher()
    model = LatentWorldModel(MODEL)
    artefact.save(run.path, model, MODEL, {'stage': 'long'})
    assert run.last_teacher() == run.path
    artefact.save(run.path, model, MODEL, {'stage': 'student'})
    with pytest.raises(FileNotFoundError, match="holds the stage 'student'.*--teacher"):
        run.last_teacher()
    artefact.save(run.kept('long'), model, MODEL, {'stage': 'long'})
    assert run.last_teacher() == run.kept('long')


def test_every_sampler_that_is_compared_lies_on_the_grid_and_holds_the_shipped_one() -> None:
    assert TABLETOP.student.grid == 8
    one, two, four = samplers(TABLETOP.student)
    assert two == pytest.approx(TABLETOP.sampler_steps, abs=1e-6)
    assert set(one) < set(two) < set(four)
    grid = [2 * u / (1 + u) for u in (1, 0.875, 0.75, 0.625, 0.5, 0.375, 0.25, 0.125, 0)]
    assert all(min(abs(t - g) for g in grid) < 1e-5 for t in four)


def test_a_baseline_goes_on_from_the_weights_of_the_shipped_arm(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run_of(tmp_path).train()
    shipped = artefact.load(run_of(tmp_path).path)
    began_with: list[dict[str, torch.Tensor]] = []

    def keep(model: torch.nn.Module, *_: object, **__: object) -> torch.nn.Module:
        began_with.append({name: value.clone() for name, value in model.state_dict().items()})
        return model

    with monkeypatch.context() as patched:
        patched.setattr('training.run.train_teacher', keep)
        run_of(tmp_path, RECIPE.for_arm('window')).train()
    torch.testing.assert_close(began_with[0], shipped.state, rtol=0, atol=0)

    # It is trained anew from other ones.
    shipped.meta['commit'] = 'another'
    model = run_of(tmp_path, RECIPE).train()
    artefact.save(run_of(tmp_path).path, model, MODEL, shipped.meta)
    assert trained(run_of(tmp_path, RECIPE.for_arm('window')), monkeypatch)[0] == 'window.short'


def test_a_baseline_differs_from_the_shipped_recipe_in_memory_steps_and_windows_only() -> None:
    taught = (TABLETOP.teachers[0], TABLETOP.teachers[-1])
    for arm in ('none', 'window'):
        recipe = baseline(TABLETOP, arm)
        assert recipe.model == replace(TABLETOP.model, arm=arm)
        assert recipe.goes_on_from == (taught[-1].name, 'student')
        assert len(recipe.teachers) == len(BASELINE_STEPS)
        assert recipe.student.steps == TABLETOP.student.steps
        for stage, shipped in zip(recipe.stages, (*taught, TABLETOP.student), strict=True):
            windows = {name: getattr(stage, name) for name in ('clips', 'frames', 'loss_frames')}
            assert stage == replace(shipped, steps=stage.steps, **windows)
            assert recipe.model.window < stage.frames <= shipped.frames
            # As many problems, from more windows.
            assert stage.clips * stage.loss_frames == shipped.clips * shipped.loss_frames
        assert recipe.teachers[-1].skill_share > 0  # what a planner asks, a baseline has practised


def test_a_baseline_without_the_package_that_it_shares_is_refused(tmp_path: Path) -> None:
    args = argparse.Namespace(work=tmp_path, packages=tmp_path, workers=1, command='')
    with pytest.raises(FileNotFoundError, match='no package whose tokenizer'):
        main.tabletop(args, 'none')


def test_a_baseline_goes_on_from_the_last_teacher_or_the_student_only(tmp_path: Path) -> None:
    run = run_of(tmp_path)
    run.train()
    other = RECIPE.for_arm('none')
    for stage in ('long', 'student'):
        kept = run.kept(stage)
        run.path.write_bytes(kept.read_bytes())
        assert run_of(tmp_path, other).start.meta['stage'] == stage
    run.path.write_bytes(run.kept('short').read_bytes())  # as a run that was cut off leaves it
    with pytest.raises(FileNotFoundError, match="holds the stage 'short'.*'long' or 'student'"):
        run_of(tmp_path, other).train()


def test_baselines_that_cannot_share_the_tokenizer_are_refused_at_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    artefact.save(run_of(tmp_path).path, LatentWorldModel(MODEL), MODEL, {'stage': 'student'})
    contract = StreamContract.load(REPOSITORY / 'contracts' / 'tabletop.yaml')
    shared = write_toy_package(tmp_path / 'packages' / RECIPE.name, contract)
    checked: list[ModelPackage] = []

    def refuse(tokenizer: torch.nn.Module, package: ModelPackage) -> None:
        checked.append(package)
        raise PackageError('another tokenizer')

    monkeypatch.setattr('training.run.check_tokenizer', refuse)
    monkeypatch.setattr(main, 'TABLETOP', RECIPE)
    monkeypatch.setattr(main, 'ARTEFACTS', tmp_path / 'artefacts')
    monkeypatch.setattr(Run, 'tokenizer', lambda self: Autoencoder(MODEL))
    monkeypatch.setattr(Run, 'shards', None)
    args = argparse.Namespace(
        work=tmp_path / 'work',
        packages=tmp_path / 'packages',
        workers=1,
        threads=2,
        fresh=True,
        command='',
    )
    for begin in (main.run_baselines, lambda args: main.run_tabletop(args, 'none')):
        with pytest.raises(PackageError, match='another tokenizer'):
            begin(args)
    assert [package.sha256 for package in checked] == [shared.sha256] * 2


class _Child:
    """A process that was started and is done."""

    started: list[list[str]] = []

    def __init__(self, command: list[str], **_: object) -> None:
        self.started.append(command)

    def wait(self) -> int:
        return 0

    def terminate(self) -> None:
        pass


def call(monkeypatch: pytest.MonkeyPatch, *arguments: object) -> None:
    """Call the program as a user does."""
    threads = ('--threads', torch.get_num_threads())
    monkeypatch.setattr(sys, 'argv', ['main.py', *map(str, (*arguments, *threads))])
    monkeypatch.setattr(main, 'keep_freed_memory', lambda: None)
    main.main()


def test_both_baselines_record_what_the_user_has_typed(monkeypatch: pytest.MonkeyPatch) -> None:
    runs: list[argparse.Namespace] = []
    for name in ('check_shared', 'tokenizer', 'shards'):
        monkeypatch.setattr(Run, name, lambda *_: None)
    monkeypatch.setattr(_Child, 'started', [])
    monkeypatch.setattr(main.subprocess, 'Popen', _Child)
    monkeypatch.setattr(main, 'run_tabletop', lambda args, arm: runs.append(args))
    call(monkeypatch, '--fresh', 'baselines', '--work', 'a folder')  # in any order
    for command in list(_Child.started):
        monkeypatch.setattr(sys, 'argv', command[2:])
        main.main()
    threads = torch.get_num_threads()
    typed = f"python -m training.main --fresh baselines --work 'a folder' --threads {threads}"
    assert [args.command for args in runs] == [typed] * 2
    assert [args.arm for args in runs] == ['none', 'window']
    assert all(args.fresh and args.work == Path('a folder') for args in runs)


def test_an_artefact_and_its_package_repeat_command_and_date_of_the_training(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = run_of(tmp_path)
    run.contract = StreamContract.load(REPOSITORY / 'contracts' / 'tabletop.yaml')
    told: list[dict[str, str]] = []
    monkeypatch.setattr(Run, 'tokenizer', lambda self: Autoencoder(MODEL))
    monkeypatch.setattr(
        'training.run.export_package', lambda *_, provenance, **__: told.append(provenance)
    )
    monkeypatch.setattr('training.run.commit', lambda besides: ' '.join(besides))
    monkeypatch.setattr('training.run.time.strftime', lambda _: 'the day of the training')
    model, meta = LatentWorldModel(MODEL), run.meta('student')
    monkeypatch.setattr('training.run.time.strftime', lambda _: 'the day of the export')
    for kept in (meta, {name: value for name, value in meta.items() if name != 'date'}):
        artefact.save(run.path, model, MODEL, kept)
        run.export(model, name='speck', shared_tokenizer=None)
    assert [provenance.pop('date') for provenance in told] == [
        'the day of the training',
        'the day of the export',  # of an artefact that does not say
    ]
    assert told[0]['command'] == 'make it'
    assert told[0]['commit'] == 'training/artefacts packages'


def test_a_package_is_exported_again_only_when_what_it_is_made_of_has_changed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    contract = StreamContract.load(REPOSITORY / 'contracts' / 'tabletop.yaml')
    shapes = replace(MODEL, action_width=contract.action_width, image_size=contract.image_size)
    sampler = (1.0, 0.5)  # that of a toy package
    recipe = replace(RECIPE, model=shapes, sampler_steps=sampler)
    autoencoder, model = Autoencoder(shapes), LatentWorldModel(shapes)
    round_to_fp16(model)
    monkeypatch.setattr(Run, 'tokenizer', lambda self: autoencoder)
    exported: list[Path] = []

    def export(*given: object, name: str, provenance: object, **_: object) -> None:
        path = given[2]
        assert isinstance(path, Path)
        write_toy_package(path, contract, model=shapes, name=name)
        manifest = json.loads((path / MANIFEST).read_text())
        (path / MANIFEST).write_text(json.dumps(manifest | {'provenance': provenance}))
        exported.append(path)

    monkeypatch.setattr('training.run.export_package', export)

    def again(model: LatentWorldModel, **changes: object) -> bool:
        """Whether this is exported, after it was trained or loaded."""
        exported.clear()
        run = run_of(tmp_path, replace(recipe, **changes))
        run.contract = contract
        artefact.save(run.path, model, shapes, run.meta('student'))
        assert run.export(model, name='speck', shared_tokenizer=None) == run.packages / 'speck'
        return bool(exported)

    assert again(model)
    assert not again(model)
    loaded = LatentWorldModel(shapes)
    artefact.load(run_of(tmp_path, recipe).path).load_into(loaded)
    assert not again(loaded)
    assert again(model, sampler_steps=(1.0,))
    with torch.no_grad():
        autoencoder.latent_mean.add_(1)
    assert again(model)
    with torch.no_grad():
        next(iter(model.parameters())).add_(1)
    assert again(model)
    path = tmp_path / 'packages' / 'speck'
    (path / 'parity.npz').write_bytes(b'')
    assert again(model)  # it was not whole
    manifest = json.loads((path / MANIFEST).read_text())
    del manifest['provenance']['weights']
    (path / MANIFEST).write_text(json.dumps(manifest))
    assert again(model)  # it did not say


def test_bags_that_are_held_out_are_those_that_were_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    names = ['episode_001', 'episode_002', 'other']
    for name in names:
        (tmp_path / name).mkdir()
    (tmp_path / 'LICENSE').touch()

    def left(hold_out: str | None) -> list[str]:
        return [path.name for path in practice_bags([tmp_path], hold_out)]

    assert left(None) == left('') == names  # a user's own folder of that name is learned from
    assert left('other') == names[:2]
    assert left('other, episode_001') == ['episode_002']
    for typed in ('othr', 'other,othr'):
        with pytest.raises(FileNotFoundError, match='--hold-out othr: not in .*, other'):
            left(typed)
    with pytest.raises(FileNotFoundError, match='no bag folders to train on'):
        left(','.join(names))
    with pytest.raises(BagError, match='LICENSE: not a bag; expected a folder'):
        practice_bags([tmp_path / 'LICENSE'], None)
    monkeypatch.setenv('WM_ROS_G1_BOTTLE', str(tmp_path))
    assert left(None) == names[1:]


def test_a_fresh_start_is_one_or_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / 'bag').mkdir()
    done: list[str] = []
    monkeypatch.setattr('training.run.make_world', lambda *_: None)
    monkeypatch.setattr(Run, 'forget', lambda _: done.append('forget'))
    monkeypatch.setattr(Run, 'train', lambda _: done.append('train'))
    monkeypatch.setattr(Run, 'export', lambda *_, **__: None)
    for fresh, expected in (([], ['train']), (['--fresh'], ['forget', 'train'])):
        done.clear()
        call(monkeypatch, 'real', '--bags', tmp_path, *fresh)
        assert done == expected
    with pytest.raises(SystemExit):
        call(monkeypatch, 'compare', '--fresh')
    assert '--fresh: compare trains no teacher' in capsys.readouterr().err


def test_the_demo_of_the_real_robot_and_wm_train_share_no_files(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """They hold out other bags: one package would have learnt from what the other is judged on."""
    asked: list[argparse.Namespace] = []
    for what in main.RUNS:
        monkeypatch.setitem(main.RUNS, what, asked.append)
    for what in ('real', 'tabletop'):
        call(monkeypatch, what)
    demo, other = asked
    parser = argparse.ArgumentParser()
    cli_train.train_arguments(parser)
    assert other.work == parser.get_default('out') == Path('out/train')
    assert other.work not in (demo.work, *demo.work.parents)
    assert Path(demo_real.PACKAGE) == demo.packages / 'g1_bottle'
    call(monkeypatch, 'real', '--work', 'mine')
    assert asked[-1].packages == Path('mine/packages')


def test_an_export_that_could_not_be_checked_is_refused_before_training(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    begun: list[str] = []
    for what in main.RUNS:
        monkeypatch.setitem(main.RUNS, what, lambda args: begun.append(args.what))
    monkeypatch.setattr('wm_ros.backends.resolve.util.find_spec', lambda _: None)
    for what in ('tabletop', 'baselines', 'real'):
        with pytest.raises(EngineUnavailable, match='export: onnxruntime is not installed'):
            call(monkeypatch, what)
    for what in ('tiny', 'compare'):  # these export nothing
        call(monkeypatch, what)
    assert begun == ['tiny', 'compare']


def test_clips_that_no_window_fits_into_are_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    torch.manual_seed(0)
    autoencoder, run = Autoencoder(MODEL), run_of(tmp_path)
    for frames in (80, 20):
        write_shards(
            tmp_path / str(frames), run.world, autoencoder, seeds=range(1), frames=frames
        )
    shards = Shards([tmp_path / '80', tmp_path / '20'], MODEL.latent_shape, 3)
    for frames, short in ((16, [False, False]), (24, [False, True]), (99, [False, True])):
        assert shards.too_short(frames).tolist() == short
    monkeypatch.setattr(Run, 'shards', lambda *_: shards)
    monkeypatch.setattr(run.world, 'clip_names', ['long_bag', 'short_bag'], raising=False)
    run.train()
    said = ' '.join(capsys.readouterr().out.split())
    told = 'long never draws 1 of 2 clips, shorter than its windows: short_bag (20 frames)'
    assert told in said
    assert said.count('never draws') == 1  # windows of the others are short enough
    assert 'windows of' not in said
    long = replace(RECIPE.teachers[1], frames=99)
    run._tell_left_out(long, shards)
    assert 'long: windows of 80 frames, not 99' in ' '.join(capsys.readouterr().out.split())
