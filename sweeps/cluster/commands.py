"""What `make cluster-up`, `-status`, `-logs`, `-stop`, `-down` and `make sweep CLUSTER=1` do."""

from __future__ import annotations

import json
import re
import shlex
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from safe.errors import EXIT_INTERRUPTED, UserError
from sweeps.cluster import machine
from sweeps.cluster.compose import HEAD, WORKER, Compose, Container
from sweeps.cluster.passwords import write_secrets
from sweeps.spec.presets import space_presets

PORT_VARIABLES = {"mlflow": "MLFLOW_PORT", HEAD: "DASHBOARD_PORT"}
READY_TIMEOUT_S = 300.0
POLL_S = 0.5
LEAVING_TIMEOUT_S = 5.0
UPLOADS = "/srv/safe/uploads"
ORDER = "data.class_order"  # as in `safe.config`, which brings more than the standard library
LAST_WORDS = 15  # lines


def up(workers: int, gpu: bool = False) -> int:
    """Build the image if it is not there or the code changed, start everything, wait until all of it answers."""
    if workers < 1:
        raise UserError(f"WORKERS must be at least 1, got {workers}")
    begin = time.monotonic()
    state, compose = machine.look(), Compose(gpu)
    settings, containers = compose.config(), compose.containers()
    image = settings["services"][HEAD]["image"]
    before = image_id(image)
    running = {container.service for container in containers if container.state == "running"}
    ports = {PORT_VARIABLES[s]: p for s, p in compose.published(settings).items() if s not in running}
    wrong = machine.problems(state, workers=workers, has_image=before is not None, gpu=gpu, ports=ports)
    if wrong:
        raise UserError("\n".join(["the cluster cannot start:", *(f"  - {line}" for line in wrong)]))
    secrets(settings)
    token = settings["secrets"]["ray_token"]["file"]
    build(compose, image, before)
    if HEAD in running and image_id(image) != before and (names := running_sweeps(compose)):
        raise UserError(
            f"the code changed, and starting it would end what runs: {', '.join(names)}; end it in order first "
            f"(make cluster-stop NAME={names[0]}) and continue it afterwards, or wait for its end"
        )
    start(compose, workers)
    print(f"ready after {time.monotonic() - begin:.0f} s: {workers} workers")
    published = compose.published(settings)
    print(f"  MLflow         http://127.0.0.1:{published['mlflow']}")
    print(f"  Ray dashboard  http://127.0.0.1:{published[HEAD]}  (asks for the token in {token})")
    print("  next: make sweep DATASET=glyphs CLUSTER=1")
    return 0


def secrets(settings: Mapping[str, Any]) -> None:
    """Write the secrets that are missing, unless a database exists that was made with a lost one."""
    folder = Path(settings["secrets"]["postgres_password"]["file"]).parent
    volume = settings["volumes"]["postgres"]["name"]
    database_exists = machine.run_command(["docker", "volume", "inspect", volume])[0] == 0
    if database_exists and not (folder / "postgres_password").exists():
        raise UserError(
            f"the database in the volume {volume} was made with a password that is not in {folder} any more; put the "
            "file postgres_password back, or wipe everything with: make cluster-down ARGS=-v"
        )
    if made := write_secrets(folder):
        print(f"secrets written to {folder}: {', '.join(made)}")


def build(compose: Compose, image: str, before: str | None) -> None:
    """Bring the image up to date; the engine reuses every layer that nothing changed."""
    begin = time.monotonic()
    if before is None:
        print(f"building the image {image} (some minutes and about 7 GB the first time) ...", flush=True)
    lines, shown = [], sys.stdout.isatty()
    words = compose.words("build", HEAD)
    with subprocess.Popen(
        words,
        env=compose.environment,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        errors="replace",
    ) as building:
        assert building.stdout is not None
        for line in building.stdout:
            lines.append(line.rstrip())
            if shown:
                print(lines[-1], flush=True)
    if building.returncode:
        machine.look()  # names what is wrong with the engine, if that is the cause
        raise UserError("\n".join(["the image could not be built:", *reason(lines)]))
    what = "up to date" if image_id(image) == before else "built"
    print(f"image {image} {what} ({time.monotonic() - begin:.1f} s)", flush=True)


