"""The small ViT's weights: what the shipped file says and does, and how it is made."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import save as tensors_to_bytes

from safe.backbones.small_vit import SMALL_VIT, WEIGHTS, small_vit
from safe.data.benchmarks.characters import sides
from safe.data.benchmarks.distort import PLAIN
from safe.errors import UserError
from safe.seeding import generator
from safe.training.pretrain import Source, accuracy, load, main, new_classifier, pretraining_source, save, train

# `--check` gives 0.6754 on ten fresh pictures of each class; the test draws two of each.
LEAST_ACCURACY = 0.62


@pytest.fixture(scope="module")
def source() -> Source:
    return pretraining_source()


def test_the_weights_fit_the_repository_and_say_how_they_were_made() -> None:
    assert WEIGHTS.stat().st_size <= 5_000_000
    with safe_open(WEIGHTS, framework="pt") as file:
        facts = file.metadata()
    assert facts["command"].startswith("python -m safe.pretrain --epochs ")  # its place then
    assert facts["seed"] == "0"
    assert int(facts["classes"]) == len(sides().pretraining)
    assert float(facts["accuracy"]) > LEAST_ACCURACY


def test_every_initial_weight_comes_from_the_seed() -> None:
    def initial(seed: int) -> dict[str, torch.Tensor]:
        torch.seed()  # whatever the process drew before
        return {
            name: p.detach().clone() for name, p in new_classifier(3, generator(seed, "weights")).named_parameters()
        }

    first, again, other = initial(0), initial(0), initial(1)
    assert all(torch.equal(first[name], again[name]) for name in first)
    assert not torch.equal(first["patch_embed.proj.bias"], other["patch_embed.proj.bias"])


def test_the_shipped_weights_classify_fresh_pictures(source: Source) -> None:
    model, facts = load(WEIGHTS)
    measured = accuracy(model, source, per_class=2, seed=1)
    assert measured > LEAST_ACCURACY
    assert measured == pytest.approx(float(facts["accuracy"]), abs=0.05)


def test_the_small_vit_gives_the_classifiers_features(source: Source) -> None:
    images = source.draw(torch.arange(8), PLAIN, generator(0, "images"))
    model, _ = load(WEIGHTS)
    bare = small_vit()
    with torch.no_grad():
        features = bare(images)
        logits = model(images)
    assert features.shape == (8, SMALL_VIT["embed_dim"])
    assert features.dtype == torch.float32
    assert not bare.training
    assert torch.allclose(features @ model.head.weight.T + model.head.bias, logits, atol=1e-4)


def test_building_it_leaves_the_global_random_state_alone() -> None:
    before = torch.get_rng_state()
    small_vit(pretrained=False)
    new_classifier(3, generator(0, "weights"))
    assert torch.equal(torch.get_rng_state(), before)


def test_a_tiny_run_lowers_the_loss_and_repeats_bit_for_bit() -> None:
    tiny = pretraining_source(limit=3)
    runs = []
    for _ in range(2):
        losses: list[float] = []
        model = train(tiny, steps=30, seed=5, batch=32, on_step=lambda _, loss, __, seen=losses: seen.append(loss))
        runs.append((losses, model.state_dict()))
    assert runs[0][0] == runs[1][0]
    assert all(torch.equal(runs[0][1][name], runs[1][1][name]) for name in runs[0][1])
    assert sum(runs[0][0][-5:]) < 0.9 * sum(runs[0][0][:5]), runs[0][0]


def test_saved_weights_come_back_as_float16_rounds_them(tmp_path: Path) -> None:
    model = new_classifier(3, generator(0, "weights"))
    save(model, tmp_path / "w.safetensors", {"accuracy": "0.5"})
    again, facts = load(tmp_path / "w.safetensors")
    assert facts == {"accuracy": "0.5"}
    assert all(
        torch.equal(value.half().float(), again.state_dict()[name]) for name, value in model.state_dict().items()
    )
    assert [file.name for file in tmp_path.iterdir()] == ["w.safetensors"]


def test_missing_weights_name_the_command_that_makes_them(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"python -m safe\.training\.pretrain"):
        load(tmp_path / "none.safetensors")


def test_pictures_of_one_label_show_its_class(source: Source) -> None:
    tiny = pretraining_source(limit=4)
    assert torch.equal(tiny.first, source.first[:4])
    assert torch.equal(tiny.size, source.size[:4])
    assert int(source.size.sum()) == len(source.masks.pixels)
    still = tiny.draw(torch.zeros(64, dtype=torch.int64), PLAIN, generator(0, "still"))
    assert still.shape == (64, 3, 32, 32)
    assert float(still.min()) >= 0
    assert float(still.max()) <= 1


def test_the_check_command_prints_the_stored_facts(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("safe.training.pretrain.HELD_OUT_PER_CLASS", 1)
    threads = torch.get_num_threads()
    try:
        assert main(["--check", "--threads", str(threads)]) == 0
    finally:
        torch.set_num_threads(threads)
    printed = capsys.readouterr().out
    assert "command: python -m safe.pretrain" in printed
    assert "accuracy now: 0." in printed


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--epochs", "0"], "--epochs must be at least 1, got 0"),
        (["--threads", "0"], "--threads must be at least 1, got 0"),
        (["--seed", "-1"], "--seed must be at least 0, got -1"),
        (["--out", "/"], "--out: / cannot be written; name a file in a folder that can"),
        (
            ["--check", "--out", "none"],
            "no weights at none; make them with: python -m safe.training.pretrain --out none",
        ),
    ],
)
def test_bad_input_is_refused_in_a_line_before_any_work(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, arguments: list[str], message: str
) -> None:
    def never() -> Source:
        raise AssertionError("worked before the input was checked")

    monkeypatch.setattr("safe.training.pretrain.pretraining_source", never)
    monkeypatch.setattr("torch.set_num_threads", lambda _: None)
    assert main(arguments) == 2
    assert capsys.readouterr() == ("", f"error: {message}\n")


@pytest.mark.parametrize("damage", ["truncated", "not safetensors", "no classifier", "another network"])
def test_damaged_weights_are_told_in_a_line(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path, damage: str
) -> None:
    path = tmp_path / "w.safetensors"
    contents = {
        "truncated": WEIGHTS.read_bytes()[:-50],
        "not safetensors": b"x" * 99,
        "no classifier": tensors_to_bytes({"patch_embed.proj.bias": torch.zeros(3)}),
        "another network": tensors_to_bytes({"head.bias": torch.zeros(3)}),
    }
    path.write_bytes(contents[damage])
    monkeypatch.setattr("torch.set_num_threads", lambda _: None)
    assert main(["--check", "--out", str(path)]) == 2
    told = f"error: {path} is damaged or holds other weights than the small ViT's; make them again\n"
    assert capsys.readouterr() == ("", told)
