"""The server process of `soak.py`, and what it says about itself."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path

import httpx
from prometheus_client.parser import text_string_to_metric_families

START, STOP = 300.0, 120.0  # seconds: a server that takes longer hangs
EXIT_CODES = (0, -signal.SIGTERM)  # of a stopped server; uvicorn raises the signal again once everything is closed
PROGRAM = "import sys; from foveate.apps.cli import main; main(sys.argv[1:])"


class SoakServer:
    """`foveate serve` on a free port of 127.0.0.1; `log` is a file for its output."""

    def __init__(self, log: Path, options: Sequence[str] = ()) -> None:
        self.log, self.stopping_since = log, float("inf")
        command = [sys.executable, "-c", PROGRAM, "serve", "--port", "0", *options]
        with log.open("w") as out:
            self.process = subprocess.Popen(command, stdout=out, stderr=out, env={**os.environ, "OMP_NUM_THREADS": "1"})
        try:
            self.url = self._wait_until_up()
        except BaseException:
            self.kill()
            raise

    @property
    def is_stopping(self) -> bool:
        """Whether its end has begun."""
        return time.monotonic() >= self.stopping_since

    def _wait_until_up(self) -> str:
        end = time.monotonic() + START
        while time.monotonic() < end and self.process.poll() is None:
            address = re.search(r"http://\S+(?=/v1)", self.log.read_text())
            try:
                if address and httpx.get(f"{address[0]}/health", trust_env=False).status_code == 200:
                    return address[0]
            except httpx.TransportError:
                pass
            time.sleep(0.05)
        raise SystemExit(f"The server did not start:\n{self.log.read_text()}")

    def read_metrics(self, timeout: float = 60) -> dict[str, float]:
        """The samples of /metrics by name, with the status of `foveate_requests_total` behind a colon."""
        text = httpx.get(f"{self.url}/metrics", timeout=timeout, trust_env=False).raise_for_status().text
        return {
            ":".join((sample.name, *sample.labels.values())): sample.value
            for family in text_string_to_metric_families(text)
            for sample in family.samples
        }

    def wait_until_idle(self) -> dict[str, float]:
        """The metrics once no request runs or waits."""
        end = time.monotonic() + STOP
        while time.monotonic() < end:
            metrics = self.read_metrics()
            if metrics["foveate_requests_running"] == metrics["foveate_requests_waiting"] == 0:
                return metrics
            time.sleep(0.05)
        raise SystemExit("The server is busy, although no client waits for it.")

    def stop(self) -> float:
        """Send SIGTERM and wait for the end; returns the seconds until then.

        Connections are accepted in their order: once /health is answered, all requests that were sent before it are in.
        """
        self.stopping_since = time.monotonic()
        httpx.get(f"{self.url}/health", timeout=STOP, trust_env=False)
        self.process.terminate()
        self.process.wait(STOP)
        return time.monotonic() - self.stopping_since

    def find_faults(self) -> list[str]:
        """What is wrong with the end and the log of a stopped server."""
        faults = [] if self.process.returncode in EXIT_CODES else [f"the server ended with {self.process.returncode}"]
        log = self.log.read_text()
        return [*faults, *([f"the server's log: {log[-2000:]}"] if "Traceback" in log else [])]

    def kill(self) -> None:
        """End the process at once, if it still runs."""
        self.process.kill()
        self.process.wait()
