"""Whether the last week's digital events foretell exits better than a monthly snapshot (S13, S13a)."""

from __future__ import annotations

import numpy as np
import pandas as pd

from crmresearch import words
from crmresearch.errors import NotApplicable
from crmresearch.estimators.inference import ends, logit_fit, normal
from crmresearch.estimators.survival.predict import concordance_gain
from crmresearch.estimators.verdicts import Deviation
from crmresearch.result import Result, gate, study

say = words.of("channels.fresh")
EXITS = 100
FOLDS = 5
WEEK = 7 / 30.4  # of a month
MATTERS = 0.002  # bound of S13 and S13a
RIDGE = 1e-6  # keeps what tells exits without error finite


@study
def fresh(frame: pd.DataFrame, *, seed: int) -> Result:
    """Gain in concordance of predicting next month's exit from the last week's look-ups over a monthly snapshot (S13).

    The snapshot is the month's own row: balance, tenure and the look-ups of the whole month, so that what the last week
    adds is that it is recent, and not that look-ups tell something. Predictions are for customers whom the model has
    not seen. S13a is the gain over a snapshot that keeps the row of the month before too.

    Parameters
    ----------
    frame : DataFrame
        From :func:`crmresearch.data.reductions.channels.snapshots`.
    seed : int
        Of the week that is drawn by lot.

    References
    ----------
    DeLong, DeLong and Clarke-Pearson (1988), Biometrics 44; on gains of nested models: Demler, Pencina and D'Agostino
    (2012), Statistics in Medicine 31, for which predictions are made out of sample here.
    """
    exits, who = frame["exit"].to_numpy(float), frame["customer"].to_numpy()
    if exits.sum() < EXITS or frame["lookups"].eq(0).all():
        raise NotApplicable(say("few", n=int(exits.sum()), least=EXITS), "monthly")
    known, month, week = _known(frame), _month(frame["lookups"]), _week(frame["last_week"], frame["lookups"])
    lot = np.random.default_rng(seed).binomial(frame["lookups"].astype(int), WEEK)
    models = {
        "gain": ([known, month], [known, month, week]),
        "unasked": ([known], [known, _month(frame["last_week"])]),
        "trend": ([known, month, _before(frame)], [known, month, _before(frame), week]),
        "lot": ([known, month], [known, month, _week(pd.Series(lot, frame.index), frame["lookups"])]),
    }
    rows, told = [], {}
    for name, pair in models.items():
        first, second = (_predicted(parts, exits, who) for parts in pair)
        without, with_, se = concordance_gain(exits, first, second, who)
        told[name] = with_ - without, se
        rows.append((name, without, with_, with_ - without, *ends(with_ - without, se), int(exits.sum())))
    (gain, se), (other, other_se) = told["gain"], told["lot"]
    control = Deviation(other, *ends(other, other_se), limit=MATTERS, control=True)
    found = normal(gain, se, say("unit"), len(np.unique(who)), checks=(gate(say, "lot", control),))
    kept = normal(*told["trend"], say("unit"), found.n, checks=found.checks)
    table = pd.DataFrame(rows, columns=["row", "without", "with", "gain", "low", "high", "n"])
    return Result(
        table.assign(row=table["row"].map(say.names("rows"))).rename(columns=say.names("columns")),
        say("sentence", found=found, kept=kept, n=int(exits.sum()), without=rows[0][1], after=rows[0][2]),
        estimates={"S13": found, "S13a": kept},
        digits=4,
    )


def _log(values: pd.Series) -> np.ndarray:
    return np.log1p(values.clip(lower=0).to_numpy(float))


def _known(frame: pd.DataFrame) -> np.ndarray:
    """What the month's row tells without look-ups."""
    balance, tenure = _log(frame["balance"].fillna(0)), _log(frame["tenure"])
    return np.column_stack([np.ones(len(frame)), balance, balance**2, tenure])


def _month(lookups: pd.Series) -> np.ndarray:
    return np.column_stack([lookups > 0, _log(lookups), _log(lookups) ** 2])


def _week(last: pd.Series, lookups: pd.Series) -> np.ndarray:
    """Look-ups of the last week against those that a week of the month would have, in errors of a count."""
    z = ((last - WEEK * lookups) / np.sqrt(WEEK * (1 - WEEK) * lookups + 0.25)).to_numpy(float)
    return np.column_stack([z, z**2, _log(last)])


def _before(frame: pd.DataFrame) -> np.ndarray:
    """Changes since the month before; none where it is not seen."""
    moved = _log(frame["balance"].fillna(0)) - _log(frame["balance_before"].fillna(frame["balance"]).fillna(0))
    return np.column_stack([moved, _log(frame["lookups"]) - _log(frame["lookups_before"].fillna(frame["lookups"]))])


def _predicted(parts: list[np.ndarray], exits: np.ndarray, who: np.ndarray) -> np.ndarray:
    """Predictions for each fifth of the customers from the others."""
    x, out = np.column_stack(parts).astype(float), np.empty(len(exits))
    scale = np.maximum(x.std(axis=0), 1e-9)
    x = np.where(x.std(axis=0) > 0, (x - x.mean(axis=0)) / scale, 1.0)
    x = x[:, np.r_[True, x[:, 1:].std(axis=0) > 0]]
    for k in range(FOLDS):
        here = who % FOLDS == k
        out[here] = x[here] @ logit_fit(x[~here], exits[~here], ridge=RIDGE, nuisance=True).params
    return out
