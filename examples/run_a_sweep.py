"""A sweep from Python, over an own data set and an own PET: python -m examples.run_a_sweep"""

from __future__ import annotations

from sweeps import Space, Sweep, run_sweep

SPACE = {
    "pet.kind": {"choice": ["gain", "ssf"]},
    "fast.cross_weight": {"zero_or_loguniform": [1e-2, 1e1]},
    "aggregation.temperature": {"grid": [0.1, 1.0, 10.0]},  # of prediction: every trial is scored at all three
}


def run(results: str = "results") -> Sweep:
    """Run the sweep, or go on with it, and return what it gave."""
    return run_sweep(
        "stripes",
        imports=["examples.own_data", "examples.own_pet"],
        space=SPACE,
        trials=2,
        seeds=2,
        name="stripes-demo",
        search="random",
        results=results,
        overrides={
            "data.init_classes": 2,
            "data.increment": 1,
            "slow.epochs": 1,
            "fast.epochs": 1,
            "head.projection_dim": 64,
            "runtime.device": "cpu",
        },
    )


if __name__ == "__main__":  # Ray's workers may import this module: they must not begin a sweep of their own
    print(Space.of({"fast.lr": {"loguniform": [1e-3, 1e-1]}}, dataset="digits").domains)  # a space is checked at once
    sweep = run()
    print(sweep)
    print(sweep.best)
    print("report:", sweep.report)
