"""Fetching over a loopback server that cuts connections, from local files, and without any network."""

from __future__ import annotations

import hashlib
import sys
import tarfile
import threading
import types
import zipfile
from collections.abc import Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torchvision

from safe.data.__main__ import main
from safe.data.fetching import locations
from safe.data.fetching.download import DownloadError, download, download_drive
from safe.data.fetching.fetch import DOWNLOADS, fetch
from safe.data.fetching.locations import LOCATIONS, Archive
from safe.data.loading import load_dataset
from safe.datasets.facts import DATASETS, DOMAINS
from safe.errors import UserError


@dataclass
class Server:
    """Files by path; `cut` holds, for the next requests, after how many bytes the connection ends."""

    address: str = ""
    files: dict[str, bytes] = field(default_factory=dict)
    cut: list[int] = field(default_factory=list)
    failures: list[int] = field(default_factory=list)
    ranges: bool = True
    asked: list[tuple[str, str | None]] = field(default_factory=list)


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[Server]:
    state = Server()

    class Handler(BaseHTTPRequestHandler):
        def log_message(self, *arguments: Any) -> None:
            pass

        def do_GET(self) -> None:
            wanted = self.headers.get("Range")
            state.asked.append((self.path, wanted))
            content = state.files.get(self.path)
            if state.failures:
                self.send_error(state.failures.pop(0))
                return
            if content is None:
                self.send_error(404)
                return
            start = int(wanted.removeprefix("bytes=").rstrip("-")) if wanted and state.ranges else 0
            if start >= len(content) > 0:
                self.send_response(416)
                self.send_header("Content-Range", f"bytes */{len(content)}")
                self.send_header("Content-Length", "0")
                self.end_headers()
                return
            self.send_response(206 if wanted and state.ranges else 200)
            if wanted and state.ranges:
                self.send_header("Content-Range", f"bytes {start}-{len(content) - 1}/{len(content)}")
            self.send_header("Content-Length", str(len(content) - start))
            self.end_headers()
            body = content[start:]
            self.wfile.write(body[: state.cut.pop(0)] if state.cut else body)

    httpd = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=httpd.serve_forever, args=(0.01,), daemon=True)
    thread.start()
    state.address = f"http://127.0.0.1:{httpd.server_port}"
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    yield state
    httpd.shutdown()
    httpd.server_close()
    thread.join()


CONTENT = bytes(range(256)) * 1000
MD5 = hashlib.md5(CONTENT).hexdigest()


def test_a_download_that_is_cut_off_continues_where_it_stopped(tmp_path: Path, server: Server) -> None:
    server.files["/a.bin"], server.cut = CONTENT, [100_000, 50_000]
    seen: list[tuple[int, int | None]] = []
    download(f"{server.address}/a.bin", tmp_path / "a.bin", md5=MD5, pause=0, advance=lambda *now: seen.append(now))
    assert (tmp_path / "a.bin").read_bytes() == CONTENT
    assert [wanted for _, wanted in server.asked] == [None, "bytes=100000-", "bytes=150000-"]
    assert [p.name for p in tmp_path.iterdir()] == ["a.bin"]
    assert seen[-1] == (256_000, 256_000)
    assert [received for received, _ in seen] == sorted(received for received, _ in seen)


def test_a_later_call_continues_an_earlier_one(tmp_path: Path, server: Server) -> None:
    server.files["/a.bin"], server.cut = CONTENT, [70_000, 0]
    with pytest.raises(DownloadError, match="the connection ended after 70000 of 256000 bytes, after 2 attempts"):
        download(f"{server.address}/a.bin", tmp_path / "a.bin", attempts=2, pause=0)
    assert not (tmp_path / "a.bin").exists()
    download(f"{server.address}/a.bin", tmp_path / "a.bin", md5=MD5, attempts=1)
    assert server.asked[-1] == ("/a.bin", "bytes=70000-")
    assert (tmp_path / "a.bin").read_bytes() == CONTENT


