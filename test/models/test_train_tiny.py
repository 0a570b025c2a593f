"""The whole training program on the cups world: recall appears. A loss curve would not tell."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_tiny_training_learns_to_remember(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, '-m', 'training.main', 'tiny', '--work', tmp_path, '--threads', '1'],
        env={**os.environ, 'OMP_NUM_THREADS': '1'},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-2000:]
    summary = json.loads((tmp_path / 'tiny' / 'summary.json').read_text())
    assert summary['mean'] > summary['gate'] == 0.62
    assert set(summary['recall_2afc']) == {'48', '128', '256'}
