"""Pages as a person sees them, in a headless Chromium driven through chromedriver's own interface."""

from __future__ import annotations

import base64
import json
import os
import shutil
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

NAMES = ("chromium", "chromium-browser", "google-chrome")
FLAGS = (
    "--headless", "--no-sandbox", "--disable-gpu", "--no-first-run", "--disable-background-networking",
    "--disable-component-update", "--disable-sync", "--window-size=1800,1300",
)  # fmt: skip
PATIENCE_S = 120  # for what comes; nothing here depends on how long it takes
SELECT_ALL = "\ue009a\ue000"  # Ctrl-A in WebDriver's keys
ELEMENT = "element-6066-11e4-a52e-4f735466cecf"  # how WebDriver marks an element in JSON


def chromium() -> str | None:
    """Return the browser's path, None where it or its driver is not installed."""
    return next(filter(None, map(shutil.which, NAMES)), None) if shutil.which("chromedriver") else None


class RefusedError(Exception):
    """The driver could not do what it was asked for."""


class Browser:
    """One window; `url` is that of the driver's session."""

    def __init__(self, url: str) -> None:
        self._url = url

    def open(self, address: str) -> None:
        """Go to a page, with nothing left of the page before."""
        self._ask("POST", "url", {"url": "about:blank"})  # else only the part after # may change, and nothing is loaded
        self._ask("POST", "url", {"url": address})

    def run(self, script: str, *arguments: object) -> Any:
        """Return what the body of a JavaScript function returns on the page; elements come as the driver's handles."""
        return self._ask("POST", "execute/sync", {"script": script, "args": arguments})

    def until(self, script: str, *arguments: object) -> Any:
        """Return what a script returns, once JavaScript takes that for true."""
        end = time.monotonic() + PATIENCE_S
        while not (value := self.run(script, *arguments)):
            assert time.monotonic() < end, f"waited in vain for {script} {arguments}; the page says:\n{self.text()}"
            time.sleep(0.2)
        return value

    def becomes(self, expected: object, script: str, *arguments: object) -> None:
        """Wait until a script returns what is expected."""
        end = time.monotonic() + PATIENCE_S
        while (value := self.run(script, *arguments)) != expected:
            assert time.monotonic() < end, f"{script} {arguments} is {value}, not {expected}"
            time.sleep(0.2)

    def text(self) -> str:
        """Return what can be read on the page by now."""
        return str(self.run("return document.body.innerText"))

    def shows(self, *words: str) -> None:
        """Wait until all these words can be read; spaces are alike, whatever their kind."""
        said = "document.body.innerText.replace(/\\s+/g, ' ')"
        self.until(f"return arguments[0].every(word => {said}.includes(word))", words)

    def click(self, script: str, *arguments: object) -> None:
        """Click, as a person's mouse does, the element that a script returns, once it does and nothing covers it."""
        end = time.monotonic() + PATIENCE_S
        while True:
            try:
                self._ask("POST", f"{self._element(script, *arguments)}/click", {})
                return
            except RefusedError:
                if time.monotonic() > end:
                    raise
            time.sleep(0.2)

    def type(self, words: str, script: str, *arguments: object) -> None:
        """Type into the element that a script returns, once it does, in place of what stands there."""
        self._ask("POST", f"{self._element(script, *arguments)}/value", {"text": f"{SELECT_ALL}{words}"})

    @contextmanager
    def inside(self, script: str, *arguments: object) -> Iterator[None]:
        """Look into the frame that a script returns, once it does."""
        self._ask("POST", "frame", {"id": self.until(script, *arguments)})
        try:
            yield
        finally:
            self._ask("POST", "frame", {"id": None})

    def requests(self) -> list[str]:
        """Return the addresses that pages asked for since the last call."""
        events = (json.loads(entry["message"])["message"] for entry in self._log("performance"))
        return [event["params"]["request"]["url"] for event in events if event["method"] == "Network.requestWillBeSent"]

    def console(self) -> list[str]:
        """Return what came into the console since the last call."""
        return [entry["message"] for entry in self._log("browser")]

    def picture(self, file: Path) -> None:
        """Keep what the window shows as PNG."""
        file.write_bytes(base64.b64decode(self._ask("GET", "screenshot")))

    def _log(self, kind: str) -> list[dict[str, Any]]:
        entries: list[dict[str, Any]] = self._ask("POST", "se/log", {"type": kind})
        return entries

    def _element(self, script: str, *arguments: object) -> str:
        return f"element/{self.until(script, *arguments)[ELEMENT]}"

    def _ask(self, method: str, path: str, body: Any = None) -> Any:
        return call(method, f"{self._url}/{path}", body)


@contextmanager
def browser(folder: Path) -> Iterator[Browser]:
    """Give a browser that keeps its files in `folder`."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    driver = f"http://127.0.0.1:{port}"
    with subprocess.Popen(["chromedriver", f"--port={port}"], stdout=subprocess.DEVNULL) as process:
        try:
            _wait_for(driver, process)
            options = {"binary": chromium(), "args": [*FLAGS, f"--user-data-dir={folder}"]}
            logs = {"browser": "ALL", "performance": "ALL"}
            wanted = {"capabilities": {"alwaysMatch": {"goog:chromeOptions": options, "goog:loggingPrefs": logs}}}
            session = f"{driver}/session/{call('POST', f'{driver}/session', wanted)['sessionId']}"
            try:
                yield Browser(session)
            finally:
                call("DELETE", session)
        finally:
            process.terminate()


@contextmanager
def served(results: Path) -> Iterator[list[str]]:
    """Serve a results folder as `make ui` does; give the lines that it tells, the first of which has the address."""
    command = [sys.executable, "-m", "sweeps", "ui", "--results", str(results)]
    environment = {name: value for name, value in os.environ.items() if name not in ("MLFLOW_TRACKING_URI", "RESULTS")}
    with subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None, "asked for"
        try:
            lines: list[str] = []
            while not lines or not lines[-1].startswith("what the server says"):
                line = process.stdout.readline()
                assert line, f"the server ended: {lines}"
                lines.append(line.strip())
            yield lines
        finally:
            process.terminate()
            process.communicate()


def call(method: str, url: str, body: Any = None) -> Any:
    """Return what the driver answers; `RefusedError` when it answers with an error."""
    data = None if body is None else json.dumps(body).encode()
    request = urllib.request.Request(url, data, {"Content-Type": "application/json"}, method=method)
    try:
        with urllib.request.urlopen(request, timeout=PATIENCE_S) as answer:
            return json.load(answer)["value"]
    except urllib.error.HTTPError as error:
        raise RefusedError(f"{method} {url} {body}: {error.read().decode()[:2000]}") from None


def _wait_for(driver: str, process: subprocess.Popen[bytes]) -> None:
    while True:
        assert process.poll() is None, "chromedriver ended"
        try:
            if call("GET", f"{driver}/status")["ready"]:
                return
        except OSError:
            time.sleep(0.2)
