"""The final model in MLflow: what is in it, what it predicts, and which one is the champion."""

from __future__ import annotations

import base64
import json
import os
import shlex
import signal
import subprocess
import sys
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from io import BytesIO
from pathlib import Path
from typing import Any

import mlflow.pyfunc
import numpy as np
import pandas as pd
import pytest
import torch
from PIL import Image

from safe.config import load_config
from safe.data.loading import load_dataset
from safe.errors import Notice, UserError
from safe.predictor import load_predictor
from safe.states.checkpoint import load_state
from safe.states.inference import load_inference_state
from safe.types import SessionResult
from sweeps.cli import main
from sweeps.ledger.folders import Folders
from sweeps.ledger.jobs import Job, Kind, job_id
from sweeps.ledger.ledger import Ledger, SweepLog
from sweeps.ledger.record import SessionRecord
from sweeps.model.fetched import fetch_state
from sweeps.model.registry import CHAMPION, log_final_model, model_name
from sweeps.model.request import write_request
from sweeps.model.saving import as_text, example, model_code, model_of
from sweeps.spec.specs import SweepSpec
from tracking import MlflowRecorder, TrackingError

NAME = "safe-digits"


@pytest.fixture(scope="module")
def images(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """Return two image files."""
    folder, files = tmp_path_factory.mktemp("images"), []
    for number in range(2):
        files.append(folder / f"{number}.png")
        Image.linear_gradient("L").rotate(90 * number).resize((8, 8)).save(files[-1])
    return files


def test_a_models_code_is_written_without_torch(tmp_path: Path) -> None:
    code = "import sys; from pathlib import Path; from sweeps.model.saving import model_code; "
    code += f"print(model_code(Path({str(tmp_path / 'code')!r})), {{'torch', 'timm'}} & set(sys.modules))"
    printed = subprocess.check_output([sys.executable, "-c", code], text=True)
    assert printed == f"{tmp_path / 'code'} set()\n"
    assert (tmp_path / "code" / "MLmodel").exists()


def test_what_a_kill_leaves_of_a_models_code_is_gone_once_it_is_written(tmp_path: Path) -> None:
    child = os.fork()
    if child == 0:
        mlflow.pyfunc.save_model = lambda *_, **__: os.kill(os.getpid(), signal.SIGKILL)
        model_code(tmp_path / "study" / "model")
        os._exit(0)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == -signal.SIGKILL
    assert list((tmp_path / "study").iterdir()), "it was killed in the midst of it"
    assert (model_code(tmp_path / "study" / "model") / "MLmodel").is_file()
    assert {entry.name for entry in (tmp_path / "study").iterdir()} == {"model", ".model.lock"}


class Store:
    """A results folder with an MLflow store, in which sweeps are finished by hand."""

    def __init__(
        self, results: Path, states: Path, settings: dict[str, Any], make_spec: Callable[..., SweepSpec]
    ) -> None:
        self.results, self.states, self.settings, self.make_spec = results, states, settings, make_spec

    def finish(self, name: str, score: float, *, digest: str = "data", **changes: Any) -> dict[str, Any]:
        """Log the model of a finished sweep."""
        outcome = log_final_model(*self.sweep(name, score, digest=digest, **changes))
        assert outcome is not None
        return outcome

    def sweep(
        self, name: str, score: float, *, digest: str = "data", **changes: Any
    ) -> tuple[SweepLog, Folders, MlflowRecorder]:
        base = load_config("digits", overrides=self.settings).flat()
        spec = self.make_spec(name=name, base=base, seeds=1, **changes)
        folders = Folders(self.results, name)
        folders.make()
        folders.tracking_uri = lambda: f"sqlite:///{self.results / 'mlflow.db'}"  # type: ignore[method-assign]
        ledger = Ledger.create(folders.sweep, spec)
        for kind, place in ((Kind.TRIAL, {"trial": 3}), (Kind.FINAL, {"trial": 3, "repeat": 0})):
            ledger.append("job", **Job(job_id(kind, **place), kind, str(kind), base, [], states="", **place).record())
        for session in (1, 2):
            result = SessionResult(session, 2, "test", classes_seen=session, metrics={})
            record = SessionRecord.of(
                result, {"data_digest": digest, "weights_digest": "weights", "class_order": "0,1"}, [1] * session
            )
            ledger.append("session", job="final-03-0", **record.to_json())
        ledger.append("status", job="final-03-0", status="FINISHED", reason=None)
        ledger.append("selected", trial="trial-03", prediction={}, score=score)
        ledger.close()
        target = folders.states / "final-03-0" / "checkpoints"
        if not target.exists():
            target.parent.mkdir(parents=True)
            target.symlink_to(self.states)
        recorder = MlflowRecorder(folders.tracking_uri(), spec.dataset)
        recorder.start(name, {}, {}, name=name)
        recorder.start(f"{name}/final-03-0", {}, {}, name="final 0", parent=name)
        return ledger.log, folders, recorder

    def client(self) -> Any:
        from mlflow import MlflowClient

        uri = f"sqlite:///{self.results / 'mlflow.db'}"
        return MlflowClient(uri, registry_uri=uri)

    def champion(self) -> str:
        return str(self.client().get_model_version_by_alias(NAME, CHAMPION).version)


@pytest.fixture(scope="module")
def store(
    tmp_path_factory: pytest.TempPathFactory,
    states: Path,
    untrained: dict[str, Any],
    make_spec: Callable[..., SweepSpec],
) -> Iterator[Store]:
    """Return a store in which the sweep `first` is finished, with a score of 0.8."""
    results, working = tmp_path_factory.mktemp("results"), tmp_path_factory.mktemp("working")
    with pytest.MonkeyPatch.context() as patch:
        patch.delenv("MLFLOW_TRACKING_URI", raising=False)
        patch.chdir(working)
        made = Store(results, states, untrained, make_spec)
        made.finish("first", 0.8)
        yield made
    assert not list(working.iterdir()), "MLflow's own default store was asked"


def test_the_first_model_is_the_champion(store: Store) -> None:
    version = store.client().get_model_version(NAME, "1")
    assert "champion" in version.aliases
    assert version.tags["sweep"] == "first"
    assert version.tags["holdout_score"] == "0.8"
    assert version.tags["data_digest"] == "data"
    protocol = json.loads(version.tags["protocol"])
    assert (protocol["selection"], protocol["holdout_share"], protocol["data.init_classes"]) == ("holdout", 0.2, 5)
    of_data = {name for name in protocol if name.startswith("data.")}
    names = ("init_classes", "increment", "sessions", "scenario", "class_order", "holdout_seed")
    assert of_data == {f"data.{name}" for name in names}
    assert version.tags["backbone"] == "safe_small_vit"
    for part in (
        "`safe_small_vit`",
        "chosen by val/average_accuracy 0.8000 (holdout)",
        "digest `data`",
        "after 2 sessions",
    ):
        assert part in version.description
    assert f"python -m sweeps predict --model models:/{NAME}/1 image.png" in version.description
    assert f"python -m sweeps serve --model models:/{NAME}/1" in version.description


def test_the_model_is_an_output_of_its_run_and_of_the_sweep(store: Store) -> None:
    client = store.client()
    version = client.get_model_version(NAME, "1")
    runs = client.search_runs([client.get_experiment_by_name("digits").experiment_id])
    linked = {
        run.data.tags["safe.run_key"]: [(output.model_id, output.step) for output in run.outputs.model_outputs]
        for run in runs
    }
    assert linked["first"] == linked["first/final-03-0"]
    ((model_id, step),) = linked["first"]
    assert (client.get_logged_model(model_id).artifact_location, step) == (version.source, 2)


def test_the_model_holds_the_state_and_no_backbone_and_no_pickle(store: Store, states: Path, tmp_path: Path) -> None:
    uri = f"sqlite:///{store.results / 'mlflow.db'}"
    state = fetch_state(f"models:/{NAME}/1", uri, tmp_path)
    folder = state.parents[2]
    loaded = load_inference_state(state)
    assert set(loaded["learners"]["slow"]) == {"pet", "readout", "scale"}
    assert loaded["classes"] == load_state(states / "session-02.pt")["classes"]
    files = {file.relative_to(folder).as_posix() for file in folder.rglob("*") if file.is_file()}
    assert {"MLmodel", "pyfunc.py", "artifacts/state/session-02.pt", "input_example.json", "requirements.txt"} < files
    assert not [name for name in files if name.endswith((".pkl", ".pickle"))]
    assert sum(file.stat().st_size for file in state.parent.iterdir()) < 1_500_000  # the network alone has 2.6 MB
    text = (folder / "MLmodel").read_text()
    assert str(Path(__file__).parents[3]) not in text


def test_the_loaded_model_predicts_as_the_state_does(store: Store, states: Path, images: list[Path]) -> None:
    import mlflow.pyfunc
    import pandas as pd
    from mlflow.exceptions import MlflowException

    place = store.client().get_model_version_by_alias(NAME, CHAMPION).source
    model = mlflow.pyfunc.load_model(place)
    texts = [base64.b64encode(file.read_bytes()).decode() for file in images]
    rows = model.predict(pd.DataFrame({"image": texts}), params={"top_k": 3})
    expected = load_predictor(states / "session-02.pt", device="cpu").predict(images)
    assert rows["label"].tolist() == expected.labels
    assert rows["probability"].tolist() == expected.probabilities.max(dim=1).values.tolist()
    assert rows["weight_fast"].tolist() == [0.5, 0.5]
    assert [[(t["label"], t["probability"]) for t in top] for top in rows["top"]] == expected.top(3)
    assert [len(top) for top in model.predict(pd.DataFrame({"image": texts}))["top"]] == [5, 5]
    for bad in ("no image!", base64.b64encode(b"text").decode()):
        with pytest.raises(MlflowException, match="image 1: expected the base64 text of an image file"):
            model.predict(pd.DataFrame({"image": [texts[0], bad]}))


def test_it_is_registered_once(store: Store) -> None:
    before = store.client().search_logged_models([store.client().get_experiment_by_name("digits").experiment_id])
    log, folders, recorder = store.sweep("first", 0.8)
    again = log_final_model(log, folders, recorder)
    assert again is not None
    assert (again["version"], again["champion"]) == ("1", store.champion() == "1")
    after = store.client().search_logged_models([store.client().get_experiment_by_name("digits").experiment_id])
    assert {model.model_id for model in before} == {model.model_id for model in after}
    parent = store.client().get_run(recorder.run_id("first"))
    assert parent.data.tags["model"] == f"models:/{NAME}/1"
    assert parent.data.tags["model.note"] == again["words"]


def test_who_becomes_champion(store: Store) -> None:
    worse = store.finish("worse", 0.7)
    assert (worse["champion"], store.champion()) == (False, "1")
    assert "0.7000 on held-out images does not beat the 0.8000 of the champion, version 1" in worse["words"]
    equal = store.finish("equal", 0.8)
    assert not equal["champion"]
    other = store.finish("other-data", 0.99, digest="other")
    assert not other["champion"]
    assert "chosen on other data, so their scores cannot be compared" in other["words"]
    cut = store.finish("other-protocol", 0.99, holdout_share=0.5)
    assert not cut["champion"]
    assert "chosen on another protocol" in cut["words"]
    on_test = store.finish("on-test", 0.99, selection="test")
    assert not on_test["champion"]
    assert "selected on the test images" in on_test["words"]
    assert store.champion() == "1"
    better = store.finish("better", 0.9)
    assert (better["champion"], better["version"], store.champion()) == (True, "7", "7")
    assert better["words"].endswith("average_accuracy 0.9000 on held-out images beats the 0.8000 of version 1")


def test_less_forgetting_is_better(store: Store) -> None:
    settings = {"objective": "forgetting", "dataset": "forgetful"}
    assert store.finish("much", 0.3, **settings)["champion"]
    assert not store.finish("more", 0.4, **settings)["champion"]
    outcome = store.finish("little", 0.1, **settings)
    assert (outcome["name"], outcome["champion"]) == ("safe-forgetful", True)


def test_a_call_cut_short_goes_on_with_what_it_logged(store: Store) -> None:
    settings = {"dataset": "cut"}
    before = store.finish("cut", 0.3, **settings)
    logged = store.client().get_model_version("safe-cut", before["version"]).source
    store.client().delete_model_version("safe-cut", before["version"])
    again = store.finish("cut", 0.3, **settings)
    assert store.client().get_model_version("safe-cut", again["version"]).source == logged
    assert again["champion"]


def test_without_a_state_or_a_store_the_sweep_still_ends(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    log, folders, recorder = store.sweep("stateless", 0.5)
    (folders.states / "final-03-0" / "checkpoints").unlink()
    outcome = log_final_model(log, folders, recorder)
    assert outcome == {"words": "no model is logged: the policy for checkpoints kept no state of final-03-0"}
    (folders.states / "final-03-0" / "checkpoints").symlink_to(store.states)

    def away(uri: str) -> None:
        raise TrackingError("no MLflow server answers")

    monkeypatch.setattr("tracking.mlflow_backend.connect", away)
    away_now = {"words": "no model is logged: no MLflow server answers", "later": True}
    assert log_final_model(log, folders, recorder) == away_now
    log.selected = None
    assert log_final_model(log, folders, recorder) is None


def test_names_of_models() -> None:
    assert model_name("digits") == "safe-digits"
    assert model_name("/data/My birds: v2/") == "safe-My-birds-v2"
    assert model_name("/data/鳥") == "safe-data"


def predict(words: list[str], capsys: pytest.CaptureFixture[str]) -> tuple[int, str, str]:
    code = main(["predict", *words])
    said = capsys.readouterr()
    return code, said.out, said.err


def test_predicting_from_the_shell(
    store: Store, states: Path, images: list[Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    place = ["--results", str(store.results), "--device", "cpu"]
    files = [str(file) for file in images]
    expected = load_predictor(states / "session-02.pt", device="cpu").predict(images)
    run = store.client().get_model_version(NAME, "1").run_id
    logged = store.client().get_run(run).outputs.model_outputs[0].model_id
    for model in (
        f"models:/{NAME}@champion",
        f"models:/{NAME}/1",
        f"models:/{logged}",
        f"runs:/{run}/final-03-0-session-02",
        str(states / "session-02.pt"),
    ):
        code, out, _ = predict(["--model", model, *place, "--json", "--top", "2", *files], capsys)
        lines = [json.loads(line) for line in out.splitlines()]
        assert code == 0
        assert [line["file"] for line in lines] == files
        assert [line["class"] for line in lines] == expected.labels, model
        assert [len(line["top"]) for line in lines] == [2, 2]
        assert lines[0]["weights"] == {"slow": 0.5, "fast": 0.5}
    code, out, _ = predict(["--model", f"models:/{NAME}@champion", *place, str(images[0].parent)], capsys)
    assert [line.split()[1] for line in out.splitlines()[1:]] == expected.labels
    for model, message in (
        ("models:/safe-digits@best", "no model models:/safe-digits@best in MLflow"),
        ("models:/safe-nothing/1", "no model models:/safe-nothing/1 in MLflow"),
        (str(tmp_path), "no state of ours there; give models:/safe-digits@champion"),
        ("missing.pt", "no state of ours there"),
    ):
        code, _, err = predict(["--model", model, *place, *files], capsys)
        assert code == 2, model
        assert message in err
    code, _, err = predict(["--model", "models:/x/1", "--results", str(tmp_path / "none"), *files], capsys)
    assert (code, (tmp_path / "none").exists()) == (2, False)
    assert "no model is recorded in" in err


def test_predicting_in_a_fresh_shell(store: Store, images: list[Path], tmp_path: Path) -> None:
    """As the README has it: nothing tells MLflow where its store is, and nothing is left where it is called."""
    (tmp_path / "results").symlink_to(store.results)
    (tmp_path / "img.png").symlink_to(images[0])
    environment = {key: value for key, value in os.environ.items() if not key.startswith(("MLFLOW", "RESULTS"))}
    done = subprocess.run(
        [sys.executable, "-m", "sweeps", "predict", "--model", f"models:/{NAME}@champion", "img.png"],
        cwd=tmp_path,
        env=environment | {"PYTHONPATH": str(Path(__file__).parents[3])},
        capture_output=True,
        text=True,
    )
    expected = load_predictor(store.states / "session-02.pt", device="cpu").predict(images[:1])
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.splitlines()[1].split()[:2] == ["img.png", expected.labels[0]]
    assert sorted(file.name for file in tmp_path.iterdir()) == ["img.png", "results"]


def test_predicting_with_a_local_model_folder(store: Store, tmp_path: Path) -> None:
    uri = f"sqlite:///{store.results / 'mlflow.db'}"
    folder = fetch_state(f"models:/{NAME}/1", uri, tmp_path).parents[2]
    assert torch.equal(
        load_state(fetch_state(str(folder), uri, tmp_path))["learners"]["slow"]["readout"]["weight"],
        load_state(store.states / "session-02.pt")["learners"]["slow"]["readout"]["weight"],
    )
    with pytest.raises(UserError, match="no state of ours there"):
        fetch_state(str(folder / "artifacts"), uri, tmp_path)


def test_what_is_served_has_the_code_of_this_installation(store: Store, states: Path, tmp_path: Path) -> None:
    uri = f"sqlite:///{store.results / 'mlflow.db'}"
    foreign = fetch_state(f"models:/{NAME}/1", uri, tmp_path).parents[2]
    (foreign / "pyfunc.py").write_text("raise SystemExit('foreign code ran')")
    for number, given in enumerate((foreign, states / "session-02.pt")):
        served = model_of(fetch_state(str(given), uri, tmp_path), tmp_path / f"served-{number}")
        image = pd.DataFrame({"image": [as_text(example())]})
        answer = mlflow.pyfunc.load_model(str(served), model_config={"device": "cpu"}).predict(image)
        expected = load_predictor(states / "session-02.pt", device="cpu")
        (label,) = expected.predict(expected.read(BytesIO(example()))[None]).labels
        assert answer["label"].tolist() == [label]
        assert (served / "pyfunc.py").read_bytes() == (
            Path(__file__).parents[3] / "sweeps/model/pyfunc.py"
        ).read_bytes()


@pytest.mark.e2e
def test_a_session_s_model_answers_the_printed_request(store: Store, states: Path, tmp_path: Path) -> None:
    """As a person does it: the command that `serve` prints is typed into another, bare shell."""
    run = store.client().get_model_version(NAME, "1").run_id
    logged = store.client().get_run(run).outputs.model_outputs[0].model_id
    environment = {key: value for key, value in os.environ.items() if not key.startswith(("MLFLOW", "RESULTS"))}
    words = ["--model", f"models:/{logged}", "--device", "cpu", "--port", str(18_400 + os.getpid() % 1000)]
    server = subprocess.Popen(
        [sys.executable, "-m", "sweeps", "serve", *words, "--results", str(store.results)],
        env=environment | {"PYTHONPATH": str(Path(__file__).parents[3])},
        cwd=tmp_path,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    assert server.stdout is not None
    try:
        told = [server.stdout.readline().strip() for _ in range(4)]
        assert told[0].startswith(f"models:/{logged}: http://127.0.0.1:"), told
        picture = Path(told[1].removeprefix("predicts ").removesuffix(":"))
        address, log = shlex.split(told[2])[-1], Path(told[3].removeprefix("what the server says goes to "))
        assert "Application startup complete" in log.read_text()
        answer = json.loads(subprocess.run(["env", "-i", "sh", "-c", told[2]], capture_output=True, check=True).stdout)
        bad = json.dumps({"dataframe_split": {"columns": ["image"], "data": [["?"]]}})
        refused = urllib.request.Request(address, bad.encode(), {"Content-Type": "application/json"})
        with pytest.raises(urllib.error.HTTPError) as failure:
            urllib.request.urlopen(refused, timeout=30)
        assert failure.value.code == 400
        assert "expected the base64 text of an image file" in failure.value.read().decode()
    finally:
        server.terminate()
        left = server.communicate(timeout=60)[0]
    assert (server.returncode, left) == (0, "")
    expected = load_predictor(states / "session-02.pt", device="cpu").predict([picture])
    (row,) = answer["predictions"]
    assert row["label"] == expected.labels[0]
    assert {best["label"]: best["probability"] for best in row["top"]} == pytest.approx(
        dict(expected.top(5)[0]), rel=1e-3
    )  # of another number of threads
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("model", "message"),
    [
        ("models:/safe-digits@best", "no model models:/safe-digits@best in MLflow"),
        ("models:/m-00000000000000000000000000000000", "no model models:/m-00000000000000000000000000000000 in MLflow"),
        ("models:/safe-digits/9", "no model models:/safe-digits/9 in MLflow"),
        ("safe-digits", "--model safe-digits: no state of ours there; give models:/safe-digits@champion"),
    ],
)
def test_what_cannot_be_served_is_told_in_one_line(
    store: Store, capsys: pytest.CaptureFixture[str], model: str, message: str
) -> None:
    assert main(["serve", "--model", model, "--results", str(store.results)]) == 2
    said = capsys.readouterr()
    assert said.out == ""
    assert said.err.count("\n") == 1
    assert message in said.err


def test_a_request_holds_an_image_of_the_data_set(states: Path, tmp_path: Path) -> None:
    dataset = load_dataset("digits", tmp_path, 32)
    for session, classes in ((1, 5), (2, 10)):
        predictor = load_predictor(states / f"session-{session:02d}.pt", device="cpu")
        assert len(predictor.classes) == classes
        picture = write_request(predictor, tmp_path / "made" / f"{session}.json")
        with Image.open(picture) as image:
            pixels = torch.from_numpy(np.array(image)).permute(2, 0, 1)
        known = [dataset.classes[label] in predictor.classes for label in dataset.test.labels.tolist()]
        assert torch.equal(pixels, dataset.test.read(torch.tensor([known.index(True)]))[0])
        body = json.loads((tmp_path / "made" / f"{session}.json").read_text())
        assert base64.b64decode(body["dataframe_split"]["data"][0][0]) == picture.read_bytes()


def test_a_request_is_made_without_the_data_set_too(states: Path, tmp_path: Path) -> None:
    predictor = load_predictor(states / "session-02.pt", device="cpu")
    predictor.config = predictor.config.model_copy(update={"dataset": str(tmp_path / "gone")})
    with pytest.warns(Notice, match="so the request holds a grey ramp"):
        picture = write_request(predictor, tmp_path / "request.json")
    with Image.open(picture) as image:
        assert (image.mode, image.size) == ("L", (32, 32))
