"""Named generators: stable, distinct, and without effect on the global random state."""

from __future__ import annotations

import itertools
import random

import numpy as np
import pytest
import torch

from safe.seeding import derive_seed, generator

# The first 8 bytes of `printf '7\x1fstr:order\x1fint:2' | sha256sum`, halved.
ORDER_2_OF_SEED_7 = 0x1E907439ACF2EE92


def test_the_derivation_is_fixed_for_all_time() -> None:
    assert derive_seed(7, "order", 2) == ORDER_2_OF_SEED_7


def test_every_part_of_a_name_matters() -> None:
    names = [(), ("a",), ("b",), ("a", "b"), ("ab",), ("b", "a"), ("1",), (1,), ("a", 1), ("a1",), ("", "a")]
    seeds = [derive_seed(seed, *name) for seed, name in itertools.product((0, 1, 10), names)]
    assert len(set(seeds)) == len(seeds)
    assert all(0 <= seed < 2**63 for seed in seeds)


def test_equal_names_give_equal_streams_and_others_differ() -> None:
    draws = [torch.rand(8, generator=generator(3, name)) for name in ("x", "x", "y")]
    assert torch.equal(draws[0], draws[1])
    assert not torch.equal(draws[0], draws[2])


def test_the_global_random_state_is_left_alone() -> None:
    before = (torch.get_rng_state(), np.random.get_state()[1].copy(), random.getstate())
    torch.rand(3, generator=generator(0, "x"))
    assert torch.equal(torch.get_rng_state(), before[0])
    assert np.array_equal(np.random.get_state()[1], before[1])
    assert random.getstate() == before[2]


@pytest.mark.parametrize("surrounding", [0, 1])
def test_streams_do_not_depend_on_the_global_seed(surrounding: int) -> None:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(surrounding)
        drawn = torch.rand(1, generator=generator(5, "z"))
    assert torch.equal(drawn, torch.rand(1, generator=torch.Generator().manual_seed(derive_seed(5, "z"))))
