"""Looking at every node before a sweep begins: what each one is, and whether together they can run it.

`examine` and `look_again` run on a node and only report; `findings` compares the reports and decides. So the decisions
can be tested without a cluster, and one machine alone is a cluster of one node.
"""

from __future__ import annotations

import shutil
import time
import uuid
from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from sweeps.doctor.examine import Nodes, Report, Wants, examine, look_again

State = Literal["ok", "note", "bad"]

GIB = 2**30
LEAST_FREE_BYTES = 2 * GIB  # checkpoints, states and features of a sweep of a small stream
LEAST_SHARED_MEMORY_BYTES = 128 * 2**20  # Ray's smallest object store and room for torch
MOST_CLOCK_SKEW_S = 2.0
PROBES = ".doctor"


@dataclass(frozen=True)
class Finding:
    """One line of the table: `remedy` says what to do about a bad one."""

    check: str
    node: str
    state: State
    observation: str
    remedy: str = ""


def diagnose(wants: Wants, cluster: Nodes) -> list[Finding]:
    """Examine every node and return what is to be said, one finding a check and node."""
    folder = str(Path(wants.results) / PROBES / uuid.uuid4().hex)
    reports = [Report(node) for node in cluster.nodes]

    def first(report: Report) -> None:
        try:
            raw = cluster.call(report.node, examine, wants, folder, report.node.name)
            for name, value in raw.items():
                setattr(report, name, value)
        except Exception as error:
            report.errors["reach"] = f"{type(error).__name__}: {error}".splitlines()[0]

    with ThreadPoolExecutor(len(reports)) as pool:
        list(pool.map(first, reports))
    for report in reports:
        if "reach" not in report.errors:
            before = time.time()
            report.seen, there = cluster.call(report.node, look_again, folder)
            report.skew = max(0.0, before - there, there - time.time())
    shutil.rmtree(folder, ignore_errors=True)
    with suppress(OSError):  # another doctor looks at the same time
        Path(folder).parent.rmdir()
    return findings(wants, reports)


def findings(wants: Wants, reports: Sequence[Report]) -> list[Finding]:
    """Return one finding a check and node, in the order of the checks."""
    lost = [
        Finding("reach", r.node.name, "bad", r.errors["reach"], "look at the log of that node; start it again")
        for r in reports
        if "reach" in r.errors
    ]
    here = [report for report in reports if "reach" not in report.errors]
    checks = (_versions, _shared, _space, _data_found, _weights_found, _gpus_found, _clock, _memory, _mlflow_found)
    return lost + [finding for check in checks for finding in check(wants, here)]


def _versions(wants: Wants, reports: Sequence[Report]) -> Iterable[Finding]:
    for report in reports:
        first = reports[0].versions
        names = [name for name in first | report.versions if first.get(name) != report.versions.get(name)]
        differing = [f"{n} {report.versions.get(n, 'missing')}, driver {first.get(n, 'missing')}" for n in names]
        if differing:
            remedy = "give every node the same image or environment and start it again"
            yield Finding("versions", report.node.name, "bad", "; ".join(differing), remedy)
        else:
            wanted = ("python", "torch", "ray", "this project's code")
            versions = ", ".join(f"{name} {first[name]}" for name in wanted if name in first)
            yield Finding("versions", report.node.name, "ok", versions)


def _shared(wants: Wants, reports: Sequence[Report]) -> Iterable[Finding]:
    wrote = {report.node.name for report in reports if "storage" not in report.errors}
    for report in reports:
        name, missing = report.node.name, sorted(wrote - set(report.seen))
        if "storage" in report.errors:
            remedy = f"mount {wants.results} there, writable by the user the node runs as"
            yield Finding("storage", name, "bad", report.errors["storage"], remedy)
        elif missing:
            remedy = f"{wants.results} must be one folder that every node mounts at this path"
            yield Finding("storage", name, "bad", f"does not see what was written by {', '.join(missing)}", remedy)
        else:
            yield Finding("storage", name, "ok", f"{wants.results} written, and read from all")


def _space(wants: Wants, reports: Sequence[Report]) -> Iterable[Finding]:
    for report in reports:
        if (free := report.facts.get("free")) is not None:
            remedy = f"free at least {LEAST_FREE_BYTES / GIB:.0f} GiB: python -m sweeps prune"
            yield _limited("free disk", report, free >= LEAST_FREE_BYTES, f"{free / GIB:.1f} GiB", remedy)


def _limited(check: str, report: Report, kept: bool, observation: str, remedy: str) -> Finding:
    """Return what is said of a limit: the remedy where it is not kept."""
    return Finding(check, report.node.name, "ok" if kept else "bad", observation, "" if kept else remedy)


