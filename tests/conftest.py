"""One thread for each test process, and property-based tests that take the same examples everywhere."""

import os

from hypothesis import HealthCheck, settings

# on few cores, threads that wait for each other cost more than they bring
os.environ.setdefault("OMP_NUM_THREADS", "1")

settings.register_profile(
    "fixed", derandomize=True, deadline=None, database=None, max_examples=40,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.function_scoped_fixture],
)  # fmt: skip
settings.load_profile("fixed")
