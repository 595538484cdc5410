"""Predicting: the trainer's own logits at every session, from a file, for tensors and for image files."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import save_file
from timm.models.vision_transformer import VisionTransformer
from torch import Tensor

from safe.backbones.loading import load_backbone
from safe.config import Config
from safe.data.sources import ArrayImages, Dataset
from safe.errors import UserError
from safe.evaluation.logits import Prediction
from safe.predictor import Predictor, load_predictor
from safe.states.checkpoint import load_state, save_state
from safe.states.inference import VERSION
from safe.training.build import prediction_of
from safe.training.trainer import SafeTrainer

ONE_EPOCH = {"slow.epochs": 1, "fast.epochs": 1}
KINDS = ("none", "adapter", "ssf", "vpt_deep", "vpt_shallow", "lora", "full")
TIMM_NAME = "test_vit.r160_in1k"  # 160 pixels: larger than the images, which the plain view then enlarges

Load = Callable[[], Predictor]
Trained = tuple[SafeTrainer, Path]


@pytest.fixture(scope="session")
def trained(finished: Any) -> Trained:
    """Return a finished trainer and the file of its inference state."""
    return finished.trainer, finished.file


@pytest.fixture
def predictor(trained: Trained, tiny_vit: VisionTransformer) -> Predictor:
    return load_predictor(trained[1], device="cpu", backbone=tiny_vit)


def changed(path: Path, folder: Path, **entries: Any) -> Path:
    """Write the state in `path` with other entries to a new file."""
    save_state({**load_state(path), **entries}, folder / "changed.state")
    return folder / "changed.state"


def judged(trainer: SafeTrainer) -> Tensor:
    """The evaluation images of the sessions so far, ordered by session group."""
    sessions = trainer.stream.sessions[: trainer.session]
    return torch.cat([s.evaluation.read(torch.arange(len(s.evaluation))) for s in sessions])


def aggregated(trainer: SafeTrainer) -> Tensor:
    """The trainer's own aggregated logits of those images."""
    assert trainer.session_logits is not None
    return trainer.session_logits.combined(prediction_of(trainer.config))


def write_pngs(images: Tensor, folder: Path) -> list[Path]:
    paths = [folder / f"{i:02d}.png" for i in range(len(images))]
    for path, image in zip(paths, images, strict=True):
        Image.fromarray(image.permute(1, 2, 0).numpy()).save(path)
    return paths


# ---------------------------------------------------------------- the trainer's own logits


@pytest.mark.parametrize("head", ["ridge", "class_means", "cosine"])
@pytest.mark.parametrize("kind", KINDS)
def test_every_session_is_predicted_as_the_trainer_judged_it(
    make_config: Callable[..., Config],
    tiny_dataset: Dataset,
    tiny_vit: VisionTransformer,
    tmp_path: Path,
    kind: str,
    head: str,
) -> None:
    trainer = SafeTrainer(make_config({**ONE_EPOCH, "pet.kind": kind, "head.kind": head}), tiny_dataset, tiny_vit)
    for session in (1, 2, 3):
        trainer.run_session()
        save_state(trainer.inference_state(), tmp_path / "run.state")
        predictor = load_predictor(tmp_path / "run.state", device="cpu", backbone=tiny_vit)
        own, logits = trainer.session_logits, predictor.judge(tiny_dataset)
        assert own is not None
        for name in ("slow", "fast", "labels"):
            assert torch.equal(getattr(logits, name), getattr(own, name)), (session, name)
        assert (logits.slow_scale, logits.fast_scale, logits.counts) == (own.slow_scale, own.fast_scale, own.counts)
        prediction = predictor.predict(judged(trainer))
        assert (prediction.logits - aggregated(trainer)).abs().max() <= 1e-6, session
        assert (predictor.session, len(prediction.classes)) == (session, 2 * session)
        assert torch.equal(logits.slow, logits.fast) == (session == 1 or (kind == "none" and head != "cosine"))
        if session == 1:
            assert torch.equal(prediction.slow, prediction.fast)
            assert prediction.fast_weight.tolist() == [0.5] * 8


