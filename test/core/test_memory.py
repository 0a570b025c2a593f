"""Memories are values: forks leave their parent alone, files come back whole or are refused."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import pytest

from wm_ros import memory
from wm_ros.config import ModelConfig
from wm_ros.contract import StreamContract
from wm_ros.datatypes import MemoryState
from wm_ros.memory import MemoryFileError, NonFiniteError
from wm_ros.model_package import ModelPackage
from wm_ros.toy_package import write_toy_package

CONTRACT = StreamContract.load(Path(__file__).parents[2] / 'contracts' / 'tabletop.yaml')


@pytest.fixture(scope='module')
def package(tmp_path_factory: pytest.TempPathFactory) -> ModelPackage:
    return write_toy_package(tmp_path_factory.mktemp('package') / 'toy', CONTRACT)


def filled(package: ModelPackage, batch: int = 1, seed: int = 0) -> MemoryState:
    rng = np.random.default_rng(seed)
    arrays = {spec.name: rng.standard_normal((batch, *spec.shape), np.float32)
              for spec in package.memory_specs}
    return MemoryState(arrays, frames=7, stamp_ns=123)


def same(left: MemoryState, right: MemoryState) -> bool:
    return (left.arrays.keys() == right.arrays.keys()
            and (left.frames, left.stamp_ns) == (right.frames, right.stamp_ns)
            and all(left.arrays[name].tobytes() == right.arrays[name].tobytes()
                    for name in left.arrays))


def test_a_memory_starts_as_zeros_of_the_stated_size(package: ModelPackage) -> None:
    empty = memory.initial(package.memory_specs, batch=3, stamp_ns=5)
    assert empty.batch == 3
    assert empty.nbytes == 3 * package.manifest.state_bytes
    assert (empty.frames, empty.stamp_ns) == (0, 5)
    assert not any(array.any() for array in empty.arrays.values())


def test_a_fork_holds_copies_and_leaves_its_parent_alone(package: ModelPackage) -> None:
    parent = filled(package)
    before = {name: array.copy() for name, array in parent.arrays.items()}
    fork = memory.fork(parent, 4)
    assert fork.batch == 4
    for name, array in fork.arrays.items():
        assert not np.shares_memory(array, parent.arrays[name])
        for copy in array:
            np.testing.assert_array_equal(copy, before[name][0])
    writable = fork.arrays['fast_weights'].copy()
    writable += 1
    assert same(parent, dataclasses.replace(parent, arrays=before))


def test_arrays_of_a_memory_cannot_be_edited(package: ModelPackage) -> None:
    for state in (memory.initial(package.memory_specs), memory.fork(filled(package), 2)):
        with pytest.raises(ValueError, match='read-only'):
            state.arrays['fast_weights'][0] = 1


def test_only_a_single_memory_is_forked(package: ModelPackage) -> None:
    with pytest.raises(ValueError, match='batch 1, found 2'):
        memory.fork(filled(package, batch=2), 3)


def test_select_and_concatenate_undo_each_other(package: ModelPackage) -> None:
    three = filled(package, batch=3)
    apart = [memory.select(three, [i]) for i in (2, 0, 1)]
    assert same(memory.select(memory.concatenate(apart), [1, 2, 0]), three)


def test_memories_of_different_frames_are_not_joined(package: ModelPackage) -> None:
    one = filled(package)
    with pytest.raises(ValueError, match='8 frames at 123 ns'):
        memory.concatenate([one, dataclasses.replace(one, frames=8)])
    with pytest.raises(ValueError, match='at least one'):
        memory.concatenate([])


@pytest.mark.parametrize('bad', [np.nan, np.inf, -np.inf])
def test_a_memory_that_is_not_finite_is_found(package: ModelPackage, bad: float) -> None:
    state = filled(package)
    assert memory.check_finite(state) is state
    state.arrays['fast_weights'][0, 1, 2, 3] = bad
    with pytest.raises(NonFiniteError, match='fast_weights: 1 of 8192 entries'):
        memory.check_finite(state)


def test_the_norm_is_that_of_the_long_memory(package: ModelPackage) -> None:
    state = filled(package, batch=2)
    weights = state.arrays['fast_weights'].astype(np.float64)
    expected = np.sqrt((weights ** 2).sum((1, 2, 3))).max()
    assert memory.norm(state) == pytest.approx(expected, rel=1e-5)
    assert memory.norm(memory.initial(ModelConfig(arm='none').memory_specs())) == 0
    window = memory.initial(ModelConfig(arm='window').memory_specs())
    assert memory.norm(window) == 0
    held = {**window.arrays, 'values': np.ones_like(window.arrays['values'])}
    assert memory.norm(MemoryState(held)) == pytest.approx(held['values'].size ** 0.5)


@pytest.mark.parametrize('batch', [1, 3])
def test_a_saved_memory_comes_back_bit_for_bit(package: ModelPackage, tmp_path: Path,
                                               batch: int) -> None:
    state = filled(package, batch)
    path = tmp_path / 'a.memory'
    saved = memory.save(state, path, package.sha256)
    assert saved.nbytes == path.stat().st_size
    assert same(memory.load(path, package), state)
    assert [item.name for item in tmp_path.iterdir()] == ['a.memory']


def test_saving_replaces_the_old_file(package: ModelPackage, tmp_path: Path) -> None:
    path = tmp_path / 'a.memory'
    memory.save(filled(package, seed=1), path, package.sha256)
    memory.save(filled(package, seed=2), path, package.sha256)
    assert same(memory.load(path, package), filled(package, seed=2))


def test_a_failed_save_leaves_the_old_file_whole(package: ModelPackage, tmp_path: Path,
                                                 monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / 'a.memory'
    memory.save(filled(package), path, package.sha256)

    def full(_: int) -> None:
        raise OSError('disk full')

    monkeypatch.setattr(memory.os, 'fsync', full)
    with pytest.raises(OSError, match='disk full'):
        memory.save(filled(package, seed=1), path, package.sha256)
    assert same(memory.load(path, package), filled(package))
    assert [item.name for item in tmp_path.iterdir()] == ['a.memory']


def test_a_memory_that_is_not_finite_is_not_saved(package: ModelPackage, tmp_path: Path) -> None:
    state = filled(package)
    state.arrays['action'][0, 0] = np.nan
    with pytest.raises(NonFiniteError):
        memory.save(state, tmp_path / 'a.memory', package.sha256)
    assert not list(tmp_path.iterdir())


def test_a_file_cut_anywhere_is_refused(package: ModelPackage, tmp_path: Path) -> None:
    path = tmp_path / 'a.memory'
    memory.save(filled(package), path, package.sha256)
    whole = path.read_bytes()
    for cut in (0, 5, 16, 40, 81, 82, 200, len(whole) // 2, len(whole) - 1):
        path.write_bytes(whole[:cut])
        with pytest.raises(MemoryFileError):
            memory.load(path, package)


def test_a_flipped_bit_anywhere_is_refused(package: ModelPackage, tmp_path: Path) -> None:
    path = tmp_path / 'a.memory'
    memory.save(filled(package), path, package.sha256)
    whole = path.read_bytes()
    for place in (0, 20, 80, 81, 100, len(whole) // 2, len(whole) - 1):
        path.write_bytes(whole[:place] + bytes([whole[place] ^ 4]) + whole[place + 1:])
        with pytest.raises(MemoryFileError):
            memory.load(path, package)


def test_another_packages_memory_is_refused(package: ModelPackage, tmp_path: Path) -> None:
    path = tmp_path / 'a.memory'
    memory.save(filled(package), path, 'f' * 64)
    with pytest.raises(MemoryFileError, match=f'saved for package {"f" * 64}, this one is toy'):
        memory.load(path, package)


def test_a_memory_of_other_shapes_is_refused(package: ModelPackage, tmp_path: Path) -> None:
    path = tmp_path / 'a.memory'
    small = memory.initial(ModelConfig(action_width=11, key_width=32).memory_specs())
    memory.save(small, path, package.sha256)
    with pytest.raises(MemoryFileError, match=r'\(4, 32, 32\).*the model needs'):
        memory.load(path, package)


def test_a_missing_file_says_so(package: ModelPackage, tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        memory.load(tmp_path / 'nothing', package)
