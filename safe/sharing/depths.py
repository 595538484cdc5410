"""Which settings act from where on; brings no torch."""

from __future__ import annotations

# Which settings act from where on. One that is named nowhere acts from session 1 on: the safe side for a new one.
FACTS = (  # known better by what they come to: digests of data and weights, the images of every session, the machine
    "dataset", "class_order_seed", "data.root", "data.init_classes", "data.increment", "data.scenario",
    "data.class_order", "data.holdout_share", "data.holdout_seed", "backbone.weights",
    "runtime.device", "runtime.threads", "runtime.precision",
)  # fmt: skip
TUNING = (  # of session 1, as all of `pet`: they change its learner, and not what is frozen meanwhile
    "slow.epochs", "slow.schedule_epochs", "slow.lr", "slow.momentum", "slow.weight_decay", "slow.diag_weight",
    "slow.offdiag_weight", "slow.correlation",
)  # fmt: skip
EXTRACTION = ("runtime.eval_batch_size",)


SESSION_2 = (
    "fast.epochs", "fast.schedule_epochs", "fast.batch_size", "fast.lr", "fast.momentum", "fast.weight_decay",
    "fast.feature_weight", "fast.cross_weight", "fast.new_rows", "fast.slow_rows",
)  # fmt: skip
HEADS = ("head.kind", "head.projection_dim", "head.projection_seed", "head.ridge_grid", "head.ridge_split")
EVALUATION = ("data.evaluate_on",)
PREDICTION = ("head.logit_scale", "aggregation.kind", "aggregation.temperature")
LATER = {*FACTS, *EXTRACTION, *SESSION_2, *HEADS, *EVALUATION, *PREDICTION}