def test_a_server_without_ranges_begins_anew(tmp_path: Path, server: Server) -> None:
    server.files["/a.bin"], server.cut, server.ranges = CONTENT, [70_000], False
    download(f"{server.address}/a.bin", tmp_path / "a.bin", md5=MD5, pause=0)
    assert len(server.asked) == 2


def test_a_part_that_is_whole_is_taken_and_a_longer_one_is_thrown_away(tmp_path: Path, server: Server) -> None:
    server.files["/a.bin"] = CONTENT
    for extra in (b"", b"left from another file"):
        (tmp_path / "a.bin.part").write_bytes(CONTENT + extra)
        download(f"{server.address}/a.bin", tmp_path / "a.bin", md5=MD5, pause=0)
        assert (tmp_path / "a.bin").read_bytes() == CONTENT


def test_busy_servers_are_asked_again_and_refusals_are_final(tmp_path: Path, server: Server) -> None:
    server.files["/a.bin"], server.failures = CONTENT, [503, 429]
    download(f"{server.address}/a.bin", tmp_path / "a.bin", md5=MD5, pause=0)
    assert len(server.asked) == 3
    with pytest.raises(DownloadError, match=r"/gone: HTTP Error 404: .*, after 1 attempt$"):
        download(f"{server.address}/gone", tmp_path / "b.bin", pause=0)
    assert len(server.asked) == 4


def test_another_checksum_is_refused_and_leaves_nothing(tmp_path: Path, server: Server) -> None:
    server.files["/a.bin"] = CONTENT + b"."
    with pytest.raises(DownloadError, match=f"but {MD5} was expected"):
        download(f"{server.address}/a.bin", tmp_path / "a.bin", md5=MD5, pause=0)
    assert list(tmp_path.iterdir()) == []


def make_zip(path: Path, files: dict[str, bytes]) -> Path:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in files.items():
            archive.writestr(name, content)
    return path


def folder_archive(path: Path, prefix: str = "cub/") -> Path:
    names = [f"{prefix}{split}/{cls}/0.png" for split in ("train", "test") for cls in ("a", "b")]
    return make_zip(path, dict.fromkeys(names, b"picture"))


def left_over(root: Path) -> list[str]:
    """Everything in the data root but the data sets and the lock."""
    return sorted(p.relative_to(root).as_posix() for p in root.rglob("*") if p.is_file() and p.suffix != ".png")


@pytest.mark.parametrize("prefix", ["", "cub/", "some/where/deep/"])
def test_an_archive_is_unpacked_from_wherever_its_layout_begins(tmp_path: Path, prefix: str) -> None:
    archive = folder_archive(tmp_path / "any name.zip", prefix)
    root = tmp_path / "data"
    assert main(["fetch", "CUB", "--root", str(root), "--from", str(archive)]) == 0
    assert (root / "cub200" / "test" / "b" / "0.png").read_bytes() == b"picture"
    assert sorted(p.name for p in root.iterdir()) == [DOWNLOADS, "cub200"]
    assert archive.is_file()


