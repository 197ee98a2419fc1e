"""One thread for each test process, and property-based tests that take the same examples everywhere."""

import os
import socket
import zlib

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
def port_of_its_own(request, monkeypatch):
    """A port for runs of several processes that nobody else is given before they listen.

    Left to themselves they take a free one of those that the system hands out, and may lose it again while they start.
    """
    first = 20_000 + zlib.crc32(f"{request.node.nodeid}{os.getpid()}".encode()) % 10_000
    for port in range(first, first + 100):
        with socket.socket() as probe:
            if probe.connect_ex(("127.0.0.1", port)):
                monkeypatch.setenv("MASTER_PORT", str(port))
                return
