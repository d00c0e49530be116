"""`foveate serve --engine vllm` as a process, on the bundled model."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import time
import urllib.request
from pathlib import Path

START = 600  # seconds: it only ends a test that hangs
ENVIRONMENT = {
    "VLLM_CPU_KVCACHE_SPACE": "1", "VLLM_NO_USAGE_STATS": "1", "HF_HUB_OFFLINE": "1", "OMP_WAIT_POLICY": "PASSIVE",
    "VLLM_ENABLE_V1_MULTIPROCESSING": "1",
}  # fmt: skip
OPTIONS = ("--keep", "0.1", "--max-model-len", "1024", "--dtype", "float32", "--enforce-eager")


def find_port() -> int:
    """A port that is free now."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port: int = free.getsockname()[1]
    return port


class VllmProcess:
    """A server at keep=0.1 that has started, whose settings a request may override; `log` is a file for its output."""

    def __init__(self, log: Path, port: int | None = None, *options: str) -> None:
        self.log, port = log, port or find_port()
        self.url = f"http://127.0.0.1:{port}"
        program = str(Path(sys.executable).with_name("foveate"))
        command = [program, "serve", "--model", "bundled", "--engine", "vllm", "--port", str(port), *OPTIONS, *options]
        with log.open("a") as out:
            self.process = subprocess.Popen(
                [*command, "--trust-request-mm-kwargs"], stdout=out, stderr=out, env=os.environ | ENVIRONMENT
            )
        try:
            self._wait_until_up()
        except BaseException:
            self.stop()
            raise

    def _wait_until_up(self) -> None:
        for _ in range(START):
            assert self.process.poll() is None, self.log.read_text()[-3000:]
            try:
                urllib.request.urlopen(f"{self.url}/health")
                return
            except OSError:
                time.sleep(1)
        raise AssertionError(self.log.read_text()[-3000:])

    def stop(self) -> None:
        """End it, with its helpers."""
        self.process.terminate()
        self.process.wait(60)
