"""One thread per test process, and property-based tests with the same examples everywhere."""

import os
import socket
import zlib
from unittest.mock import patch

import pytest
from hypothesis import HealthCheck, settings

# on few cores, synchronising several threads costs more than it gains
os.environ.setdefault("OMP_NUM_THREADS", "1")

settings.register_profile(
    "fixed", derandomize=True, deadline=None, database=None, max_examples=40,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.function_scoped_fixture],
)  # fmt: skip
settings.load_profile("fixed")


@pytest.fixture(autouse=True)
def port_of_its_own(request):
    """A separate port for multi-process runs, outside the system's ephemeral range.

    By default they choose an ephemeral port, which another process may take before they listen. Changes that a test
    makes to the environment are undone too: a LOCAL_RANK set by Lightning would prevent later tests from starting
    their second process.
    """
    first = 20_000 + zlib.crc32(f"{request.node.nodeid}{os.getpid()}".encode()) % 10_000
    for port in range(first, first + 100):
        with socket.socket() as probe:
            if probe.connect_ex(("127.0.0.1", port)):
                with patch.dict(os.environ, MASTER_PORT=str(port)):
                    yield
                return
