"""Where a figure was taken: machine, load, resident memory, commit. Reads the system; knows no
model.
"""

from __future__ import annotations

import os
import platform
import subprocess
from importlib import metadata
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import psutil

from wm_ros.share import REPOSITORY

LIBRARIES = ('numpy', 'onnxruntime', 'onnxruntime-gpu', 'openvino')
FLAGS = ('avx2', 'avx512f', 'avx512_vnni', 'avx512_bf16', 'amx_bf16', 'amx_int8')
CPU_INFO = Path('/proc/cpuinfo')


def describe() -> dict[str, Any]:
    """Return processor, what it computes fast, cores that this process may use, memory, versions
    of the libraries.
    """
    info: dict[str, str] = {}
    if CPU_INFO.is_file():
        pairs = (line.partition(':') for line in CPU_INFO.read_text().splitlines())
        info = {name.strip(): value.strip() for name, _, value in pairs}
    flags = set(info.get('flags', '').split())
    return {
        'cpu': info.get('model name', platform.processor() or platform.machine()),
        'flags': [flag for flag in FLAGS if flag in flags],
        'cores': len(os.sched_getaffinity(0)),
        'memory_gib': round(psutil.virtual_memory().total / 2**30, 1),
        'system': platform.platform(terse=True),
        'python': platform.python_version(),
        'libraries': {name: _version(name) for name in LIBRARIES if _version(name)},
    }


def load() -> list[float]:
    """Return the processes that wanted a core, averaged over 1, 5 and 15 minutes."""
    return [round(value, 2) for value in os.getloadavg()]


def rss_bytes() -> int:
    """Return the resident memory of this process."""
    return int(psutil.Process().memory_info().rss)


def bytes_per_frame(frames: npt.ArrayLike, rss_bytes: npt.ArrayLike) -> float:
    """Return the growth of resident memory: the median slope over all pairs of readings
    (Theil-Sen), which a single step does not move.

    Args:
        frames: how many were done at each reading, growing, not all the same.
        rss_bytes: resident memory at each reading.
    """
    done, rss = np.asarray(frames, np.int64), np.asarray(rss_bytes, np.float64)
    first, second = np.triu_indices(len(done), 1)
    apart = done[second] - done[first]
    return float(np.median((rss[second] - rss[first])[apart > 0] / apart[apart > 0]))


def commit(besides: tuple[str, ...] = ()) -> str:
    """Return the checkout's commit, `-dirty` where files differ; `unknown` outside a checkout.

    Args:
        besides: paths in the repository that may differ: what the measured work itself writes.
    """
    left_out = (f':(exclude){path}' for path in besides)
    try:
        name = _git('describe', '--always', '--abbrev=12')
        differs = _git('status', '--porcelain', '--untracked-files=no', '--', '.', *left_out)
    except (OSError, subprocess.CalledProcessError):
        return 'unknown'
    return f'{name}-dirty' if differs else name


def _git(*arguments: str) -> str:
    command = ['git', '--no-optional-locks', '-C', str(REPOSITORY), *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()


def _version(distribution: str) -> str:
    try:
        return metadata.version(distribution)
    except metadata.PackageNotFoundError:
        return ''
