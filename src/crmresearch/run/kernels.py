"""Kernels: over Unix sockets, and forked from one process that has imported the stack, where a system can fork.

What a notebook imports is most of what a short one costs. The fork server (``python -m crmresearch.run.kernels FD``)
imports it once for all kernels of a run or sweep. A kernel begins as a cold one would: its own environment, folder,
output and process group, random generators seeded anew. It is killed with whoever asked for it, and with the server.
"""

from __future__ import annotations

import contextlib
import ctypes
import gc
import importlib
import json
import os
import runpy
import select
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping
from typing import Any, ClassVar

from jupyter_client.kernelspec import KernelSpec
from jupyter_client.manager import AsyncKernelManager
from jupyter_client.provisioning import LocalProvisioner

from crmresearch.data import engines

SCRATCH = "CRMRESEARCH_SCRATCH"  # where a worker keeps its sockets; the runner removes it whatever happens
SERVER = "CRMRESEARCH_KERNELS"  # socket of the fork server; without it kernels start cold
FORKS = sys.platform == "linux"  # Windows cannot, and the numerical library of macOS does not survive it
START = 120.0  # seconds for a kernel, or the server, to be there
WIDTH = 32  # bytes of each number that the server tells: a kernel's, and how it ended, which may come at once
# One run must not change another: the same hash seed, time zone, thread count and figure backend everywhere.
ENVIRONMENT = {
    "PYTHONHASHSEED": "0",
    "TZ": "UTC",
    "PYTHONUTF8": "1",
    "OMP_NUM_THREADS": "1",
    "OPENBLAS_NUM_THREADS": "1",
    "MKL_NUM_THREADS": "1",
    "MPLBACKEND": "module://matplotlib_inline.backend_inline",
    "PYDEVD_DISABLE_FILE_VALIDATION": "1",  # silences a debugger hint on frozen modules
}
KERNELSPEC = {"display_name": "Python 3", "language": "python", "name": "python3"}
# not the backend of figures, which finds the shell it shows them in when it is first imported
STACK = (
    "numpy", "pandas.io.formats.string", "pyarrow.parquet", "scipy.stats", "scipy.optimize", "statsmodels.api",
    "lifelines", "seaborn", *engines.MODULES, "yaml", "PIL.PngImagePlugin",
    "matplotlib.pyplot", "matplotlib.backends.backend_agg", "matplotlib.backends.backend_svg",
    "ipykernel.ipkernel", "ipykernel.kernelapp", "ipykernel.zmqshell",
    "crmresearch.notebook", "crmresearch.data.bank", "crmresearch.data.reductions.expressions",
    "crmresearch.figures.kinds", "crmresearch.figures.telling", "crmresearch.lab.simulated.estimands",
)  # fmt: skip


def scratch_folder(inside: str | None = None) -> str:
    """Make a temporary folder with a short name: the path of a socket may have about a hundred characters."""
    return tempfile.mkdtemp(prefix="crm-", dir=inside or ("/tmp" if os.path.isdir("/tmp") else None))


class Manager(AsyncKernelManager):
    """Starts this interpreter's kernel, whatever kernels are registered, over Unix sockets.

    Attributes
    ----------
    live : list of Manager
        Those of this process, so that their kernels can be killed from outside.
    """

    live: ClassVar[list[Manager]] = []

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        if os.name == "posix":  # no ports to race for, and nothing on the network
            folder = scratch_folder(os.environ.get(SCRATCH))
            self.transport, self.connection_file = "ipc", os.path.join(folder, "k.json")
        self.provisioner = Provisioner(kernel_spec=self.kernel_spec, parent=self)
        self.live.append(self)

    @property
    def kernel_spec(self) -> KernelSpec:
        """How a cold kernel is started."""
        argv = [sys.executable, "-m", "crmresearch.run.kernels", "-f", "{connection_file}"]
        return KernelSpec(argv=argv, display_name=KERNELSPEC["display_name"], language=KERNELSPEC["language"])

    @classmethod
    def kill_all(cls) -> None:
        """Kill kernels and what their cells have started: each leads a process group of its own."""
        for manager in cls.live:
            pid = getattr(manager.provisioner, "pid", None)
            if pid:
                with contextlib.suppress(OSError):
                    os.killpg(pid, signal.SIGKILL) if hasattr(os, "killpg") else os.kill(pid, signal.SIGTERM)

    @classmethod
    def forget_all(cls) -> None:
        """Remove the folders of the sockets of kernels that are gone."""
        for manager in cls.live:
            if manager.transport == "ipc":
                shutil.rmtree(os.path.dirname(manager.connection_file), ignore_errors=True)
        cls.live.clear()


