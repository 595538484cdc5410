"""Nothing that is read runs code: pickles with a payload at every door, and the law that there is no other door.

The checkpoint format itself, with right checksums: tests/safe/states/test_checkpoint.py; `.pth` weights:
tests/safe/backbones/test_loading.py; archives: tests/safe/data/fetching/test_archive.py.
"""

from __future__ import annotations

import ast
import gzip
import hashlib
import io
import os
import pickle
import tarfile
import tracemalloc
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from safe.backbones.loading import load_backbone
from safe.cli.main import main as safe_main
from safe.config import load_config
from safe.data.fetching.archive import MAX_HEADER_BYTES, unpack
from safe.errors import UserError
from safe.predictor import load_predictor
from safe.states.inference import load_inference_state, save_session, session_file
from safe.training.trainer import SafeTrainer
from sweeps.cli import main as sweeps_main
from sweeps.ledger.ledger import FILE_NAME, read_ledger
from sweeps.spec.space import read_space
from sweeps.worker.stage_store import DiskStages
from tracking import TrackingError
from tracking.jsonl import read_journal

ROOT = Path(__file__).resolve().parents[2]
KEY = "0" * 64


class Payload:
    """What a malicious pickle does: call a function of its choice when it is loaded."""

    def __init__(self, marker: Path) -> None:
        self.marker = marker

    def __reduce__(self) -> tuple[Any, ...]:
        return os.mkdir, (str(self.marker),)


@pytest.fixture
def payload(tmp_path: Path) -> Iterator[Payload]:
    """Return an object that leaves a folder behind when it is unpickled; there must be none in the end."""
    made = Payload(tmp_path / "it ran")
    yield made
    assert not made.marker.exists(), "code of the file ran"
    pickle.loads(pickle.dumps(made))
    assert made.marker.exists(), "this payload could never have run"


def state_file(content: Any) -> bytes:
    """Return a file of ours around anything, with the right checksum."""
    buffer = io.BytesIO()
    torch.save(content, buffer)
    head = (1).to_bytes(4, "big")
    return b"SAFESTATE" + head + hashlib.sha256(head + buffer.getvalue()).digest() + buffer.getvalue()


# ---------------------------------------------------------------- states and models


def test_predict_and_evaluate(tmp_path: Path, payload: Payload, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "run.state").write_bytes(state_file({"config": payload}))
    (tmp_path / "plain.pkl").write_bytes(pickle.dumps(payload))
    (tmp_path / "a.png").touch()
    for file in ("run.state", "plain.pkl"):
        for words in (["predict", file, "a.png"], ["evaluate", file]):
            assert safe_main([words[0], *(str(tmp_path / word) for word in words[1:])]) == 2
            assert len(capsys.readouterr().err.splitlines()) == 1


def test_a_resumed_run(tmp_path: Path, payload: Payload, pictures: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "run.state").write_bytes(state_file({"config": payload}))
    words = ["train", "--state", str(tmp_path / "run.state"), f"dataset={pictures}", "backbone.weights=random"]
    assert safe_main([*words, "data.init_classes=2", "data.increment=2"]) == 2
    assert "other than plain data and was not loaded" in capsys.readouterr().err


def test_a_part_of_a_state(tmp_path: Path, payload: Payload, trained: SafeTrainer) -> None:
    save_session(trained.inference_state(), tmp_path)
    for part in tmp_path.glob("pet-*.pt"):
        part.write_bytes(state_file({"version": 2, "pet": payload}))
    with pytest.raises(UserError, match="other than plain data"):
        load_inference_state(session_file(tmp_path, 2))


def test_a_stage(tmp_path: Path, payload: Payload) -> None:
    """In the shared store whoever writes the folder writes stages: what is not plain data is thrown away."""
    stage = tmp_path / "features" / f"{KEY}.stage"
    stage.parent.mkdir()
    stage.write_bytes(state_file({"version": 1, "kind": "features", "key": KEY, "seconds": 1.0, "value": payload}))
    with pytest.warns(UserWarning, match="a stage is discarded and computed again: .* other than plain data"):
        claim = DiskStages(tmp_path).claim("features", KEY)
    assert claim.stage is None
    claim.release()
    assert not stage.exists()


