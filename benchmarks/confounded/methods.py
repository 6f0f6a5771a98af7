"""The methods that are compared: each is a recipe as YAML would give it, the common one with a few changes.

`iern` is as published, except for the learning rate and moments, which all methods share. `mended` differs in three
ways: its loss uses the expressions' prior in the face's own stratum, so that recognising the stratum gains nothing; the
centres are set to the context features' means; and g_r's running statistics weight the strata equally. `frozen` and
`shared` differ from `mended` only in the centres: random ones that never move, and one that all strata share. `prior`
is the baseline with the loss of `mended`, to separate the effect of the loss from that of the network. `wide` has as
many parameters as IERN: a head of convolutions (g_e) after the backbone, wider than IERN's, trained by the
classification alone; a wider 1x1 convolution before the pool would be linear, so not richer. `input` is the baseline,
trained on every face under every condition, for as many iterations. `input_mended` is `mended`, trained on the same
pictures, which shows what the network adds to them. `input_transfer` is `input` without knowing what the conditions do
to a picture, as nobody knows an unseen camera: the style of a face that was taken under a condition is transferred
(transfer.py). `resample` draws every cell of the training data equally often; if the cells are equal (table1), it is
the baseline in another order.

`by_origin`, `by_condition` and `by_both` are `mended` with other strata (protocol `camera`).
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from jsonargparse import ArgumentError, ArgumentParser

from iern.runtime.errors import TrainingError, one_line
from iern.train.network.iern import IERN, Baseline, Disentanglement, count_parameters
from iern.train.training.recipe import Recipe

SIZE, WIDTH, WIDE_WIDTH, FACES_PER_BATCH = 64, 32, 64, 48
PRIOR = {"stratum_adjustment": 1.0}
MENDED = {**PRIOR, "statistics": "balanced", "centre_lr": 1e-2}
METHODS: dict[str, dict[str, Any]] = {
    "baseline": {"model": {"method": "baseline"}},
    "wide": {"model": {"method": "disentanglement", "width": WIDE_WIDTH}, "algorithm": {"disentangle": 0.0}},
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
STRATA_OF = {"by_origin": "origin", "by_condition": "stratum", "by_both": "both"}
"""A method's confounder of a training face, of protocols.CONFOUNDERS; that of other methods is `stratum`."""
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
    "batch_size": FACES_PER_BATCH,
    "valid_share": 0.0,  # no epoch is selected: the last one is kept
    "workers": 0,
    "save_every": 0,
    "verify": False,
}


def method_recipe(method: str, data: Path, out: Path, expressions: tuple[str, ...], epochs: int, seed: int) -> Recipe:
    """The recipe of a method. Raises TrainingError if this version of the training lacks one of its options."""
    of_run = {
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
        parsed = parser.parse_object(merged(merged(COMMON, METHODS[method]), of_run))
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
    """The number of parameters that the losses of a recipe train."""
    if isinstance(model, Disentanglement) and not isinstance(model, IERN) and recipe.algorithm.disentangle == 0:
        return count_parameters(model.backbone, model.emotion_generator, model.classifier)
    return count_parameters(model)