@pytest.mark.parametrize(
    "overrides",
    [
        {"runtime.precision": "bf16"},
        {"head.projection_dim": 0, "head.logit_scale": 3.0},
        {"aggregation.kind": "max"},
        {"fast.epochs": 0, "aggregation.temperature": 0.01},
        {"data.evaluate_on": "holdout", "data.holdout_share": 0.25},
    ],
    ids=str,
)
def test_other_settings_are_predicted_as_the_trainer_judged_them(
    make_config: Callable[..., Config],
    tiny_dataset: Dataset,
    tiny_vit: VisionTransformer,
    tmp_path: Path,
    overrides: dict[str, Any],
) -> None:
    trainer = SafeTrainer(make_config({**ONE_EPOCH, **overrides}), tiny_dataset, tiny_vit)
    while not trainer.done:
        trainer.run_session()
    save_state(trainer.inference_state(), tmp_path / "run.state")
    predictor = load_predictor(tmp_path / "run.state", device="cpu", backbone=tiny_vit)
    logits = predictor.judge(tiny_dataset)
    assert torch.equal(
        logits.combined(Prediction(predictor.config.aggregation.kind, 0.7)),
        trainer.session_logits.combined(replace(prediction_of(trainer.config), temperature=0.7)),
    )
    assert (predictor.predict(judged(trainer)).logits - aggregated(trainer)).abs().max() <= 1e-6


@pytest.mark.parametrize("name", ["safe_small_vit", TIMM_NAME])
def test_the_backbone_is_rebuilt_from_the_configuration(
    make_config: Callable[..., Config], tiny_dataset: Dataset, tmp_path: Path, name: str
) -> None:
    weights = "random"
    if name == TIMM_NAME:
        weights = str(tmp_path / "weights.safetensors")
        save_file(load_backbone(name, "random", seed=7).state_dict(), weights)
    config = make_config({**ONE_EPOCH, "backbone.name": name, "backbone.weights": weights, "data.init_classes": 6})
    trainer = SafeTrainer(config, tiny_dataset)
    trainer.run_session()
    path = tmp_path / "run.state"
    save_state(trainer.inference_state(), path)
    prediction = load_predictor(path, device="cpu").predict(judged(trainer))
    assert (prediction.logits - aggregated(trainer)).abs().max() <= 1e-6

    if name == TIMM_NAME:
        moved = (tmp_path / "weights.safetensors").rename(tmp_path / "moved.safetensors")
        with pytest.raises(UserError, match=r"weights\.safetensors is not a file"):
            load_predictor(path, device="cpu")
        again = load_predictor(path, device="cpu", weights=str(moved)).predict(judged(trainer))
        assert torch.equal(again.logits, prediction.logits)


# ---------------------------------------------------------------- what a prediction holds


def test_probabilities_and_weights_equal_the_formula_in_numpy(predictor: Predictor, trained: Trained) -> None:
    """Method, prediction: w = softmax(-H / tau) of each learner's scaled logits."""
    own = trained[0].session_logits
    prediction = predictor.predict(judged(trained[0]))
    z = [own.slow.double().numpy() * own.slow_scale, own.fast.double().numpy() * own.fast_scale]
    p = [np.exp(x - x.max(1, keepdims=True)) for x in z]
    p = [x / x.sum(1, keepdims=True) for x in p]
    certainty = np.stack([(x * np.log(x)).sum(1) for x in p], axis=1)  # tau is 1
    w = np.exp(certainty) / np.exp(certainty).sum(1, keepdims=True)
    mixed = w[:, :1] * z[0] + w[:, 1:] * z[1]
    expected = np.exp(mixed - mixed.max(1, keepdims=True))
    expected /= expected.sum(1, keepdims=True)
    for name, value in (
        ("slow", p[0]), ("fast", p[1]), ("slow_weight", w[:, 0]), ("fast_weight", w[:, 1]), ("probabilities", expected)
    ):  # fmt: skip
        assert np.abs(getattr(prediction, name).numpy() - value).max() <= 1e-5, name
        assert getattr(prediction, name).dtype == torch.float32
    order = expected.argsort(1)[:, ::-1]
    assert prediction.labels == [prediction.classes[c] for c in order[:, 0]]
    assert [[name for name, _ in row] for row in prediction.top(3)] == [
        [prediction.classes[c] for c in row[:3]] for row in order
    ]
    assert prediction.top(3)[0][1][1] == pytest.approx(expected[0, order[0, 1]], abs=1e-5)
    assert [len(row) for row in prediction.top(99)] == [6] * 24