def test_a_model_of_mlflow(tmp_path: Path, payload: Payload, capsys: pytest.CaptureFixture[str]) -> None:
    """`sweeps predict` takes the state out of the artefacts and leaves everything else of them alone."""
    model = tmp_path / "model"
    (model / "artifacts").mkdir(parents=True)
    (model / "python_model.pkl").write_bytes(pickle.dumps(payload))
    (model / "pyfunc.py").write_text(f"import os; os.mkdir({str(payload.marker)!r})")
    (model / "MLmodel").write_text(
        "flavors:\n  python_function:\n    loader_module: mlflow.pyfunc.model\n    python_model: python_model.pkl\n"
        "    cloudpickle_version: 3.1.1\n"
    )
    (model / "artifacts" / "model.state").write_bytes(state_file({"config": payload}))
    (tmp_path / "a.png").touch()
    assert sweeps_main(["predict", "--model", str(model), str(tmp_path / "a.png")]) == 2
    assert "other than plain data and was not loaded" in capsys.readouterr().err


def test_a_state_with_the_right_checksum_and_wrong_insides(tmp_path: Path) -> None:
    contents: list[Any] = [{"learners": [1]}, {"learners": {"slow": 1}}, {"config": "{}"}, [1], 1, None]
    for content in contents:
        (tmp_path / "run.state").write_bytes(state_file(content))
        with pytest.raises(UserError, match=r"is not an inference state|holds no state but a"):
            load_predictor(tmp_path / "run.state")


# ---------------------------------------------------------------- weights


@pytest.mark.parametrize("suffix", ["npz", "pth", "pt", "bin", "safetensors"])
def test_weights(tmp_path: Path, payload: Payload, suffix: str) -> None:
    file = tmp_path / f"weights.{suffix}"
    if suffix == "npz":
        names = ("embedding/kernel", "cls", "Transformer/posembed_input/pos_embedding")
        np.savez(file, **{name: np.array([payload], dtype=object) for name in names})
    else:
        file.write_bytes(pickle.dumps({"model": payload}))
    with pytest.raises(UserError, match=rf"backbone.weights={file} could not be loaded"):
        load_backbone("vit_tiny_patch16_224.augreg_in21k", str(file))


# ---------------------------------------------------------------- text


@pytest.mark.parametrize(
    "text",
    [
        "a: !!python/object/apply:os.mkdir ['{marker}']",
        "!!python/object/new:os.mkdir ['{marker}']",
        "a: !!python/name:os.system",
        "a: !!python/module:subprocess",
    ],
)
def test_yaml(tmp_path: Path, payload: Payload, text: str) -> None:
    file = tmp_path / "a.yaml"
    file.write_text(text.format(marker=payload.marker))
    with pytest.raises(UserError, match="is not valid YAML"):
        load_config(file=file)
    with pytest.raises(UserError, match="is not valid YAML"):
        read_space(file, "digits")


def test_a_page_of_aliases_is_refused_at_once(tmp_path: Path) -> None:
    """Thirty lines stand for 2^30 settings, or one for a setting that contains itself."""
    bomb = "a0: &a0 {x: 1, y: 2}\n" + "".join(f"a{i}: &a{i} {{x: *a{i - 1}, y: *a{i - 1}}}\n" for i in range(1, 30))
    for text in (bomb, "a: &a {b: *a}", "slow.epochs: &a [*a]", "seed: " + "9" * 5000):
        (tmp_path / "a.yaml").write_text(text)
        with pytest.raises(UserError, match=r"a\.yaml is not valid YAML") as error:
            load_config(file=tmp_path / "a.yaml")
        assert len(str(error.value)) < 500


def test_ledgers_and_journals(tmp_path: Path, payload: Payload) -> None:
    (tmp_path / FILE_NAME).write_bytes(pickle.dumps(payload, protocol=0) + b"\n")
    with pytest.raises(UserError, match="is damaged in line 1"):
        read_ledger(tmp_path)
    with pytest.raises(TrackingError, match="line 1 is not a line of a tracking journal"):
        read_journal(tmp_path / FILE_NAME)


