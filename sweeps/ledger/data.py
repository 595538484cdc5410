"""The data of a sweep: written down when it begins, and compared by content whenever it goes on."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from typing import Any

from safe.errors import UserError, shown
from sweeps.ledger.ledger import Ledger
from sweeps.spec.specs import Spec, data_origins

_MOST_NAMED = 5
Facts = Mapping[str, Any]  # `digest`, and for every class in order its name, training images and test images


def settle_data(ledger: Ledger, spec: Spec) -> None:
    """Refuse to go on with other data than the sweep began with; write down what they are where it is not yet known.

    Raises:
        UserError: both digests and what differs; or the data cannot be read.
    """
    now = {role: facts(*origin) for role, origin in data_origins(spec).items()}
    if ledger.log.data is None:
        ledger.append("data", sets=now)
        return
    for role, newest in now.items():
        if told := differences(ledger.log.data[role], newest):
            name, _ = data_origins(spec)[role]
            raise UserError(
                "\n".join(
                    [
                        f"the data of the sweep {spec.name!r} are not those that it began with:",
                        f"  - {shown(name)}: digest {ledger.log.data[role]['digest'][:12]} -> {newest['digest'][:12]}",
                        *(f"  - {line}" for line in told),
                        "Bring the data back to continue that sweep, or choose another name (NAME or --name).",
                    ]
                )
            )


def facts(name: str, root: str) -> dict[str, Any]:
    """Return what identifies a data set by name or folder: its digest, and how many images its classes have.

    What its user should know is told here, since nobody sees what workers tell.
    """
    from safe.data.loading import load_dataset

    dataset = load_dataset(name, root, image_size=224)
    train, test = (Counter(side.labels.tolist()) for side in (dataset.train, dataset.test))
    classes = [[word, train[label], test[label]] for label, word in enumerate(dataset.classes)]
    return {"digest": dataset.digest, "classes": classes}


def differences(before: Facts, now: Facts) -> list[str]:
    """Return in sentences what differs between two data sets; nothing when they hold the same."""
    if before["digest"] == now["digest"]:
        return []
    old, new = ({name: counts for name, *counts in side["classes"]} for side in (before, now))
    told = []
    if list(old) != list(new):
        come_and_gone = ((new.keys() - old.keys(), "new"), (old.keys() - new.keys(), "gone"))
        words = ", ".join(f"{_some(names)} {what}" for names, what in come_and_gone if names)
        told.append(f"{len(old)} classes -> {len(new)}: {words or 'in another order'}")
    for position, what in enumerate(("training", "test")):
        sums = [sum(counts[position] for counts in side.values()) for side in (old, new)]
        changed = [name for name in old if name in new and old[name][position] != new[name][position]]
        if changed or sums[0] != sums[1]:
            where = f", other numbers in {_some(changed)}" if changed else ""
            told.append(f"{sums[0]} {what} images -> {sums[1]}{where}")
    return told or ["the same classes and numbers of images, which hold something else or stand in another order"]


def _some(names: Iterable[str]) -> str:
    words = [shown(name) for name in sorted(names)]
    more = f" and {len(words) - _MOST_NAMED} more" if len(words) > _MOST_NAMED else ""
    return ", ".join(words[:_MOST_NAMED]) + more
