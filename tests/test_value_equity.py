"""Customer equity accounting: the identity, each part by hand, and input that must be refused."""

import numpy as np
import pandas as pd
import pytest

from crmresearch.errors import InputError
from crmresearch.estimators.worth.equity import PARTS, SIGNS, equity_flows


def customers(n=200, seed=0):
    """Random customers of every kind: stayed, won, won back, lost, passed through."""
    rng = np.random.default_rng(seed)
    before, after, known = (rng.random(n) < p for p in (0.6, 0.6, 0.5))
    return pd.DataFrame(
        {
            "here_opening": before,
            "here_closing": after,
            "known": known | before,
            "opening": np.where(before, rng.normal(50, 100, n), 0.0),
            "closing": np.where(after, rng.normal(60, 100, n), 0.0),
            "carried": np.where(after, rng.normal(55, 100, n), 0.0),
            "realised": rng.normal(10, 30, n),
        }
    )


def rebuilt(flows):
    return flows["opening"] + sum(SIGNS[p] * flows[p] for p in PARTS)


@pytest.mark.parametrize("seed", range(25))
@pytest.mark.parametrize("scale", [1e-3, 1.0, 1e9])
def test_identity_holds_on_random_tables(seed, scale):
    frame = customers(seed=seed)
    frame[["opening", "closing", "carried", "realised"]] *= scale
    flows, _ = equity_flows(frame, unwinding_rate=0.07)
    assert rebuilt(flows) == pytest.approx(flows["closing"], abs=1e-9 * flows["gross"])
    assert flows["gap"] <= 1e-9


def test_identity_holds_when_the_total_does_not_change():
    frame = customers(seed=3)
    after = frame["here_closing"]
    frame.loc[after, "closing"] += (frame["opening"].sum() - frame["closing"].sum()) / after.sum()
    flows, _ = equity_flows(frame, unwinding_rate=0.05)
    assert flows["closing"] == pytest.approx(flows["opening"])
    assert flows["gross"] > 100
    assert rebuilt(flows) == pytest.approx(flows["closing"], abs=1e-9 * flows["gross"])


def test_nothing_happens():
    frame = pd.DataFrame({"opening": [10.0, 20.0], "closing": [10.0, 20.0], "carried": [10.0, 20.0], "realised": 0.0})
    frame[["here_opening", "here_closing", "known"]] = True
    flows, _ = equity_flows(frame, unwinding_rate=0.0)
    assert flows[list(PARTS)].abs().sum() == 0
    assert flows["gap"] == 0


def test_each_part_by_hand():
    rows = {
        # name: here_opening, here_closing, known, opening, closing, carried, realised
        "deepened": (True, True, True, 100.0, 130.0, 125.0, 10.0),  # due 110 - 10 = 100, carried 125: 25 more
        "shrunk": (True, True, True, 100.0, 70.0, 72.0, 10.0),  # 28 less
        "lost": (True, False, True, 50.0, 0.0, 0.0, 5.0),  # due 55 - 5 = 50
        "won": (False, True, False, 0.0, 40.0, 41.0, 4.0),  # 41 + 4 = 45
        "won back": (False, True, True, 0.0, 20.0, 19.0, 1.0),  # 20
        "passed through": (False, False, False, 0.0, 0.0, 0.0, -3.0),  # won, and nothing left of it: -3
    }
    names = ["here_opening", "here_closing", "known", "opening", "closing", "carried", "realised"]
    flows, _ = equity_flows(pd.DataFrame(rows.values(), columns=names), unwinding_rate=0.10)
    expected = {
        "unwinding": 25.0,
        "realised": 27.0,
        "won": 42.0,
        "won back": 20.0,
        "deepened": 25.0,
        "shrunk": 28.0,
        "lost": 50.0,
        "remeasurement": 3.0,
    }
    for part, amount in expected.items():
        assert flows[part] == pytest.approx(amount), part
    assert rebuilt(flows) == pytest.approx(260.0)
    assert flows["closing"] == 260.0


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda f: f.assign(carried=f["carried"].where(f.index != 4)), "carried is missing or infinite in 1 rows"),
        (lambda f: f.assign(opening=f["opening"] + 1), "value at a date when the customer is not there"),
        (lambda f: f.assign(customer_id=np.arange(len(f)) // 2), "100 rows repeat a customer_id"),
        (lambda f: f.drop(columns="known"), "no column known"),
    ],
)
def test_broken_input_is_refused(change, words):
    with pytest.raises(InputError, match=words):
        equity_flows(change(customers()), unwinding_rate=0.1)