# ---------------------------------------------------------------- archives


@pytest.mark.parametrize("kind", [tarfile.GNUTYPE_LONGNAME, tarfile.XHDTYPE, tarfile.GNUTYPE_SPARSE])
@pytest.mark.parametrize("first", [True, False])
def test_a_header_that_unpacks_to_all_memory_is_refused(tmp_path: Path, kind: bytes, first: bool) -> None:
    """Long names and the like are read whole by tarfile: 64 MB of them come out of 64 kB."""
    archive = tmp_path / "a.tar.gz"
    with gzip.open(archive, "wb", 1) as file:
        if not first:
            plain = tarfile.TarInfo("a")
            file.write(plain.tobuf(tarfile.GNU_FORMAT))
        header = tarfile.TarInfo("long")
        header.type, header.size = kind, 64 * MAX_HEADER_BYTES
        block = bytearray(header.tobuf(tarfile.GNU_FORMAT))
        if kind == tarfile.GNUTYPE_SPARSE:
            block[482] = 1  # its list goes on in the next block, and on
            block[148:156] = b"%06o\0 " % (256 + sum(block[:148]) + sum(block[156:]))
        file.write(block)
        for _ in range(64):
            file.write(b"\1" * MAX_HEADER_BYTES)
    assert archive.stat().st_size < 2**20
    tracemalloc.start()
    try:
        with pytest.raises(UserError, match=rf"{archive} is (damaged|neither a zip nor a tar archive)"):
            unpack(archive, tmp_path / "target")
        assert tracemalloc.get_traced_memory()[1] < 8 * MAX_HEADER_BYTES
    finally:
        tracemalloc.stop()


# ---------------------------------------------------------------- no other door

# What may be called nowhere.
DOORS = {
    "load": {"pickle", "cloudpickle", "joblib", "dill", "marshal", "shelve"},
    "loads": {"pickle", "cloudpickle", "joblib", "dill", "marshal"},
    "Unpickler": {"pickle", "cloudpickle"},
    "unsafe_load": {"yaml"},
    "full_load": {"yaml"},
    "system": {"os"},
    "popen": {"os"},
}


def opened(tree: ast.AST) -> Iterator[str]:
    """Give what a module calls that would run what it reads."""
    for call in (node for node in ast.walk(tree) if isinstance(node, ast.Call)):
        name = ast.unparse(call.func)
        owner, _, leaf = name.rpartition(".")
        given = {keyword.arg: ast.unparse(keyword.value) for keyword in call.keywords}
        if (
            name in ("eval", "exec", "compile", "__import__")
            or owner.rpartition(".")[2] in DOORS.get(leaf, ())
            or (name == "torch.load" and given.get("weights_only") != "True")
            or (leaf == "load_state_dict" and owner == "" and given.get("weights_only") != "True")
            or (name in ("np.load", "numpy.load") and given.get("allow_pickle", "False") != "False")
            or (name == "yaml.load" and given.get("Loader") != "_Loader")
            or given.get("shell", "False") != "False"
        ):
            yield name


def test_no_module_opens_another_door() -> None:
    opened_doors = {
        (str(file.relative_to(ROOT)), name)
        for package in ("safe", "sweeps", "tracking")
        for file in (ROOT / package).rglob("*.py")
        for name in opened(ast.parse(file.read_text("utf-8")))
    }
    assert opened_doors == set()


@pytest.mark.parametrize(
    "code",
    [
        "pickle.load(f)", "ray.cloudpickle.loads(b)", "torch.load(p)", "torch.load(p, weights_only=False)",
        "np.load(p, allow_pickle=True)", "yaml.load(t, Loader=yaml.Loader)", "eval(x)", "joblib.load(p)",
        "subprocess.run(w, shell=True)", "os.system(w)", "load_state_dict(p)",
    ],
)  # fmt: skip
def test_the_law_sees_a_door(code: str) -> None:
    assert list(opened(ast.parse(code)))
