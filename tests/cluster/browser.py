"""Pages as a person sees them, in a headless Chromium driven through chromedriver's own interface."""

from __future__ import annotations

import json
import shutil
import socket
import subprocess
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

NAMES = ("chromium", "chromium-browser", "google-chrome")
FLAGS = ("--headless", "--no-sandbox", "--disable-gpu", "--no-first-run", "--disable-background-networking")


def chromium() -> str | None:
    """Return the browser's path, None where it or its driver is not installed."""
    return next(filter(None, map(shutil.which, NAMES)), None) if shutil.which("chromedriver") else None


class Browser:
    """One window; `url` is that of the driver's session."""

    def __init__(self, url: str) -> None:
        self._url = url

    def open(self, address: str) -> None:
        """Go to a page."""
        call("POST", f"{self._url}/url", {"url": address})

    def text(self) -> str:
        """Return what can be read on the page by now."""
        asked = {"script": "return document.body.innerText", "args": []}
        return str(call("POST", f"{self._url}/execute/sync", asked))


@contextmanager
def browser(folder: Path) -> Iterator[Browser]:
    """Give a browser that keeps its files in `folder`."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    driver = f"http://127.0.0.1:{port}"
    with subprocess.Popen(["chromedriver", f"--port={port}"], stdout=subprocess.DEVNULL) as process:
        try:
            _wait_for(driver)
            options = {"binary": chromium(), "args": [*FLAGS, f"--user-data-dir={folder}"]}
            wanted = {"capabilities": {"alwaysMatch": {"goog:chromeOptions": options}}}
            session = f"{driver}/session/{call('POST', f'{driver}/session', wanted)['sessionId']}"
            try:
                yield Browser(session)
            finally:
                call("DELETE", session)
        finally:
            process.terminate()


def call(method: str, url: str, body: Any = None) -> Any:
    """Return what the driver answers."""
    data = None if body is None else json.dumps(body).encode()
    request = urllib.request.Request(url, data, {"Content-Type": "application/json"}, method=method)
    with urllib.request.urlopen(request, timeout=120) as answer:
        return json.load(answer)["value"]


def _wait_for(driver: str) -> None:
    end = time.monotonic() + 60
    while True:
        try:
            if call("GET", f"{driver}/status")["ready"]:
                return
        except OSError:
            assert time.monotonic() < end, "chromedriver does not answer"
        time.sleep(0.2)
