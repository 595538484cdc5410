"""`python -m safe.data list|fetch|check|split|weights|cache`: data sets and weights on this machine."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Sequence
from pathlib import Path

from rich.console import Console
from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TimeRemainingColumn

from safe.datasets.facts import DATASETS, DOMAINS, DatasetInfo, canonical_name
from safe.errors import command_line, print_notices_once, shown


@command_line(stopped="stopped; the same command continues")
def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line; return the exit code: 0, 1 for a data set with problems, 2 for bad input."""
    arguments = _parser().parse_args(argv)
    print_notices_once()
    return int(arguments.run(arguments))


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m safe.data", description="Data sets and weights on this machine.")
    commands = parser.add_subparsers(required=True)
    words = {
        "list": (_list, "all data sets: classes, images, sessions, and whether they are there"),
        "fetch": (_fetch, "download (or take from --from) and unpack a data set"),
        "check": (_check, "layout, counts and readability of a data set; exit code 1 if anything is wrong"),
        "split": (_split, "make a data set of class folders: train and test images by a seed, linked or copied"),
        "weights": (_weights, "download (or take from --from), check and place a backbone's weights"),
        "cache": (_cache, "decoded pictures that are kept so that files are decoded once; --clear removes them"),
    }
    for word, (run, text) in words.items():
        command = commands.add_parser(word, help=text, description=text)
        command.set_defaults(run=run)
        if word == "split":
            _add_split(command)
            continue
        command.add_argument("--root", default="data", help="folder of all data sets (data.root; default: data)")
        if word == "cache":
            command.add_argument("--clear", action="store_true", help="remove what no process is using")
        elif word != "list":
            what = "data set" if word != "weights" else "data set, whose preset names the backbone, or architecture.tag"
            command.add_argument("name", help=what)
        if word in ("fetch", "weights"):
            command.add_argument("--from", dest="source", type=Path, help="local file (or folder of archives) to use")
    return parser


def _add_split(command: argparse.ArgumentParser) -> None:
    command.add_argument("source", metavar="SRC", help="folder of class folders; it stays as it is")
    command.add_argument("target", metavar="DST", help="folder to make, with train/ and test/; never overwritten")
    share = "test images of each class (default: 0.2, at least one)"
    command.add_argument("--test", type=float, default=0.2, metavar="SHARE", help=share)
    command.add_argument("--seed", type=int, default=0, help="of the choice of test images (default: 0)")
    command.epilog = (
        "Where SRC has folders of training and of test (or validation) images under other names, their split is kept. "
        "Files are hard links where that is possible, so they take no room, and one that is edited in place changes in "
        "both folders; else they are copies."
    )


def _list(arguments: argparse.Namespace) -> int:
    row = "{:14} {:>7} {:>8} {:>7} {:>8}  {:8} {}"
    print(row.format("data set", "classes", "train", "test", "sessions", "there", "place"))
    for info in DATASETS.values():
        there = "embedded" if info.embedded else "no" if info.missing(arguments.root) else "yes"
        place = "" if info.embedded else str(info.folder(arguments.root))
        counts = ["-" if n is None else str(n) for n in (info.train_images, info.test_images)]
        print(row.format(info.name, info.classes, *counts, _sessions(info), there, place).rstrip())
    return 0


def _sessions(info: DatasetInfo) -> int:
    from safe.config import load_config
    from safe.data.sessions import sizes_of

    if info.kind == "domains":
        return len(DOMAINS)
    return len(sizes_of(load_config(info.name).data, info.classes))


def _fetch(arguments: argparse.Namespace) -> int:
    from safe.data.fetching.fetch import MIRROR_VARIABLE, fetch, get_archive
    from safe.data.fetching.locations import Archive

    console = Console(stderr=True)

    def get(archive: Archive, address: str, target: Path) -> None:
        columns = (TextColumn("{task.description}"), BarColumn(), DownloadColumn(), TimeRemainingColumn())
        with Progress(*columns, console=console, transient=True, disable=not console.is_terminal) as progress:
            task = progress.add_task(archive.file, total=None)

            def advance(received: int, total: int | None) -> None:
                progress.update(task, completed=received, total=total)

            get_archive(archive, address, target, advance)

    mirror = os.environ.get(MIRROR_VARIABLE, "")
    fetch(arguments.name, arguments.root, source=arguments.source, mirror=mirror, get=get)
    return 0


def _check(arguments: argparse.Namespace) -> int:
    from safe.data.check import check

    report = check(arguments.name, arguments.root)
    print(f"{report.name}: {report.classes} classes, {report.train} training and {report.test} test images")
    print(f"place:  {report.folder}\ndigest: {report.digest or '-'}")
    for note in report.notes:
        print(f"note: {note}")
    for problem in report.problems:
        print(f"problem: {problem}")
    for problem in report.unreadable:
        print(f"unreadable: {problem}")
    print("ok" if report.ok else f"{len(report.problems)} problems, {len(report.unreadable)} unreadable images")
    return 0 if report.ok else 1


def _split(arguments: argparse.Namespace) -> int:
    from safe.data.folders.split import split_folder
    from safe.datasets.layout import quoted
    from safe.datasets.listing import passed_over

    made = split_folder(arguments.source, arguments.target, share=arguments.test, seed=arguments.seed)
    if made.kept:
        print(f"the split of {' and '.join(map(shown, made.kept))} is kept; --test and --seed have no part in it")
    if made.without:
        names = ", ".join(map(shown, made.without[:5]))
        print(f"{len(made.without)} folders without an image are left out: {names}")
    if told := passed_over(made.others):
        print(told)
    counts = f"{made.classes} classes, {made.train} training and {made.test} test images"
    print(f"{shown(arguments.target)}: {counts} ({made.linked} hard links, {made.copied} copies)")
    print(f"use it: --dataset {quoted(Path(arguments.target).absolute())}")
    return 0


def _weights(arguments: argparse.Namespace) -> int:
    from safe.config import load_config
    from safe.data.fetching.weights import place_weights

    name = arguments.name
    if "." not in name:
        name = load_config(canonical_name(name)).backbone.name
    path, digest = place_weights(name, arguments.root, arguments.source)
    print(f"weights: {path}\ndigest:  {digest}")
    print(f"runs with data.root={arguments.root} find it; elsewhere: backbone.weights={path.absolute()}")
    return 0


def _cache(arguments: argparse.Namespace) -> int:
    from safe.data.cache import image_cache
    from safe.data.folders.contents import INDEX

    cache = image_cache(arguments.root)
    if cache is None:
        print("off (SAFE_IMAGE_CACHE)")
        return 0
    hashes = cache.folder / INDEX
    if arguments.clear:
        hashes.unlink(missing_ok=True)
        removed, stay = cache.clear()
        for name in removed:
            print(f"{name}: removed")
        for name in stay:
            print(f"{name}: in use, stays")
    sizes = cache.sizes()
    for name, size in sizes.items():
        print(f"{name}: {size / 2**20:.1f} MiB")
    if hashes.is_file():
        print(f"{INDEX}: {hashes.stat().st_size / 2**20:.1f} MiB, what the images hold")
    held = f"{sum(sizes.values()) / 2**30:.2f} GiB" if sizes else "empty"
    print(f"{cache.folder}: {held}, at most {cache.limit / 2**30:.2f} GiB")
    return 0


if __name__ == "__main__":
    sys.exit(main())