def reason(lines: Sequence[str]) -> list[str]:
    """Return the last words of the step that failed in what the engine printed, else its own last words.

    Behind them the engine repeats its instructions, which would hide what pip says.
    """
    number = next((line.partition(" ")[0] for line in lines if re.match(r"#\d+ ERROR", line)), None)
    said = [line.split(" ", 2)[-1] for line in lines if re.match(rf"{number} [\d.]+ ", line)]
    return (said or list(lines))[-LAST_WORDS:]


def image_id(image: str) -> str | None:
    """Return the id of an image, None when there is none."""
    code, text = machine.run_command(["docker", "image", "inspect", "--format", "{{.Id}}", image])
    return text.strip() if code == 0 else None


def start(compose: Compose, workers: int, timeout_s: float = READY_TIMEOUT_S) -> None:
    """Start what does not run and wait until every container answers, telling when each one does."""
    print("starting ...", flush=True)
    begin, told = time.monotonic(), set[str]()
    before = {container.id for container in compose.containers()}  # may be about to be replaced
    words = compose.words("up", "--detach", "--scale", f"{WORKER}={workers}", "--remove-orphans")
    with tempfile.TemporaryFile("w+") as output:
        starting = subprocess.Popen(
            words, env=compose.environment, stdin=subprocess.DEVNULL, stdout=output, stderr=subprocess.STDOUT
        )
        while True:
            code = starting.poll()
            containers = compose.containers()
            for container in containers:
                if container.ready and container.id not in told and (code == 0 or container.id not in before):
                    told.add(container.id)
                    print(f"  {container.name} answers after {time.monotonic() - begin:.0f} s", flush=True)
            if code == 0 and all(container.ready for container in containers):
                return
            if code or time.monotonic() - begin > timeout_s:
                starting.terminate()
                output.seek(0)
                said = f"not ready after {timeout_s:.0f} s"
                if code:
                    said = "\n".join(output.read().strip().splitlines()[-8:])
                raise UserError(f"the cluster did not start: {said}\n{_complaints(compose, containers)}")
            time.sleep(POLL_S)


def _complaints(compose: Compose, containers: Sequence[Container]) -> str:
    """Return the last words of every container that is not ready."""
    parts = []
    for one in containers:
        if not one.ready:
            _, log = machine.run_command(["docker", "logs", "--tail", "8", one.name])
            parts.append(f"--- {one.name} is {one.state} {one.health}; its log ends:\n{log.strip()}")
    return "\n".join([*parts, "All of it: make cluster-logs. Away with it: make cluster-down."])


def status() -> int:
    """Print the containers with their memory, and the sweeps; exit code 1 when something does not answer."""
    compose = Compose()
    containers = compose.containers()
    if not containers:
        print("no cluster; start one with: make cluster-up")
        return 1
    names = [one.name for one in containers if one.state == "running"]
    words = ["docker", "stats", "--no-stream", "--format", "{{.Name}}\t{{.MemUsage}}\t{{.CPUPerc}}", *names]
    used = dict(line.split("\t", 1) for line in machine.run_command(words)[1].splitlines() if names and "\t" in line)
    for one in containers:
        memory, _, cpu = used.get(one.name, "").partition("\t")
        print(f"{one.name:<24} {one.health or one.state:<10} {memory:<22} {cpu}")
    if any(one.service == HEAD and one.ready for one in containers):
        for job in sweeps(compose):
            print(f"sweep {job['sweep']:<28} {job['status'].lower():<10} job {job['job']}")
    return 0 if all(one.ready for one in containers) else 1


def logs(name: str | None) -> int:
    """Follow the log of a sweep, or of all containers."""
    if name:
        return follow(_standing(), ["logs", name])
    machine.look()
    return Compose().run("logs", "--follow", "--tail", "100")


