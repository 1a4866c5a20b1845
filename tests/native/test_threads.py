"""The threads of the C++ backend: how many there are, and what happens where they cannot be had or are forked away."""

from __future__ import annotations

import ast
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from native_extension import needs_native

import pyroberta
from pyroberta.backends import BackendError, get_ops

pytestmark = needs_native
linux = pytest.mark.skipif(sys.platform != "linux", reason="affinity masks and control groups are Linux's")


def run(code: str, *arguments: str, **environment: str | None) -> str:
    """What a fresh process prints. None takes a variable away."""
    env = {**os.environ, **{name: value for name, value in environment.items() if value is not None}}
    for name in (name for name, value in environment.items() if value is None):
        env.pop(name, None)
    command = [sys.executable, "-c", code, *arguments]
    done = subprocess.run(command, env=env, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


# --- how many ---------------------------------------------------------------------------------------------------------

COUNT = "import pyroberta; print(pyroberta.get_num_threads())"


def test_the_number_is_the_variables_ours_before_openmps():
    assert run(COUNT, PYROBERTA_NUM_THREADS="3", OMP_NUM_THREADS="5") == "3"
    assert run(COUNT, PYROBERTA_NUM_THREADS=None, OMP_NUM_THREADS="5") == "5"
    assert run(COUNT, PYROBERTA_NUM_THREADS="", OMP_NUM_THREADS="5,2") == "5"


@linux
def test_without_a_variable_the_number_is_that_of_the_affinity_mask():
    code = f"import os; os.sched_setaffinity(0, {{min(os.sched_getaffinity(0))}}); {COUNT}"
    assert run(code, PYROBERTA_NUM_THREADS=None, OMP_NUM_THREADS=None) == "1"


@linux
def test_a_thread_that_is_pinned_neither_limits_the_number_nor_pins_the_workers():
    code = """if 1:
        import contextlib, os, signal, threading, time
        import numpy as np
        import pyroberta
        from pyroberta.backends import get_ops
        signal.alarm(900)
        mask = os.sched_getaffinity(0)
        pyroberta.set_num_threads(3)
        x = np.ones((600, 600), np.float32)
        def work():
            os.sched_setaffinity(0, {min(mask)})
            get_ops("native").linear_forward(x, x, x[0])
        thread = threading.Thread(target=work)
        thread.start(), thread.join()
        def masks():
            found = set()
            for task in os.listdir("/proc/self/task"):
                with contextlib.suppress(ProcessLookupError):  # it has ended meanwhile
                    found.add(frozenset(os.sched_getaffinity(int(task))))
            return found
        while masks() != {frozenset(mask)}:  # a thread that begins, or ends, takes a moment
            time.sleep(0.01)
        print("done")
    """
    assert run(code, OPENBLAS_NUM_THREADS="1") == "done"
    count = "print(pyroberta.get_num_threads())"
    pinned = "threading.Thread(target=lambda: (os.sched_setaffinity(0, {0}), pyroberta.get_num_threads()))"
    code = f"import os, threading, pyroberta; t = {pinned}; t.start(); t.join(); {count}"
    processors = str(len(os.sched_getaffinity(0)))
    assert run(code, PYROBERTA_NUM_THREADS=None, OMP_NUM_THREADS=None) == processors


@linux
def test_a_forked_child_counts_its_own_processors():
    code = """if 1:
        import os, sys, pyroberta
        pyroberta.get_num_threads()
        if os.fork():
            sys.exit(os.waitstatus_to_exitcode(os.wait()[1]))
        os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})
        print(pyroberta.get_num_threads())
    """
    assert run(code, PYROBERTA_NUM_THREADS=None, OMP_NUM_THREADS=None) == "1"


@pytest.mark.parametrize("text", ["0", "-1", "two", "1.5", " ", "99999999999999999999"])
def test_a_number_that_is_none_is_named(text):
    code = """if 1:
        from pyroberta.backends import BackendError, get_ops
        for name in ("native", "auto", "native"):
            try:
                get_ops(name)
            except BackendError as error:
                print(repr(str(error)))
    """
    errors = run(code, PYROBERTA_NUM_THREADS=text).splitlines()
    assert len(errors) == 3
    for error in errors:
        assert f"PYROBERTA_NUM_THREADS is '{text}'; it should be the number of threads" in ast.literal_eval(error)


def test_doctor_tells_of_a_number_that_is_none():
    code = "from pyroberta.cli.doctor import report; print(report()['backends']['auto'])"
    assert "PYROBERTA_NUM_THREADS is 'two'" in run(code, PYROBERTA_NUM_THREADS="two")


def test_openmps_number_is_never_more_than_can_be_set():
    code = "import pyroberta as p; p.set_num_threads(p.get_num_threads()); print(p.get_num_threads())"
    assert run(code, PYROBERTA_NUM_THREADS=None, OMP_NUM_THREADS="99999999999") == "65536"


def test_set_num_threads_changes_the_number_and_no_bit():
    before = pyroberta.get_num_threads()
    rng = np.random.default_rng(0)
    x, kernel, bias = (rng.standard_normal(shape).astype(np.float32) for shape in ((300, 200), (200, 400), (400,)))
    found = []
    try:
        for threads in (1, 2, 5):
            pyroberta.set_num_threads(np.int64(threads))
            assert pyroberta.get_num_threads() == threads
            found.append(get_ops("native").linear_forward(x, kernel, bias)[0])
    finally:
        pyroberta.set_num_threads(before)
    assert np.array_equal(found[0], found[1])
    assert np.array_equal(found[0], found[2])


@pytest.mark.parametrize("threads", [0, -3, 1 << 17, 1 << 40])
def test_a_number_out_of_range_is_refused(threads):
    with pytest.raises(ValueError, match=rf"threads should be a whole number from 1 to 65536, got {threads}"):
        pyroberta.set_num_threads(threads)


@pytest.mark.parametrize("threads", [2.0, "2", None, True])
def test_a_number_of_another_kind_is_refused(threads):
    with pytest.raises(TypeError, match=r"threads should be a whole number from 1 on, got "):
        pyroberta.set_num_threads(threads)


def test_without_the_extension_there_is_nothing_to_set(monkeypatch):
    from native_extension import replace_extension

    replace_extension(monkeypatch, None)
    for call in (pyroberta.get_num_threads, lambda: pyroberta.set_num_threads(2)):
        with pytest.raises(BackendError, match="'native' is not available"):
            call()


# --- control groups ---------------------------------------------------------------------------------------------------


@pytest.fixture
def processors(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """processors(groups, files): the count where /proc/self/cgroup holds `groups` and /sys/fs/cgroup holds `files`."""
    from pyroberta import _native

    def count(groups: str, files: dict[str, str]) -> int:
        for name, content in [("proc/self/cgroup", groups), *((f"sys/fs/cgroup/{k}", v) for k, v in files.items())]:
            path = tmp_path / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(content)
        return _native.processors(str(tmp_path))

    return count


@linux
@pytest.mark.parametrize(
    ("groups", "files"),
    [
        ("0::/\n", {"cpu.max": "150000 100000\n"}),  # a container with a namespace of its own; 1.5 is rounded down
        ("0::/a/b\n", {"a/b/cpu.max": "max 100000\n", "a/cpu.max": "100000 100000\n", "cpu.max": "max 100000\n"}),
        ("0::/a/b/\n", {"a/b/cpu.max": "20000 100000\n"}),  # less than one processor
        ("0::/of/the/host\n", {"cpu.max": "199999 100000\n"}),
        ("0::/../above\n", {"cpu.max": "100000 100000\n"}),
        ("4:cpu,cpuacct:/x\n", {"cpu,cpuacct/x/cpu.cfs_quota_us": "9", "cpu,cpuacct/x/cpu.cfs_period_us": "9"}),
        ("1:cpu:/docker/1\n", {"cpu/cpu.cfs_quota_us": "100000", "cpu/cpu.cfs_period_us": "100000"}),
    ],
)  # fmt: skip
def test_the_least_quota_of_a_group_and_those_above_it_limits_the_number(processors, groups, files):
    assert processors(groups, files) == 1


@linux
@pytest.mark.parametrize(
    ("groups", "files"),
    [
        ("0::/\n", {}),
        ("", {}),
        ("nonsense\n::\n0::\n", {"cpu.max": "max 100000\n"}),
        ("0::/\n", {"cpu.max": "many few\n"}),
        ("0::/\n", {"cpu.max": "100000 0\n"}),
        ("0::/\n", {"cpu.max": "9999999999 1\n"}),
        ("2:cpu:/\n", {"cpu/cpu.cfs_quota_us": "-1", "cpu/cpu.cfs_period_us": "100000"}),
        ("2:memory:/a\n", {"memory/a/cpu.cfs_quota_us": "1", "memory/a/cpu.cfs_period_us": "1"}),
    ],
)
def test_what_sets_no_quota_limits_nothing(processors, groups, files):
    assert processors(groups, files) == len(os.sched_getaffinity(0))


# --- forks ------------------------------------------------------------------------------------------------------------

# A process that hangs is stopped by the alarm, which no handler catches.
FORKS = """
import multiprocessing, os, signal, sys, threading, warnings
import numpy as np
import pyroberta
warnings.simplefilter("ignore", DeprecationWarning)  # from Python 3.12 on: a fork beside threads
pyroberta.set_num_threads(3)
model = pyroberta.MaskedLM.from_preset("roberta_tiny_en", dropout=0.1, backend="native")
TEXTS = ["The President of the United <mask> spoke to Congress."] * 8
FIT = [f"We must work together, and number {i} is the year in which we begin." for i in range(8)]

def use(deeper=0):
    answers = [filling.token_str for filling in model.fill_mask(TEXTS[0])]
    many = [[filling.token_str for filling in found] for found in model.fill_mask(TEXTS)]
    loss = model.fit(FIT, batch_size=4, verbose=0).history["loss"][0]
    assert np.isfinite(loss) and many[0] == answers and answers[0] == " States", (loss, answers)
    if deeper:
        child(deeper - 1)

def child(deeper=0):
    process = os.fork()
    if not process:
        signal.alarm(900)
        try:
            use(deeper)
        except BaseException:
            sys.excepthook(*sys.exc_info())
            os._exit(1)
        os._exit(0)
    status = os.waitstatus_to_exitcode(os.waitpid(process, 0)[1])
    assert status == 0, status
"""


def test_a_forked_child_and_its_child_work_after_the_parent_did():
    code = FORKS + "use(); child(deeper=1); use(); print('done')"
    assert run(code) == "done"


def test_a_fork_amid_the_ops_of_other_threads_works():
    code = (
        FORKS
        + """
go_on = True

def work():
    model = pyroberta.MaskedLM.from_preset("roberta_tiny_en", backend="native")
    while go_on:
        model.fit(FIT, batch_size=4, verbose=0)
        model.fill_mask(TEXTS[0])

threads = [threading.Thread(target=work, daemon=True) for _ in range(2)]
for thread in threads:
    thread.start()
for _ in range(8):
    child()
go_on = False
for thread in threads:
    thread.join()
print("done")
"""
    )
    assert run(code) == "done"


def test_a_fork_amid_an_import_of_another_thread_leaves_the_child_able_to_import(tmp_path):
    (tmp_path / "slow_module.py").write_text("import threading\nbegun.set()\nmay_end.wait()\n")
    code = f"""if 1:
        import builtins, os, signal, sys, threading
        import pyroberta
        sys.path.insert(0, {str(tmp_path)!r})
        builtins.begun, builtins.may_end = threading.Event(), threading.Event()
        importing = threading.Thread(target=__import__, args=("slow_module",))
        importing.start()
        begun.wait()
        threading.Timer(0.2, may_end.set).start()
        process = os.fork()
        if not process:
            signal.alarm(60)
            import slow_module
            os._exit(0)
        importing.join()
        print(os.waitstatus_to_exitcode(os.waitpid(process, 0)[1]))
    """
    assert run(code) == "0"


@pytest.mark.parametrize("method", ["fork", "spawn"])
def test_processes_of_a_pool_work_after_the_parent_did(method, tmp_path):
    script = tmp_path / "script.py"
    script.write_text(
        FORKS
        + f"""
def answer(text):
    signal.alarm(900)
    return model.fill_mask(text)[0].token_str

if __name__ == "__main__":
    use()
    with multiprocessing.get_context({method!r}).Pool(2) as pool:
        assert set(pool.map(answer, TEXTS)) == {{" States"}}
    print("done")
"""
    )
    done = subprocess.run([sys.executable, str(script)], capture_output=True, text=True, check=False)
    assert done.stdout.strip() == "done", done.stderr


# --- the end of the process -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("backend", ["native", "native-blas"])
def test_a_program_ends_while_a_daemon_thread_is_within_an_op(backend):
    code = f"""if 1:
        import threading, time
        import numpy as np
        from pyroberta.backends import get_ops
        ops, x = get_ops({backend!r}), np.ones((700, 700), np.float32)
        begun = threading.Event()
        def work():
            while True:
                ops.linear_forward(x, x, x[0])
                begun.set()
        for _ in range(2):
            threading.Thread(target=work, daemon=True).start()
        begun.wait()
        print("done")
    """
    for _ in range(3):
        assert run(code, OPENBLAS_NUM_THREADS="1") == "done"


# --- native-blas ------------------------------------------------------------------------------------------------------


def test_an_interrupt_leaves_no_thread_on_numpys_blas():
    """An alarm at any moment of a loop of products; afterwards `native` gives its own bits."""
    code = """if 1:
        import signal
        import numpy as np
        from pyroberta.backends import get_ops
        rng = np.random.default_rng(0)
        x = rng.standard_normal((70, 900)).astype(np.float32)  # a sum so long is added up in different pieces
        kernel, bias = rng.standard_normal((900, 80)).astype(np.float32), np.zeros(80, np.float32)
        native, blas = get_ops("native"), get_ops("native-blas")
        expected = native.linear_forward(x, kernel, bias)[0]
        assert not np.array_equal(expected, blas.linear_forward(x, kernel, bias)[0])
        class Alarm(Exception): pass
        def ring(*_):
            raise Alarm
        signal.signal(signal.SIGALRM, ring)
        for i in range(100):
            try:
                signal.setitimer(signal.ITIMER_REAL, 1e-4 + 1e-6 * i)
                while True:
                    blas.linear_forward(x, kernel, bias)
            except Alarm:
                pass
            assert np.array_equal(native.linear_forward(x, kernel, bias)[0], expected), i
        print("done")
    """
    assert run(code) == "done"


def test_numpys_blas_has_its_threads_back_after_a_call_and_in_a_forked_child():
    code = """if 1:
        import ctypes, os, sys, threading, warnings
        import numpy as np
        from pyroberta.backends import get_ops
        warnings.simplefilter("ignore", DeprecationWarning)
        names = ("numpy._core._multiarray_umath", "numpy.core._multiarray_umath")
        umath = ctypes.CDLL(next(sys.modules[name].__file__ for name in names if name in sys.modules))
        count = getattr(umath, "scipy_openblas_get_num_threads64_", None)
        if count is None:  # another BLAS, whose threads are left alone
            print("True [0]")
            sys.exit()
        before = count()
        ops, x = get_ops("native-blas"), np.ones((400, 400), np.float32)
        ops.linear_forward(x, x, x[0])
        after, go_on = count(), True
        def work():
            while go_on:
                ops.linear_forward(x, x, x[0])
        thread = threading.Thread(target=work)
        thread.start()
        codes = set()
        for _ in range(20):
            child = os.fork()
            if not child:
                os._exit(0 if count() == before else 1)
            codes.add(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
        go_on = False
        thread.join()
        print(before == after == count(), sorted(codes))
    """
    assert run(code, OPENBLAS_NUM_THREADS="2") == "True [0]"


# --- threads that cannot be had ---------------------------------------------------------------------------------------


@linux
def test_where_the_system_starts_no_thread_the_caller_does_all_the_work():
    # The stack of a new thread is as large as that of the process may grow, which is more than the address space holds.
    limited = """if 1:
        import os, resource, sys
        resource.setrlimit(resource.RLIMIT_STACK, (1 << 40, resource.getrlimit(resource.RLIMIT_STACK)[1]))
        os.execv(sys.executable, [sys.executable, "-c", sys.argv[1]])
    """
    code = """if 1:
        import resource
        import numpy as np
        import pyroberta
        from pyroberta.backends import get_ops, backends
        resource.setrlimit(resource.RLIMIT_AS, (1 << 36, resource.getrlimit(resource.RLIMIT_AS)[1]))
        x = np.ones((300, 200), np.float32)
        y, _ = get_ops("native").linear_forward(x, np.ones((200, 400), np.float32), np.zeros(400, np.float32))
        assert (y == 200.0).all()
        print(pyroberta.get_num_threads(), dict((name, about) for name, _, about in backends())["native"])
    """
    number, _, about = run(limited, code, PYROBERTA_NUM_THREADS="4", OPENBLAS_NUM_THREADS="1").partition(" ")
    assert number == "4"
    assert about.endswith("threads 4 (the system starts no more than 1)")