class Provisioner(LocalProvisioner):
    """Has a kernel forked by the server, if there is one; starts it cold otherwise."""

    async def launch_kernel(self, cmd: list[str], **kwargs: Any) -> Any:
        """Launch a kernel with a command, of which a forked one reads what stands behind the module."""
        if place := os.environ.get(SERVER):
            try:
                forked: Any = Forked(place, cmd[3:], kwargs["env"], str(kwargs.get("cwd") or os.getcwd()))
            except OSError as error:  # the kernel must run, if not as cheaply
                print(f"no kernel could be forked ({error.strerror or error}); this one starts cold", file=sys.stderr)
            else:
                self.process, self.pid, self.pgid = forked, forked.pid, forked.pid
                return self.connection_info
        return await super().launch_kernel(cmd, **kwargs)


class Forked:
    """A forked kernel, with what jupyter_client asks of a ``Popen``; the server kills it when nobody asks any more."""

    stdin = stdout = stderr = None

    def __init__(self, place: str, arguments: list[str], environment: dict[str, str], folder: str) -> None:
        self.returncode: int | None = None
        self.server = socket.socket(socket.AF_UNIX)
        self.server.settimeout(START)
        self.server.connect(place)
        wanted = json.dumps({"arguments": arguments, "environment": environment, "folder": folder}).encode() + b"\n"
        sent = socket.send_fds(self.server, [wanted], [1, 2])
        if sent < len(wanted):  # asked of a kernel that has ended by now, even nothing more is refused
            self.server.sendall(wanted[sent:])
        told = self.server.recv(WIDTH)
        if not told:
            raise ConnectionError(0, "the server is gone")
        self.pid = int(told)
        self.server.settimeout(None)

    def poll(self) -> int | None:
        """Return the exit status, None while the kernel is there."""
        if self.returncode is None and select.select([self.server], [], [], 0)[0]:
            self.wait()
        return self.returncode

    def wait(self) -> int:
        """Wait for the exit status; that of a killed server's kernel is -9, as the kernel is killed with it."""
        if self.returncode is None:
            told = b""
            with contextlib.suppress(ConnectionError):
                told = self.server.recv(WIDTH)
            self.returncode = int(told or -signal.SIGKILL)
            self.server.close()
        return self.returncode

    def send_signal(self, number: int) -> None:
        """Do nothing: this is asked for where the kernel's process group is gone."""


class Server:
    """The fork server of this process, which ends with it.

    Parameters
    ----------
    environment : mapping
        What the stack is imported under.
    """

    def __init__(self, environment: Mapping[str, str]) -> None:
        self.folder = scratch_folder()
        self.place = os.path.join(self.folder, "s")
        with socket.socket(socket.AF_UNIX) as listener:
            listener.bind(self.place)
            listener.listen(64)  # who connects while the stack is imported waits
            self.process = subprocess.Popen(
                [sys.executable, "-m", "crmresearch.run.kernels", str(listener.fileno())],
                stdin=subprocess.PIPE,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
                env={**environment, "JE_ARROW_MALLOC_CONF": "background_thread:false"},
                pass_fds=[listener.fileno()],
            )

    def stop(self) -> None:
        """End the server and its kernels."""
        assert self.process.stdin is not None
        self.process.stdin.close()
        try:
            self.process.wait(5)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
        shutil.rmtree(self.folder, ignore_errors=True)


# --- the server's side -----------------------------------------------------------------------------------------------


def warm() -> None:
    """Import what notebooks import, and leave no thread: none would live on in a forked process, its locks would."""
    for name in STACK:
        with contextlib.suppress(Exception):  # a notebook that needs it says why it cannot be had
            importlib.import_module(name)
    engines.workers(False)
    gc.collect()
    gc.freeze()  # pages that no collection touches stay shared