def test_the_labels_are_right_as_often_as_the_trainer_said(
    predictor: Predictor, trained: Trained, tiny_dataset: Dataset
) -> None:
    pixels = tiny_dataset.test.read(torch.arange(24))
    names = [tiny_dataset.classes[label] for label in tiny_dataset.test.labels]
    right = np.mean([a == b for a, b in zip(predictor.predict(pixels).labels, names, strict=True)])
    rows = trained[0].state_dict()["rows"]["aggregated"][-1]
    assert right == pytest.approx(np.mean(rows), abs=1e-12)
    assert right > 0.4  # six classes


@pytest.mark.parametrize(
    ("kind", "weights"), [("mean", (0.5, 0.5)), ("slow", (1.0, 0.0)), ("fast", (0.0, 1.0)), ("max", None)]
)
def test_weights_of_the_other_aggregations(
    trained: Trained, tiny_vit: VisionTransformer, tmp_path: Path, kind: str, weights: tuple[float, float] | None
) -> None:
    config = load_state(trained[1])["config"].replace('"kind":"entropy"', f'"kind":"{kind}"')
    path = changed(trained[1], tmp_path, config=config)
    prediction = load_predictor(path, device="cpu", backbone=tiny_vit).predict(judged(trained[0]))
    z = [prediction.slow.log(), prediction.fast.log()]  # equal to the scaled logits up to a constant a row
    if weights is None:
        assert prediction.slow_weight is None
        assert prediction.fast_weight is None
    else:
        assert prediction.slow_weight.tolist() == [weights[0]] * 24
        assert prediction.fast_weight.tolist() == [weights[1]] * 24
        expected = (weights[0] * z[0] + weights[1] * z[1]).softmax(dim=1)
        assert torch.allclose(prediction.probabilities, expected, atol=1e-5)


def test_a_prediction_depends_neither_on_the_batch_nor_on_what_came_before(
    predictor: Predictor, trained: Trained
) -> None:
    images = judged(trained[0])
    whole = predictor.predict(images)
    parts = [predictor.predict(part).logits for part in images.split(5)]
    assert torch.allclose(torch.cat(parts), whole.logits, atol=1e-5)
    assert torch.equal(predictor.predict(images).logits, whole.logits)


def test_no_image_gives_an_empty_prediction(predictor: Predictor) -> None:
    for images in ([], torch.empty(0, 3, 32, 32, dtype=torch.uint8)):
        prediction = predictor.predict(images)
        assert prediction.probabilities.shape == prediction.logits.shape == (0, 6)
        assert prediction.fast_weight.shape == (0,)
        assert (prediction.labels, prediction.top(2)) == ([], [])


@pytest.mark.parametrize(
    "images", [torch.zeros(1, 3, 32, 32), torch.zeros(3, 32, 32, dtype=torch.uint8), torch.zeros(1, 1, 8, 8).byte()]
)
def test_other_tensors_are_refused(predictor: Predictor, images: Tensor) -> None:
    with pytest.raises(ValueError, match=r"images must be uint8 \(B, 3, H, W\), got"):
        predictor.predict(images)


# ---------------------------------------------------------------- image files


def test_files_of_the_data_sets_own_size_are_predicted_as_its_images(
    predictor: Predictor, trained: Trained, tmp_path: Path
) -> None:
    images = judged(trained[0])
    paths = write_pngs(images, tmp_path)
    assert torch.equal(predictor.read(paths[0]), images[0])
    assert torch.equal(predictor.predict(paths).logits, predictor.predict(images).logits)
    assert torch.equal(
        predictor.predict([str(path) for path in paths[:1]]).logits, predictor.predict(images[:1]).logits
    )


def test_files_of_a_folder_data_set_are_prepared_as_in_its_evaluation(
    make_config: Callable[..., Config],
    make_dataset: Callable[..., Dataset],
    tiny_vit: VisionTransformer,
    tmp_path: Path,
) -> None:
    pixels = make_dataset()
    for split, images in (("train", pixels.train), ("test", pixels.test)):
        for label in range(6):
            folder = tmp_path / "data" / split / f"{label}"
            folder.mkdir(parents=True)
            wide = images.read((images.labels == label).nonzero().squeeze(1)).repeat_interleave(2, dim=2)
            write_pngs(wide.repeat_interleave(3, dim=3), folder)
    trainer = SafeTrainer(make_config({**ONE_EPOCH, "dataset": str(tmp_path / "data")}), backbone=tiny_vit)
    trainer.run_session()
    save_state(trainer.inference_state(), tmp_path / "run.state")
    predictor = load_predictor(tmp_path / "run.state", device="cpu", backbone=tiny_vit)
    evaluation = trainer.stream.sessions[0].evaluation
    paths = [evaluation.images.paths[i] for i in evaluation.index.tolist()]
    assert predictor.read(paths[0]).shape == (3, 37, 37)  # 256/224 of 32
    assert (predictor.predict(paths).logits - aggregated(trainer)).abs().max() <= 1e-6


