"""Which (expression, confounder) cells are trained on and which are held out: Table 1, and the toy of Fig. 1.

Both rotate the strata from one expression to the next. Training then has every expression and every stratum, but not
every pair of them. The held-out faces are out of distribution (o.o.d.), although only the pairs are new.
"""

from __future__ import annotations

from collections.abc import Sequence

from iern.runtime.errors import DataError

Cell = tuple[str, str]
"""(expression, confounder stratum)."""

TABLE1_EXPRESSIONS = ("anger", "disgust", "fear", "happiness", "sadness", "surprise")
TABLE1_STRATA = ("CK+", "MMI", "Oulu-CASIA")


def folds(expressions: Sequence[str], strata: Sequence[str]) -> dict[Cell, int]:
    """Table 1 for any E >= 2 expressions and N >= 2 strata: cell -> the fold (1 to N) that tests it.

    In each fold every expression is held out under exactly one stratum and trained on under the N - 1 others.
    The order of the names decides which; with TABLE1_* it is the table of the paper.
    Raises DataError for fewer names, or for a name given twice.
    """
    _check_names("expressions", expressions)
    _check_names("strata", strata)
    return {
        (expression, stratum): (k - i) % len(strata) + 1
        for k, expression in enumerate(expressions)
        for i, stratum in enumerate(strata)
    }


def held_out(expressions: Sequence[str], strata: Sequence[str], fold: int) -> frozenset[Cell]:
    """The cells that fold `fold` (1 to N) of Table 1 tests; the others are trained on. Raises DataError."""
    table = folds(expressions, strata)
    if not 1 <= fold <= len(strata):
        raise DataError(f"fold {fold} does not exist; with {len(strata)} strata the folds are 1 to {len(strata)}")
    return frozenset(cell for cell, tested in table.items() if tested == fold)


def confounded(expressions: Sequence[str], strata: Sequence[str], seen: int = 1) -> frozenset[Cell]:
    """The cells of the toy experiment's training data: expression k under strata k, ..., k + seen - 1 (mod N).

    All other cells are its o.o.d. test. `seen` = 1 is Fig. 1, in which the degradation nearly gives the expression
    away. With the strata noise, blur, clean in this order, anger is noise, and disgust and sadness are blur, as in
    the paper.
    `seen` = N - 1 is as mild as Table 1.
    Raises DataError if nothing would be held out, or if a stratum would have no training data.
    """
    _check_names("expressions", expressions)
    _check_names("strata", strata)
    number = len(strata)
    if not 1 <= seen < number:
        raise DataError(
            f"{seen} strata seen of {number}: expected 1 to {number - 1}, so that each expression is trained on and "
            "has strata left for its test"
        )
    if len(expressions) + seen - 1 < number:
        raise DataError(
            f"{len(expressions)} expressions, each seen under {seen} of {number} strata, leave a stratum without "
            "training data; use fewer strata or more expressions"
        )
    return frozenset(
        (expression, strata[(k + shift) % number]) for k, expression in enumerate(expressions) for shift in range(seen)
    )


def _check_names(what: str, names: Sequence[str]) -> None:
    if len(names) < 2:
        raise DataError(f"found {len(names)} {what}; a protocol needs at least 2")
    if len(set(names)) < len(names):
        twice = sorted({name for name in names if list(names).count(name) > 1})
        raise DataError(f"{what} named twice: {', '.join(twice)}; name each once")
