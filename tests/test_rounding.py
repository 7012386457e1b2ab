"""In a run whose rules round counts no share, end, estimate or sentence gives a count back that was rounded."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator

import numpy as np
import pandas as pd
import pytest

from crmresearch import disclosure, ledger, rules, words
from crmresearch.errors import Reader, Withheld
from crmresearch.estimators.inference import Estimate
from crmresearch.result import Result, study

BASE = 5
PAIRS = [
    (n, k) for n in range(25, 60) for k in range(10, n - 9)
]  # of which all that give the same are indistinguishable


@pytest.fixture(autouse=True)
def _rounded() -> Iterator[None]:
    rules.use(f"default, base={BASE}")
    yield
    rules.use()


def interval(n: int, k: int) -> tuple[float, float, float]:
    half = 1.96 * math.sqrt(k / n * (1 - k / n) / n)
    return k / n, k / n - half, k / n + half


def table(n: int, k: int) -> str:
    share, *_ = interval(n, k)
    frame = pd.DataFrame({"group": ["a"], "n": [n], "left": [k], "share": [share], "ratio": [n / k]})
    safe = disclosure.safe(frame, ("n", "left"))
    return f"{safe.to_csv()} {disclosure.html(safe)}"


def estimate(n: int, k: int) -> str:
    share, *_ = interval(n, k)
    found = Estimate(share, share, share, "share of customers", n)
    shown = words.careful.vformat("{e:.1%} {e.value:.6f}", (), {"e": found})
    return f"{found:.9f} {shown} {round(n / BASE)} {round(k / BASE)}"


def sentence(n: int, k: int) -> str:
    shown = words.careful.vformat("{share:.1%} of {n:,} customers left", (), {"share": k / n, "n": n})
    return f"{shown} {round(k / BASE)}"


@pytest.mark.parametrize("told", [table, estimate, sentence])
def test_who_tries_all_counts_is_left_with_those_that_their_round_numbers_leave(told: Callable[[int, int], str]):
    shown, by_counts = {}, {}
    for n, k in PAIRS:
        shown.setdefault(told(n, k), set()).add((n, k))
        by_counts.setdefault((round(n / BASE), round(k / BASE)), set()).add((n, k))
    assert sorted(map(sorted, shown.values())) == sorted(map(sorted, by_counts.values()))


def test_the_ends_of_an_interval_tell_hardly_more():
    """Exact ends told every pair of counts."""
    shown = {}
    for n, k in PAIRS:
        value, low, high = interval(n, k)
        frame = pd.DataFrame({"group": ["a"], "n": [n], "left": [k], "share": value, "low": low, "high": high})
        told = Estimate(value, low, high, "share of customers", n, se=(high - low) / 3.92)
        safe = disclosure.safe(frame, ("n", "left")).to_csv()
        shown.setdefault((safe, f"{told:.9f}", told.se), set()).add((n, k))
    alone = sum(len(pairs) < 3 for pairs in shown.values())
    assert alone < 0.1 * len(PAIRS)


def test_rounding_is_done_once_however_often_a_table_passes():
    frame = pd.DataFrame(
        {"group": list("abc"), "n": [303, 411, 88], "left": [43, 57, 21], "money": [1234.567, 88.25, 3.0]}
    )
    frame = frame.assign(share=frame["left"] / frame["n"], of=frame["n"] / frame["n"].sum(), p=[0.031, 0.5, 0.249])
    once = disclosure.safe(frame.assign(year=[2020.0, 2021.0, 2022.0]), ("n", "left"))
    pd.testing.assert_frame_equal(disclosure.safe(once, ("n", "left")), once)
    assert once["n"].tolist() == [305, 410, 90]
    assert once["share"].tolist() == [0.148, 0.134, 0.222]  # 45 of 305
    assert once["money"].tolist() == [1230.0, 88.2, 3.0]
    assert once["year"].tolist() == [2020.0, 2021.0, 2022.0]
    kept = Estimate(0.1419, 0.11, 1.204, "ratio", 303)
    assert Estimate(kept.value, kept.ci_low, kept.ci_high, "ratio", 305) == Estimate(0.148, 0.115, 1.2, "ratio", 305)


@pytest.mark.parametrize("n", [57, 303, 20_000])
def test_a_rate_that_was_chosen_is_no_share_of_anybody(n):
    told = words.careful.vformat("{rate:.0%} a year, n = {n:,}", (), {"rate": 0.1, "n": n})
    assert told.startswith("10% a year")


def test_no_interval_is_turned_upside_down_and_open_ends_stay():
    rng = np.random.default_rng(1)
    for n in (12, 57, 303):
        for low, value, high in np.sort(rng.normal(1, 0.4, (300, 3))):
            told = Estimate(float(value), float(low), float(high), "ratio", n)
            assert told.ci_low <= told.value <= told.ci_high
    assert Estimate(1.5, 1.0, math.inf, "ratio", 57).ci_high == math.inf
    assert math.isnan(Estimate(math.nan, math.nan, math.nan, "ratio", 57).value)


def test_an_estimate_of_a_hidden_row_is_withheld_where_both_are_rounded(monkeypatch):
    monkeypatch.setattr(Reader, "in_notebook", True)
    table = pd.DataFrame({"row": list("abc"), "x": [0.4567, 0.25, 0.35], "n": [7, 160, 70]})

    @study
    def asked():
        found = {k: Estimate(x, x, x, "share", n) for k, x, n in (("a", 0.4567, 7), ("b", 0.25, 160))}
        return Result(table, "It is so.", estimates=found)

    assert [isinstance(e, Withheld) for e in asked().estimates.values()] == [True, False]


def test_what_is_written_down_of_a_line_is_rounded():
    kept = ledger.checked("S01", Estimate(13 / 57, 0.123456, 0.345678, "share of customers", 57))
    assert (kept["n"], kept["value"]) == (55, 0.273)  # 15 of 55
    rules.use()
    assert ledger.checked("S01", Estimate(13 / 57, 0.1, 0.3, "share of customers", 57))["value"] == 13 / 57
