"""Reference runs of commands; processes are forked from one server that has done the heavy imports."""

import functools

import pytest

from benchmarks.faults import commands, log_of, make_inputs, run


@pytest.fixture(scope="session")
def undisturbed(tmp_path_factory):
    """Name of a command -> (its arguments for a folder, a folder in which it ran without a disturbance)."""
    place = tmp_path_factory.mktemp("undisturbed")
    every = commands(make_inputs(place / "inputs"), quick_export=True)

    @functools.cache
    def of(name):
        folder = place / name
        assert run(every[name](folder), folder) == 0, log_of(folder)
        return every[name], folder

    return of