def test_a_mirror_replaces_the_location(tmp_path: Path, server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    content = folder_archive(tmp_path / "cub.zip").read_bytes()
    server.files["/mirror/cub200.zip"], server.cut = content, [len(content) // 2]
    root = tmp_path / "data"
    monkeypatch.setenv("SAFE_DATA_MIRROR", f"{server.address}/mirror/")
    assert main(["fetch", "cub200", "--root", str(root)]) == 0
    assert len(list((root / "cub200").rglob("*.png"))) == 4
    assert left_over(root) == [f"{DOWNLOADS}/cub200.lock"]
    asked = len(server.asked)
    assert main(["fetch", "cub200", "--root", str(root)]) == 0  # it is there: nothing is asked
    assert len(server.asked) == asked


def test_cifar_from_a_mirror_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    source = tmp_path / "mirror" / "cifar-100-binary"
    source.mkdir(parents=True)
    for split, count in (("train", 4), ("test", 2)):
        np.zeros(3074 * count, dtype=np.uint8).tofile(source / f"{split}.bin")
    (source / "fine_label_names.txt").write_text("apple\n")
    with tarfile.open(tmp_path / "mirror" / "cifar-100-binary.tar.gz", "w:gz") as archive:
        archive.add(source, "cifar-100-binary")
    monkeypatch.setenv("SAFE_DATA_MIRROR", (tmp_path / "mirror").as_uri())
    assert main(["fetch", "cifar100", "--root", str(tmp_path / "data")]) == 0
    with pytest.warns(UserWarning, match="are published"):
        assert len(load_dataset("cifar100", tmp_path / "data", 224).train) == 4
    assert (tmp_path / "mirror" / "cifar-100-binary.tar.gz").is_file()


@pytest.mark.filterwarnings("ignore:.*are published")
def test_domainnet_needs_all_its_files(tmp_path: Path) -> None:
    source = tmp_path / "given"
    source.mkdir()
    for domain in DOMAINS:
        paths = {split: f"{domain}/lion/{split}.png" for split in ("train", "test")}
        for split, path in paths.items():
            (source / f"{domain}_{split}.txt").write_text(f"{path} 0\n")
        if domain != "clipart":
            make_zip(source / f"{domain}.zip", dict.fromkeys(paths.values(), b"x"))
    with pytest.raises(UserError, match=r"clipart\.zip is not a file"):
        fetch("domainnet", tmp_path / "data", source=source)
    assert not (tmp_path / "data" / "domainnet").exists()
    make_zip(source / "clipart.zip", {"clipart/lion/train.png": b"x", "clipart/lion/test.png": b"x"})
    fetch("domainnet", tmp_path / "data", source=source)
    dataset = load_dataset("domainnet", tmp_path / "data", 224)
    assert (len(dataset.train), len(dataset.test), dataset.classes) == (6, 6, ("lion",))


@pytest.mark.parametrize("content", ["page", "other", "bomb"])
def test_what_is_not_the_data_set_leaves_nothing_behind(tmp_path: Path, server: Server, content: str) -> None:
    made = {
        "page": b"<html>too many downloads</html>",
        "other": make_zip(tmp_path / "o.zip", {"readme.txt": b"hello"}).read_bytes(),
        "bomb": make_zip(tmp_path / "b.zip", {"train/a/0.png": bytes(2**26 + 1)}).read_bytes(),
    }
    server.files["/cub200.zip"] = made[content]
    root = tmp_path / "data"
    with pytest.raises(UserError, match=r"neither a zip nor|holds no cub200|is refused"):
        fetch("cub200", root, mirror=server.address)
    assert left_over(root) == [f"{DOWNLOADS}/cub200.lock"]
    assert not (root / "cub200").exists()


def test_what_lies_in_the_way_is_left_alone(tmp_path: Path) -> None:
    archive = folder_archive(tmp_path / "a.zip")
    own = tmp_path / "data" / "cub200" / "train" / "mine.txt"
    own.parent.mkdir(parents=True)
    own.write_text("precious")
    with pytest.raises(UserError, match=r"exists, but has no test\. Move it away"):
        fetch("cub200", tmp_path / "data", source=archive)
    assert own.read_text() == "precious"


def test_a_stale_unpacking_is_thrown_away(tmp_path: Path) -> None:
    stale = tmp_path / "data" / ".cub200.unpacking" / "train" / "half" / "9.png"
    stale.parent.mkdir(parents=True)
    stale.write_bytes(b"")
    fetch("cub200", tmp_path / "data", source=folder_archive(tmp_path / "a.zip", ""))
    assert sorted(p.name for p in (tmp_path / "data" / "cub200" / "train").iterdir()) == ["a", "b"]
    assert not (tmp_path / "data" / ".cub200.unpacking").exists()


def test_an_interrupted_fetch_leaves_no_half_data_set(tmp_path: Path, server: Server) -> None:
    server.files["/cub200.zip"] = folder_archive(tmp_path / "a.zip").read_bytes()
    root = tmp_path / "data"

    def interrupt(said: str) -> None:
        if said.startswith("unpacking"):
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        fetch("cub200", root, mirror=server.address, say=interrupt)
    assert [p.name for p in root.iterdir()] == [DOWNLOADS]
    asked = len(server.asked)
    fetch("cub200", root, mirror=server.address)  # what was downloaded is not asked for again
    assert len(server.asked) == asked
    assert len(list((root / "cub200").rglob("*.png"))) == 4


def test_two_fetches_do_not_meet(tmp_path: Path) -> None:
    archive = folder_archive(tmp_path / "a.zip")

    def meet(said: str) -> None:
        if said.startswith("unpacking"):
            with pytest.raises(UserError, match="another process is fetching"):
                fetch("cub200", tmp_path / "data", source=archive)

    fetch("cub200", tmp_path / "data", source=archive, say=meet)
    assert (tmp_path / "data" / "cub200" / "train").is_dir()


def test_without_network_the_message_says_what_to_do_by_hand(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    def offline(archive: Archive, address: str, target: Path) -> None:
        raise DownloadError("no route to host")

    with pytest.raises(UserError) as error:
        fetch("imagenet_a", tmp_path, get=offline)
    for part in (
        "could not download imagenet_a.zip: no route to host",
        "https://drive.google.com/file/d/19l52ua_vvTtttgVRziCZJjal0TPE9f2p/view",
        f"python -m safe.data fetch imagenet_a --root {tmp_path} --from FILE",
        f"{tmp_path}/imagenet_a/train/<class folder>/<image>",
    ):
        assert part in str(error.value)
    assert main(["fetch", "cars", "--root", str(tmp_path)]) == 2
    assert "no lasting public copy of cars is known" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "match"),
    [
        (["fetch", "digits"], "nothing to fetch"),
        (["fetch", "nothing"], "unknown data set 'nothing'"),
        (["fetch", "cub", "--from", "/no/such/file"], "is not a file"),
    ],
)
def test_bad_input_ends_with_2(arguments: list[str], match: str, tmp_path: Path, capsys: Any) -> None:
    assert main([*arguments, "--root", str(tmp_path)]) == 2
    assert match in capsys.readouterr().err


def test_a_mirror_is_an_address(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="SAFE_DATA_MIRROR must begin with https://"):
        fetch("cub200", tmp_path, mirror="/data/mirror")


def test_google_drive_through_gdown(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[dict[str, Any]] = []

    def fake(**arguments: Any) -> str:
        calls.append(arguments)
        folder_archive(Path(arguments["output"]))
        return str(arguments["output"])

    monkeypatch.setitem(sys.modules, "gdown", types.SimpleNamespace(download=fake))
    fetch("vtab", tmp_path)
    assert (tmp_path / "vtab" / "train" / "a" / "0.png").is_file()
    assert calls[0]["id"] == "1xUiwlnx4k0oDhYi26KL5KwrCAya-mvJ_"
    assert calls[0]["resume"] is True

    def quota(**arguments: Any) -> None:
        raise RuntimeError("Too many users\n have viewed this file")

    monkeypatch.setitem(sys.modules, "gdown", types.SimpleNamespace(download=quota))
    with pytest.raises(DownloadError, match="Too many users have viewed this file"):
        download_drive("x", tmp_path / "x.zip")


def test_locations_are_those_of_the_published_splits() -> None:
    assert set(LOCATIONS) == {i.name for i in DATASETS.values() if not i.embedded} - {"cars"}
    assert len(LOCATIONS["domainnet"]) == 18
    for archives in LOCATIONS.values():
        for archive in archives:
            assert bool(archive.url) != bool(archive.drive_id)
            assert archive.place.startswith("https://") or (archive.place.startswith("http://") and archive.md5)
            assert not archive.url or archive.url.endswith(f"/{archive.file}")
    assert {a.file: a.url for a in LOCATIONS["domainnet"]}["clipart.zip"].endswith(
        "multi-source/groundtruth/clipart.zip"
    )
    resources = torchvision.datasets.FashionMNIST.resources
    assert {(a.file, a.md5) for a in LOCATIONS["fashion_mnist"]} == set(resources)
    assert {a.url for a in LOCATIONS["fashion_mnist"]} == {
        torchvision.datasets.FashionMNIST.mirrors[0] + file for file, _ in resources
    }
    assert locations.LOCATIONS["cifar100"][0].md5 == "03b5dce01913d631647c71ecec9e9cb8"