def _data_found(wants: Wants, reports: Sequence[Report]) -> Iterable[Finding]:
    absent = f"put it under {wants.data_root}, on every node the same folder: python -m safe.data fetch {wants.dataset}"
    return _same("data", reports, absent, f"all nodes must read the same copy, under {wants.data_root}")


def _weights_found(wants: Wants, reports: Sequence[Report]) -> Iterable[Finding]:
    absent = f"put them into {wants.data_root}/weights: python -m safe.data weights {wants.dataset}"
    return _same("weights", reports, absent, f"all nodes must load the same file, {wants.data_root}/weights")


def _same(check: str, reports: Sequence[Report], absent: str, differs: str) -> Iterable[Finding]:
    digests: list[str | None] = [report.facts.get(check) for report in reports]
    first = next(filter(None, digests), "")
    for report, digest in zip(reports, digests, strict=True):
        if digest is None:
            yield Finding(check, report.node.name, "bad", report.errors[check], absent)
        elif digest != first:
            yield Finding(check, report.node.name, "bad", f"digest {digest[:12]}, elsewhere {first[:12]}", differs)
        else:
            yield Finding(check, report.node.name, "ok", f"digest {digest[:12]}")


def _gpus_found(wants: Wants, reports: Sequence[Report]) -> Iterable[Finding]:
    runners = [report for report in reports if report.node.runs]
    some = any(report.gpus for report in runners)
    for report in runners:
        name, gpus = report.node.name, ", ".join(report.gpus) or "none"
        if report.gpus or wants.device == "cpu":
            yield Finding("GPU", name, "ok", gpus)
        elif wants.device.startswith("cuda"):
            remedy = "give the node its GPU (driver, container toolkit, GPU=1), or set runtime.device=cpu"
            yield Finding("GPU", name, "bad", f"none, and runtime.device is {wants.device}", remedy)
        elif some:
            remedy = "results of CPU and GPU differ: take the node away, give it a GPU, or set runtime.device=cpu"
            yield Finding("GPU", name, "bad", "none, while other nodes have one", remedy)
        else:
            yield Finding("GPU", name, "note", "none: runs take the CPU")


def _clock(wants: Wants, reports: Sequence[Report]) -> Iterable[Finding]:
    for report in reports:
        kept = report.skew <= MOST_CLOCK_SKEW_S
        skew = "agrees with the driver's" if kept else f"{report.skew:.1f} s off the driver's"
        remedy = "keep the clocks of all hosts with a time service such as chrony"
        yield _limited("clock", report, kept, skew, remedy)


def _memory(wants: Wants, reports: Sequence[Report]) -> Iterable[Finding]:
    for report in reports:
        if (size := report.facts.get("shared memory")) is not None:
            remedy = "start the container with a larger shm_size (SHM_SIZE=512m)"
            kept = size >= LEAST_SHARED_MEMORY_BYTES
            yield _limited("shared memory", report, kept, f"{size / 2**20:.0f} MiB", remedy)


def _mlflow_found(wants: Wants, reports: Sequence[Report]) -> Iterable[Finding]:
    for report in reports:
        if "mlflow" in report.errors:
            remedy = "start MLflow, or set MLFLOW_TRACKING_URI to an address that this node reaches and MLflow allows"
            yield Finding("MLflow", report.node.name, "bad", report.errors["mlflow"], remedy)
        else:
            yield Finding("MLflow", report.node.name, "ok", report.facts["mlflow"])


def as_json(findings: Sequence[Finding]) -> dict[str, Any]:
    """Return the findings for programs."""
    lines = [
        {"check": one.check, "node": one.node, "state": one.state, "found": one.observation, "remedy": one.remedy}
        for one in findings
    ]
    return {"ok": healthy(findings), "findings": lines}


def healthy(findings: Sequence[Finding]) -> bool:
    """Whether nothing is bad."""
    return all(finding.state != "bad" for finding in findings)


def grouped(findings: Sequence[Finding]) -> list[tuple[Finding, str]]:
    """Return the findings with those that say the same of several nodes in one, each with its nodes in words."""
    groups: dict[tuple[str, ...], list[Finding]] = {}
    for one in findings:
        groups.setdefault((one.check, one.state, one.observation, one.remedy), []).append(one)
    count: Mapping[str, int] = {one.check: sum(o.check == one.check for o in findings) for one in findings}
    return [
        (same[0], f"all {len(same)}" if 1 < len(same) == count[same[0].check] else ", ".join(one.node for one in same))
        for same in groups.values()
    ]
