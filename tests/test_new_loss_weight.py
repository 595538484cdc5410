"""A new loss weight is a setting and a term: it touches two files, and everything else knows it."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
EDITS = {
    "safe/config/settings.py": (
        "    cross_weight: NonNegative",
        '    foo_weight: NonNegative = 0.0\n    """Weight of the mean square of the fast features."""\n'
        "    cross_weight: NonNegative",
    ),
    "safe/learners/fast.py": (
        "FAST_TERMS: Terms[FastBatch] = {\n",
        'FAST_TERMS: Terms[FastBatch] = {\n    ("foo",): lambda batch: (batch.features.square().mean(),),\n',
    ),
}
PROGRAM = """
import json
from pathlib import Path
import torch
from timm.models.vision_transformer import VisionTransformer
from safe import learners
from safe.config import load_config, setting_names
from safe.config.described import field_of
from safe.data.sources import ArrayImages, Dataset
from safe.sharing.stages import sharing_key
from safe.training.trainer import SafeTrainer
from sweeps.spec.space import parse_space
from sweeps.spec.titles import short_name

def config(*words):
    small = ["data.init_classes=2", "data.increment=2", "slow.epochs=0", "fast.epochs=1", "fast.cross_weight=0",
             "fast.feature_weight=0", "head.projection_dim=0", "runtime.device=cpu", "pet.kind=ssf"]
    return load_config("digits", overrides=[*small, *words])

def session_2(config):
    images = ArrayImages(torch.randint(256, (16, 3, 32, 32), dtype=torch.uint8), torch.arange(16) % 4)
    data = Dataset("tiny", tuple("abcd"), images, images, "digest")
    vit = VisionTransformer(img_size=32, patch_size=16, embed_dim=8, depth=1, num_heads=1, num_classes=0)
    trainer = SafeTrainer(config, data, vit)
    trainer.run_session()
    [(_, losses)] = trainer.run_session().losses
    return losses

def refusal(space):
    try:
        parse_space(space, plain.flat())
    except Exception as error:
        return str(error)

plain, weighed = config(), config("fast.foo_weight=2")
foo = {"fast.foo_weight": {"zero_or_loguniform": [1e-2, 1]}}
print(json.dumps({
    "copy": Path(learners.__file__).parent.as_posix(),
    "setting": "fast.foo_weight" in setting_names(),
    "description": field_of("fast.foo_weight").description,
    "varied": list(parse_space(foo, plain.flat()).domains),
    "without epochs": refusal({**foo, "fast.epochs": 0}),
    "title": short_name("fast.foo_weight"),
    "shared sessions": [sharing_key(plain, t) == sharing_key(weighed, t) for t in (1, 2)],
    "losses": [list(session_2(plain)), list(session_2(weighed))],
    "foo": session_2(weighed)["train/fast/foo"],
}))
"""


def test_a_new_loss_weight_touches_two_files(tmp_path: Path) -> None:
    for package in ("safe", "sweeps", "tracking"):
        shutil.copytree(
            ROOT / package, tmp_path / package, ignore=shutil.ignore_patterns("__pycache__"), copy_function=os.symlink
        )
    for name, (old, new) in EDITS.items():
        text = (ROOT / name).read_text("utf-8")
        assert text.count(old) == 1, name
        (tmp_path / name).unlink()
        (tmp_path / name).write_text(text.replace(old, new), "utf-8")
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(tmp_path)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    told = json.loads(done.stdout)
    assert told.pop("copy") == (tmp_path / "safe" / "learners").as_posix()
    assert told.pop("foo") == pytest.approx(1, rel=0.3)  # of features that a layer norm gives
    assert "fast.foo_weight: changes nothing, because it needs fast.epochs above 0" in told.pop("without epochs")
    assert told == {
        "setting": True,
        "description": "Weight of the mean square of the fast features.",
        "varied": ["fast.foo_weight"],
        "title": "foo_weight",
        "shared sessions": [True, False],
        "losses": [["train/fast/ce"], ["train/fast/ce", "train/fast/foo"]],
    }