def test_any_picture_is_brought_to_size(predictor: Predictor, tmp_path: Path) -> None:
    Image.new("RGBA", (300, 40), (255, 0, 0, 128)).save(tmp_path / "strip.png")
    Image.new("L", (1, 1), 7).save(tmp_path / "dot.bmp")
    prediction = predictor.predict([tmp_path / "strip.png", tmp_path / "dot.bmp"])
    assert prediction.probabilities.shape == (2, 6)
    assert torch.allclose(prediction.probabilities.sum(dim=1), torch.ones(2))


def test_a_file_that_cannot_be_read_is_named(predictor: Predictor, tmp_path: Path) -> None:
    (tmp_path / "broken.png").write_bytes(b"\x89PNG\r\n")
    for path in (tmp_path / "broken.png", tmp_path / "absent.png"):
        with pytest.raises(UserError, match=f"cannot read the image {path}"):
            predictor.predict([path])


# ---------------------------------------------------------------- refusals


def test_other_weights_of_the_backbone_are_refused(
    trained: Trained, tiny_vit: VisionTransformer, tmp_path: Path
) -> None:
    with pytest.raises(UserError, match=r"trained on other weights of safe_small_vit .* \(--weights\)"):
        load_predictor(trained[1], device="cpu")
    path = changed(trained[1], tmp_path, weights_digest="0" * 64)
    with pytest.raises(UserError, match="digest 000000000000, not "):
        load_predictor(path, device="cpu", backbone=tiny_vit)


def test_what_is_no_inference_state_is_refused(trained: Trained, tiny_vit: VisionTransformer, tmp_path: Path) -> None:
    save_state(trained[0].state_dict(), tmp_path / "resume.state")
    with pytest.raises(UserError, match=r"resume\.state is not an inference state \(it lacks classes, .* --save FILE"):
        load_predictor(tmp_path / "resume.state", backbone=tiny_vit)
    with pytest.raises(UserError, match=f"version {VERSION + 1}; .* up to {VERSION}"):
        load_predictor(changed(trained[1], tmp_path, version=VERSION + 1), backbone=tiny_vit)
    with pytest.raises(UserError, match="cannot read the checkpoint"):
        load_predictor(tmp_path / "absent.state")


def test_a_data_set_of_other_classes_cannot_judge(
    predictor: Predictor, tiny_dataset: Dataset, make_dataset: Callable[..., Dataset]
) -> None:
    renamed = replace(tiny_dataset, classes=("other", *tiny_dataset.classes[1:]))
    with pytest.raises(UserError, match=r"other classes than the checkpoint: 6 in 3 sessions, .*'class 0' is 'other'"):
        predictor.judge(renamed)
    with pytest.raises(UserError, match="tiny has other classes"):
        predictor.judge(make_dataset(classes=8))


def test_only_evaluation_images_judge(predictor: Predictor, trained: Trained, tiny_dataset: Dataset) -> None:
    gone = ArrayImages(tiny_dataset.train.pixels * 0, tiny_dataset.train.labels)
    assert torch.equal(predictor.judge(replace(tiny_dataset, train=gone)).fast, trained[0].session_logits.fast)


def test_the_public_names_are_loaded_on_first_use(run_python: Callable[[str], str]) -> None:
    code = "import sys, safe\nprint('torch' in sys.modules, sorted(safe.__all__))\n"
    code += "from safe import SafeTrainer, load_config, load_predictor\n"
    code += "print(SafeTrainer.__module__, load_config.__module__, load_predictor.__module__)"
    assert run_python(code).splitlines() == [
        "False ['SafeTrainer', '__version__', 'load_config', 'load_predictor', 'register_dataset', 'register_head', "
        "'register_pet']",
        "safe.training.trainer safe.config.loading safe.predictor",
    ]
