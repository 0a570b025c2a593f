"""Say in plain words what this machine lacks for the set-up: Python, its headers, a C++ compiler.

Runs on whatever `python3` there is, so it keeps to syntax that old versions read.
"""

import os
import shutil
import sys
import sysconfig


def problems():
    """Return one sentence for each thing that is missing."""
    found = '%d.%d at %s' % (sys.version_info[0], sys.version_info[1], sys.executable)
    if sys.version_info[:2] not in ((3, 11), (3, 12)):
        return ['Python 3.11 or 3.12 is needed, found %s: make PYTHON=python3.12 ...' % found]
    missing = []
    try:
        import ensurepip  # noqa: F401
        import venv  # noqa: F401
    except ImportError:
        missing.append('Python %s has no venv module: apt install python3-venv' % found)
    header = os.path.join(sysconfig.get_path('include'), 'Python.h')
    if not os.path.exists(header):
        missing.append('Python %s has no headers (%s): apt install python3-dev' % (found, header))
    compiler = os.environ.get('CXX') or 'c++'
    if not (shutil.which(compiler) or shutil.which('g++') or shutil.which('clang++')):
        missing.append('no C++ compiler (looked for %s, g++, clang++): apt install g++' % compiler)
    return missing


if __name__ == '__main__':
    for problem in problems():
        print('wm_ros set-up: ' + problem, file=sys.stderr)
    sys.exit(1 if problems() else 0)
