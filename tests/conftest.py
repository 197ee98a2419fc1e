"""One thread per test process, and property-based tests with the same examples everywhere."""

import os
import socket
import zlib
from unittest.mock import patch

import pytest
from hypothesis import HealthCheck, settings

# on few cores, threads that wait for each other cost more than they bring
os.environ.setdefault("OMP_NUM_THREADS", "1")

settings.register_profile(
    "fixed", derandomize=True, deadline=None, database=None, max_examples=40,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.function_scoped_fixture],
)  # fmt: skip
settings.load_profile("fixed")


@pytest.fixture(autouse=True)
def port_of_its_own(request):
    """A port for runs of several processes that is not given to anyone else before they listen.

    By default they choose one of the system's ephemeral ports, and may lose it while they start. Changes that a test
    makes to the environment are undone too: a LOCAL_RANK set by Lightning would keep the runs of later tests from
    starting their second process.
    """
    first = 20_000 + zlib.crc32(f"{request.node.nodeid}{os.getpid()}".encode()) % 10_000
    for port in range(first, first + 100):
        with socket.socket() as probe:
            if probe.connect_ex(("127.0.0.1", port)):
                with patch.dict(os.environ, MASTER_PORT=str(port)):
                    yield
                return