def submit(words: Sequence[str]) -> int:
    """Hand a sweep to the cluster and follow its log; Ctrl-C leaves it running."""
    compose = _standing()
    workers = sum(one.service == WORKER and one.state == "running" for one in compose.containers())
    return follow(compose, ["--workers", str(workers), *uploaded(compose, words)])


def uploaded(compose: Compose, words: Sequence[str]) -> list[str]:
    """Return a command with the files of `--space FILE` and `data.class_order=FILE` copied to where the sweep runs."""
    there = list(words)
    for index, word in enumerate(words):
        option, equals, value = word.partition("=")
        place = index if equals else index + 1
        if (option == "--space" and place < len(words)) or (option == ORDER and Path(value).is_file()):
            path = Path(value if equals else words[place])
            if option == "--space" and str(path) in space_presets() and not path.exists():
                continue
            if not path.is_file():
                raise UserError(f"--space {path}: there is no such file")
            target = f"{UPLOADS}/{path.name}"
            write = f"mkdir -p {UPLOADS} && cat > {shlex.quote(target)}"
            compose.capture("exec", "--no-TTY", HEAD, "sh", "-c", write, input=path.read_text("utf-8"))
            there[place] = f"{option}={target}" if equals else target
    return there


def follow(compose: Compose, words: Sequence[str]) -> int:
    """Run a command of `sweeps.cluster.submit` in the head until it ends or Ctrl-C; what it follows goes on then."""
    command = compose.in_head(["sweeps.cluster.submit", "--attached", *words])
    # A session of its own keeps Ctrl-C from it; it leaves when its input ends.
    inside = subprocess.Popen(command, env=compose.environment, stdin=subprocess.PIPE, start_new_session=True)
    try:
        return inside.wait()
    except KeyboardInterrupt:
        print(
            "\nleft; the sweep goes on. Follow it again: make cluster-logs NAME=...; end it: make cluster-stop NAME=..."
        )
        return EXIT_INTERRUPTED
    finally:
        assert inside.stdin is not None
        inside.stdin.close()
        try:
            inside.wait(LEAVING_TIMEOUT_S)
        except subprocess.TimeoutExpired:
            inside.kill()


def stop(name: str) -> int:
    """End a sweep in order."""
    compose = _standing()
    return subprocess.run(compose.in_head(["sweeps.cluster.submit", "stop", name]), env=compose.environment).returncode


def ask(verb: str, words: Sequence[str]) -> int:
    """Add a trial to a sweep of the cluster, or drop one: the request is left in the volume, where its driver looks."""
    compose = _standing()
    return subprocess.run(compose.in_head(["sweeps", verb, *words]), env=compose.environment).returncode


def down(wipe: bool) -> int:
    """End what runs in order, take every container and network away; data stays unless `wipe`."""
    compose = Compose()
    if any(one.service == HEAD and one.ready for one in compose.containers()):
        for name in running_sweeps(compose):
            print(f"ending the sweep {name} in order ...", flush=True)
            subprocess.run(compose.in_head(["sweeps.cluster.submit", "stop", name]), env=compose.environment)
    begin = time.monotonic()
    compose.capture("down", "--remove-orphans", *(["--volumes"] if wipe else []))
    kept = "with all data" if wipe else "data stays in the volumes; wipe it with ARGS=-v"
    print(f"the cluster is gone ({time.monotonic() - begin:.0f} s), {kept}")
    return 0


def sweeps(compose: Compose) -> list[dict[str, Any]]:
    """Return the jobs of the cluster that carry a sweep, the newest first."""
    done = subprocess.run(
        compose.in_head(["sweeps.cluster.submit", "list"]), env=compose.environment, capture_output=True, text=True
    )
    rows: list[dict[str, Any]] = json.loads(done.stdout) if done.returncode == 0 else []
    return rows


def running_sweeps(compose: Compose) -> list[str]:
    """Return the names of the sweeps that run."""
    return sorted({row["sweep"] for row in sweeps(compose) if row["status"] in ("PENDING", "RUNNING")})


def _standing() -> Compose:
    compose = Compose()
    if not any(one.service == HEAD and one.ready for one in compose.containers()):
        raise UserError("no cluster answers; start it with: make cluster-up")
    return compose
