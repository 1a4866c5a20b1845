from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, settings
from small_models import small_masked_lm

from pyroberta import backends

# `python -m pytest` draws the same examples every time, whatever the machine's load: a failure comes from a change.
# "random" draws anew each time; .ci/run does so. A failure is printed with the line that draws it again.
same = {"deadline": None, "database": None, "derandomize": True, "suppress_health_check": [HealthCheck.too_slow]}
settings.register_profile("default", max_examples=25, **same)
settings.register_profile("few", max_examples=5, **same)  # .ci/sanitizers.sh
many = int(os.environ.get("HYPOTHESIS_EXAMPLES", "500"))
settings.register_profile("random", max_examples=many, **{**same, "derandomize": False}, print_blob=True)
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "default"))

# Keras's default, TensorFlow, is not installed where the parity tests run.
os.environ.setdefault("KERAS_BACKEND", "torch")

# A shell has its background jobs ignore Ctrl-C, and `nohup` a terminal's end. Tests send both, to this process and to
# those that it starts.
for number, handler in ((signal.SIGINT, signal.default_int_handler), (signal.SIGHUP, signal.SIG_DFL)):
    if signal.getsignal(number) is signal.SIG_IGN:
        signal.signal(number, handler)


MOST_PROCESSES = 8  # each of them collects all tests, which takes as long as a tenth of the tests themselves


@pytest.hookimpl(tryfirst=True)
def pytest_cmdline_main(config: pytest.Config) -> None:
    """Without a path, pytest runs all tests in as many processes as there are processors, as with `-n auto`.

    With a path, `--pdb`, `-s` or `-n 0`, or without pytest-xdist, it runs them in this process.
    """
    option = config.option
    if not config.pluginmanager.hasplugin("xdist") or hasattr(config, "workerinput"):
        return
    is_all = config.args_source is pytest.Config.ArgsSource.TESTPATHS
    is_free = option.numprocesses is None and option.dist == "no"
    if is_all and is_free and not option.usepdb and option.capture != "no":
        option.numprocesses, option.maxprocesses = "auto", option.maxprocesses or MOST_PROCESSES
        option.dist = "worksteal"  # each process gets a part of the files in their order: few fixtures are made twice
    if option.numprocesses or option.tx:  # NumPy's threads of one process would take the others' processors
        os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")


# What shows the extension's threads, beside the tests that say by themselves what they need.
SHOWS_THREADS = (
    "pyroberta.backends.get_num_threads", "pyroberta.backends.set_num_threads",
    "test_every_python_block_runs[docs/backends.md]",
)  # fmt: skip


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Where the extension was not built, what shows it is skipped."""
    ((is_available, reason),) = (rest for name, *rest in backends() if name == "native")
    for item in items:
        if item.name in SHOWS_THREADS and not is_available:
            item.add_marker(pytest.mark.skip(reason=f"pyroberta._native is not built: {reason}"))


@pytest.hookimpl(wrapper=True)
def pytest_collect_file() -> Iterator[Any]:
    """Collects no doctests of test modules, since a module that cannot be imported would count as skipped then."""
    return [collector for collector in (yield) if type(collector).__name__ != "DoctestModule"]


@pytest.fixture(scope="session", autouse=True)
def _compiled(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """PYTHONDONTWRITEBYTECODE would have each process that a test starts compile all modules: they share a folder."""
    if not os.environ.get("PYTHONDONTWRITEBYTECODE"):
        yield
        return
    folder = tmp_path_factory.getbasetemp()
    folder = folder.parent if "PYTEST_XDIST_WORKER" in os.environ else folder
    with pytest.MonkeyPatch.context() as patch:
        patch.delenv("PYTHONDONTWRITEBYTECODE")
        patch.setenv("PYTHONPYCACHEPREFIX", str(folder / "compiled"))
        yield


@pytest.fixture(scope="session")
def small_preset(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A directory that holds a small model; nobody writes into it."""
    directory = tmp_path_factory.mktemp("presets") / "small"
    small_masked_lm(dtype="float32").save_to_preset(directory)
    return directory


@pytest.fixture(scope="session")
def worker(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    """What loads bad presets, each in its turn; it has loaded a sound one of every kind before."""
    from bad_presets import SOUND
    from reading_worker import Worker

    directory = tmp_path_factory.mktemp("sound")
    worker = Worker([(sound.load, sound.make(directory / f"{i}")) for i, sound in enumerate(SOUND.values())])
    yield worker
    worker.close()


@pytest.fixture(scope="session")
def keras():
    """Keras on torch's backend."""
    return pytest.importorskip("keras")
