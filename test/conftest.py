"""What all tests share: a ROS 2 domain of their own on this machine, logs in a scratch folder."""

import os
import signal
import sys
from collections.abc import Iterator

import pytest

# Read by the generated messages when they are imported: setters then refuse wrong types.
os.environ['ROS_PYTHON_CHECK_FIELDS'] = '1'
if 'ROS_DISTRO' not in os.environ:  # the wheels have no setup.bash that would say where they are
    os.environ.setdefault('AMENT_PREFIX_PATH', sys.prefix)
# Begun in the background of a script, tests inherit that Ctrl-C is ignored, and so would the
# processes that they start and end by it.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture(scope='session', autouse=True)
def ros_domain(tmp_path_factory: pytest.TempPathFactory) -> Iterator[int]:
    """Reserve a domain for this test process and those that it starts; return its number."""
    import domain_coordinator

    with domain_coordinator.domain_id() as domain:
        os.environ['ROS_DOMAIN_ID'] = str(domain)
        os.environ['ROS_AUTOMATIC_DISCOVERY_RANGE'] = 'LOCALHOST'
        os.environ['ROS_LOG_DIR'] = str(tmp_path_factory.mktemp('ros_log'))
        yield domain
