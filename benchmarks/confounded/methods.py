"""What confounded.py compares: every method is a recipe as YAML would give it, the common one with a few changes.

`iern` is as published, but for the learning rate and moments that all methods share. `mended` differs in three ways:
its loss is given the expressions' prior in the face's own stratum, so that nothing is won by telling the stratum; the
centres are set to the context features' means; and g_r's running statistics weigh the strata alike. `frozen` and
`shared` differ from `mended` in the centres alone: random ones that never move, and one that all strata share. `prior`
is the baseline with the same loss as `mended`, to tell what the loss does and what the network. `wide` has as many
parameters as IERN: a head of convolutions (g_e) behind the backbone, wider than IERN's, trained by the classification
alone; a wider 1x1 convolution before the pool would be linear, so no richer. `input` is the baseline, trained on
every face under every condition, for as many iterations, and `input_mended` is `mended`, trained on the same pictures:
what the network adds to them. `input_transfer` is `input` for who does not know what the conditions do to a picture, as
one does not know an unseen camera: the look of a face that was taken under a condition is transferred (transfer.py).
`resample` draws every cell of the training data as often;
where the cells are equal (table1) it is the baseline in another order.

`by_origin`, `by_condition` and `by_both` are `mended` with another answer to what the strata are (protocol `camera`).
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from jsonargparse import ArgumentError, ArgumentParser

from iern.runtime.errors import TrainingError, one_line
from iern.train.network.iern import IERN, Baseline, Disentanglement, count_parameters
from iern.train.training.recipe import Recipe

SIZE, WIDTH, WIDE, BATCH = 64, 32, 64, 48
PRIOR = {"stratum_adjustment": 1.0}
MENDED = {**PRIOR, "statistics": "balanced", "centre_lr": 1e-2}
METHODS: dict[str, dict[str, Any]] = {
    "baseline": {"model": {"method": "baseline"}},
    "wide": {"model": {"method": "disentanglement", "width": WIDE}, "algorithm": {"disentangle": 0.0}},
    "input": {"model": {"method": "baseline"}},
    "input_transfer": {"model": {"method": "baseline"}},
    "resample": {"model": {"method": "baseline"}, "resample": "cell"},
    "prior": {"model": {"method": "baseline"}, "algorithm": PRIOR},
    "disentanglement": {"model": {"method": "disentanglement"}},
    "iern": {"model": {"method": "iern"}},
    "mended": {"model": {"method": "iern"}, "algorithm": {**MENDED, "centres": "means"}},
    "input_mended": {"model": {"method": "iern"}, "algorithm": {**MENDED, "centres": "means"}},
    "frozen": {"model": {"method": "iern"}, "algorithm": {**MENDED, "centres": "frozen"}},
    "shared": {"model": {"method": "iern"}, "algorithm": {**MENDED, "centres": "shared"}},
}
TRANSFERRED = "input_transfer"
INTERVENED = ("input", "input_mended", TRANSFERRED)
"""Methods that see every face under every condition."""
STRATA_OF = {"by_origin": "origin", "by_condition": "place", "by_both": "both"}
"""What a training face's confounder is for a method, of confounded_protocols.CONFOUNDERS; for others its place."""
METHODS |= dict.fromkeys(STRATA_OF, METHODS["mended"])
COMMON: dict[str, Any] = {
    "model": {
        "preset": "edge",
        "backbone": "tf_efficientnet_lite0",
        "image_size": SIZE,
        "width": WIDTH,
        "weights": "imagenet",
    },
    "algorithm": {"lr": 1e-3, "backbone_lr": 1e-3, "betas": [0.9, 0.999]},
    "augment": "paper",
    "batch_size": BATCH,
    "valid_share": 0.0,  # no choice of an epoch: the last one is kept
    "workers": 0,
    "save_every": 0,
    "verify": False,
}


def method_recipe(method: str, data: Path, out: Path, expressions: tuple[str, ...], epochs: int, seed: int) -> Recipe:
    """The recipe of a method. Raises TrainingError where this version of the training lacks one of its options."""
    own = {
        "data": str(data),
        "out": str(out),
        "expressions": list(expressions),
        "epochs": epochs,
        "seed": seed,
        "schedule": {"warmup": epochs / 10, "constant": epochs / 2, "decay": "cosine"},
    }
    parser = ArgumentParser(exit_on_error=False)
    parser.add_class_arguments(Recipe, None, as_group=False)
    try:
        parsed = parser.parse_object(merged(merged(COMMON, METHODS[method]), own))
    except ArgumentError as error:
        raise TrainingError(f"{method}: {one_line(error)}") from error
    return Recipe(**vars(parser.instantiate(parsed)))


def merged(common: Mapping[str, Any], changes: Mapping[str, Any]) -> dict[str, Any]:
    """`common` with `changes`, section by section."""
    result = dict(common)
    for key, value in changes.items():
        result[key] = merged(result[key], value) if isinstance(value, Mapping) and key in result else value
    return result


def trained_parameters(model: Baseline, recipe: Recipe) -> int:
    """How many parameters the losses of a recipe reach."""
    if isinstance(model, Disentanglement) and not isinstance(model, IERN) and recipe.algorithm.disentangle == 0:
        return count_parameters(model.backbone, model.emotion_generator, model.classifier)
    return count_parameters(model)