def fresh(environment: dict[str, str], folder: str) -> None:
    """Make a forked process what a new one would be."""
    import numpy as np

    die_with_parent()
    os.environ.clear()
    os.environ.update(environment)
    time.tzset()
    os.chdir(folder)
    np.random.seed()  # the generator that all share; that of the module random is seeded by the fork
    engines.workers(True)


def serve(listener: socket.socket) -> dict[str, Any] | None:
    """Fork a kernel for whoever connects, until standard input closes; in the kernel, return what was asked for."""
    woken, waker = socket.socketpair()
    waker.setblocking(False)
    signal.set_wakeup_fd(waker.fileno())
    signal.signal(signal.SIGCHLD, lambda *_: None)
    kernels: dict[socket.socket, int] = {}
    while True:
        watched: list[Any] = [0, woken, listener, *kernels]
        ready = select.select(watched, [], [])[0]
        if woken in ready:
            woken.recv(4096)
            _reap(kernels)
        for connection in [c for c in kernels if c in ready or 0 in ready]:  # nobody asks for it any more
            _kill(kernels.pop(connection))
            connection.close()
        if 0 in ready:
            return None
        if listener not in ready:
            continue
        connection, _ = listener.accept()
        wanted, output = _asked(connection)
        pid = os.fork() if wanted else -1
        if pid:
            for one in output:
                os.close(one)
            if wanted:
                kernels[connection] = pid
            continue
        os.setsid()
        _tell(connection, os.getpid())
        signal.set_wakeup_fd(-1)
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)
        for number, one in enumerate([os.open(os.devnull, os.O_RDONLY), *output]):
            os.dup2(one, number)
            os.close(one)
        for held in (listener, woken, waker, connection, *kernels):
            held.close()
        return wanted


def _asked(connection: socket.socket) -> tuple[dict[str, Any], list[int]]:
    """Return what a client wants, nothing if it went away meanwhile, and where its kernel is to write."""
    text, output, *_ = socket.recv_fds(connection, 1 << 16, 2)
    while text and not text.endswith(b"\n"):
        more = connection.recv(1 << 16)
        text = text + more if more else b""
    return json.loads(text or "{}"), output


def _tell(connection: socket.socket, number: int) -> None:
    connection.sendall(str(number).encode().ljust(WIDTH))


def _reap(kernels: dict[socket.socket, int]) -> None:
    """Tell of each kernel that ended how it did."""
    ended = {}
    with contextlib.suppress(ChildProcessError):
        while (found := os.waitpid(-1, os.WNOHANG))[0]:
            ended[found[0]] = os.waitstatus_to_exitcode(found[1])
    for connection in [c for c, pid in kernels.items() if pid in ended]:
        with contextlib.suppress(OSError):
            _tell(connection, ended[kernels.pop(connection)])
        connection.close()


def _kill(pid: int) -> None:
    """Kill a forked kernel with its process group, which it may not lead yet."""
    for kill in (os.killpg, os.kill):
        with contextlib.suppress(ProcessLookupError):
            kill(pid, signal.SIGKILL)


def die_with_parent() -> None:
    """Have this process killed with its parent, whatever it is doing; elsewhere ipykernel watches its parent."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(1, signal.SIGKILL)  # PR_SET_PDEATHSIG


def main(words: list[str]) -> None:
    """Be a cold kernel, of which the words are the arguments, or the server of a socket, and its kernels."""
    if words[0] == "-f":
        die_with_parent()
        sys.argv[1:] = words
    else:
        signal.signal(signal.SIGINT, signal.SIG_IGN)  # the runner decides what an interruption means
        if not sys.flags.safe_path:
            del sys.path[0]  # the folder it was started in, which no cold kernel sees
        warm()
        listener = socket.socket(fileno=int(words[0]))
        wanted = serve(listener)
        if wanted is None:  # the runner may be gone, and cannot do it
            shutil.rmtree(os.path.dirname(listener.getsockname()), ignore_errors=True)
            return
        fresh(wanted["environment"], wanted["folder"])
        sys.argv[1:] = [*wanted["arguments"], f"--IPKernelApp.parent_handle={os.getppid()}"]
    runpy.run_module("ipykernel_launcher", run_name="__main__", alter_sys=True)


if __name__ == "__main__":
    main(sys.argv[1:])
