"""Can needs be predicted? Buyers found among later calls by a model of earlier ones (S15a)."""

from __future__ import annotations

import numpy as np
import pandas as pd

from crmresearch import words
from crmresearch.errors import NotApplicable
from crmresearch.estimators.inference import Estimate, from_draws, logit_fit
from crmresearch.estimators.survival import predict
from crmresearch.result import Result, gate, study

say = words.of("needs")
EARLIER = 2 / 3  # share of calls, in date order, that the model learns from
BUYERS = 100  # on either side of the date, which a share of them needs
RIDGE = 1e-6  # on squared coefficients, per call
SEEN = 50  # earlier calls that a category needs to count


@study
def needs(frame: pd.DataFrame, *, resamples: int, seed: int) -> Result:
    """Share of later buyers in the tenth of calls that a model of the earlier calls ranks highest, less a tenth (S15a).

    Parameters
    ----------
    frame : DataFrame
        From :func:`crmresearch.data.reductions.calls.called`, in date order.
    resamples, seed : int
        Of the later calls, the model kept.
    """
    cut = round(EARLIER * len(frame))
    sold = frame["sold"].to_numpy(float)
    buyers = sold[:cut].sum(), sold[cut:].sum()
    if min(buyers) < 10:
        raise NotApplicable(say("few"), "snapshot")
    x = _design(frame.drop(columns="sold"), cut)
    # a ridge, as categories may say the same twice (who tells nothing of one loan tells nothing of another)
    risk = logit_fit(x[:cut], sold[:cut], ridge=RIDGE).predict(x)
    bought = (frame["poutcome"] == "success").to_numpy(float) if "poutcome" in frame else np.zeros(len(frame))
    later, scores = sold[cut:], {"model": risk[cut:], "rule": bought[cut:]}
    one, names = np.ones(len(later)), say.names("rows")
    spread = predict.captured_bootstrap(later, one, scores, repeats=resamples, seed=seed)
    found = {name: float(predict.captured(one, later, one, score, predict.TOP)) for name, score in scores.items()}
    rows = [(names[name], value, *from_draws(spread[name])[1:], len(later)) for name, value in found.items()]
    se, low, high = (float(v) for v in from_draws(spread["model"]))
    naive = float(predict.captured(np.ones(cut), sold[:cut], np.ones(cut), risk[:cut], predict.TOP))
    rows.append((names["seen"], naive, np.nan, np.nan, cut))
    enough = gate(say, "buyers", bool(min(buyers) >= BUYERS), n=int(min(buyers)), least=BUYERS)
    value, low, high = (v - predict.TOP for v in (found["model"], low, high))
    gain = Estimate(value, low, high, say("unit"), len(later), se=se, checks=(enough,))
    table = pd.DataFrame(rows, columns=["rule", "captured", "ci_low", "ci_high", "n"])
    return Result(
        table.rename(columns=say.names("columns")).set_index(say.names("columns")["rule"]),
        say("sentence", n=len(later), found=table.iloc[0], rule=table.iloc[1], times=found["model"] / predict.TOP),
        estimates={"S15a": gain},
    )


def _design(known: pd.DataFrame, cut: int) -> np.ndarray:
    """Numbers with their squares, and categories that the earlier calls show often, less the most frequent one."""
    columns = [np.ones(len(known))]
    for name in known:
        values = known[name]
        if values.dtype.kind == "f":
            z = ((values - values[:cut].mean()) / max(values[:cut].std(), 1e-9)).to_numpy(float)
            columns += [z, z**2]
        else:
            seen = values[:cut].value_counts()
            often = seen.index[1:][seen.iloc[1:] >= SEEN]
            columns += [(values == level).to_numpy(float) for level in often]
    return np.column_stack(columns)
