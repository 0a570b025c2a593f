"""Make the ROS wheels' cmake files name this machine's Python instead of their builder's.

The export files of the message wheels hold include directories of the machine that built them;
cmake refuses targets with directories that do not exist. Run after pip, with the environment's
Python.
"""

import re
import sys
import sysconfig
from pathlib import Path

import numpy

NUMPY = re.compile(r'/opt/python/cp\d+-cp\d+/lib/python[\d.]+/site-packages/numpy/_?core/include')
PYTHON = re.compile(r'/opt/python/cp\d+-cp\d+/include/python[\d.]+')


def main() -> None:
    """Rewrite the files below sys.prefix/share that need it; a second run changes nothing."""
    for path in Path(sys.prefix, 'share').rglob('export_*Export.cmake'):
        text = path.read_text()
        fixed = PYTHON.sub(sysconfig.get_path('include'), NUMPY.sub(numpy.get_include(), text))
        if fixed != text:
            path.write_text(fixed)


if __name__ == '__main__':
    main()
