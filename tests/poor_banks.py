"""Banks that bring little or odd data, and notebooks run in this process: no kernel, one cell after the other."""

from __future__ import annotations

import ast
import contextlib
import datetime
import functools
import io
import re
import warnings
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from crmresearch import figures, ledger
from crmresearch.data.bank import Bank
from crmresearch.result import Result
from crmresearch.run import execution
from test_figures import strange

NOTEBOOKS = sorted((Path(__file__).parents[1] / "notebooks").glob("*.ipynb"))
BANK_FREE = ("overview", "estimates", "decisions", "gates", "failures")  # cells of 90 that no bank changes
QUICK = {"resamples": 99, "sweep_months": [3, 12]}
ABOUT = {"currency": "EUR", "evidence": "simulated"}
START, END = datetime.date(2021, 1, 1), datetime.date(2023, 12, 31)


def run(bank: Bank, folder: Path, notebooks: list[Path] = NOTEBOOKS, *, drawn: bool = False) -> pd.DataFrame:
    """Run every cell on a bank, show what it shows, and return the ledger; a cell that raises is named.

    Figures are made; they are drawn, which is a quarter of what a notebook takes, where a test asks for it.
    """
    saved = figures._saved
    with pytest.MonkeyPatch.context() as patch, warnings.catch_warnings():
        warnings.simplefilter("default")  # as in a kernel
        patch.setattr("crmresearch.data.bank.open_bank", lambda _: bank)
        patch.setattr("IPython.display.display", shown)
        patch.setenv("CRMRESEARCH_OUT", str(folder))
        patch.setattr(figures, "_saved", lambda figure, to: saved(figure, to) if drawn and to == "png" else b"")
        for path in notebooks:
            names: dict[str, Any] = {"display": shown}
            for cell in cells(path):
                if path.stem == "90_recovery" and cell["id"] in BANK_FREE:
                    continue
                with contextlib.redirect_stdout(io.StringIO()):
                    try:
                        executed(cell.source, names)
                    except Exception as error:
                        error.add_note(f"{path.stem}, cell {cell['id']}, bank {bank.name}")
                        raise
                if "parameters" in cell.metadata.get("tags", []):
                    names |= {k: v for k, v in (QUICK | {"bank_name": bank.name}).items() if k in names}
    return ledger.merge(folder).set_index("line_id")


@functools.cache
def cells(path: Path) -> list[Any]:
    return [c for c in execution.read_notebook(path).cells if c.cell_type == "code"]


def kept(notebooks: list[Path]) -> set[str]:
    """Ledger lines that notebooks decide."""
    sources = "".join(c.source for p in notebooks for c in cells(p))
    return {line for call in re.findall(r"nb\.keep\([^)]*\)", sources) for line in re.findall(r'"(S\d+[a-z]?)"', call)}


def reasoned(rows: pd.DataFrame, notebooks: list[Path] = NOTEBOOKS) -> None:
    """Check that every line has an estimate, or a reason in words; none that a notebook decides is not measured."""
    own = rows.loc[sorted(kept(notebooks))]
    assert own.index[own["verdict"] == "not measured"].tolist() == []
    bare = rows["estimate"].isna() & ~(rows["checks"].fillna("").str.strip().str.len() >= 20)
    assert rows.index[bare].tolist() == []
    # a line without an estimate was never decided
    assert not own["verdict"][own["estimate"].isna()].isin(["supported", "refuted"]).any()


def executed(source: str, names: dict[str, Any]) -> None:
    """Run a cell; its last expression is shown, as a kernel does."""
    *body, last = ast.parse(source).body
    shows = isinstance(last, ast.Expr)
    exec(compile(ast.Module(body if shows else [*body, last], []), "<cell>", "exec"), names)
    if shows:
        shown(eval(compile(ast.Expression(last.value), "<cell>", "eval"), names))


def shown(*values: Any, **_: Any) -> None:
    for value in values:
        getattr(value, "_repr_html_", value.__repr__)()
        if isinstance(value, Result):
            told(value)


def told(result: Result) -> None:
    """A figure's title is short and has its values, and the numbers that are told of it are drawn."""
    several = result.picture if isinstance(result.picture, tuple) else (result.picture,) if result.picture else ()
    for picture in several:
        assert 0 < len(picture.title) <= 96, picture.title
        assert not re.search(r"\bnan\b|\binf\b|None", picture.title), picture.title
        if "value" not in picture.data or "part" in picture.data:  # histograms tell shares of their own
            assert strange(figures.told(replace(picture, title="")), picture) == [], picture.title


# --- banks -----------------------------------------------------------------------------------------------------------


@functools.cache
def _whole() -> dict[str, pd.DataFrame]:
    from crmresearch.lab import simulated

    bank = simulated.bank(simulated.Settings(customers=240, months=36, seed=3))
    return {t: bank.frame(bank.table(t)[list(bank.columns(t))]) for t in bank.tables}


def _about(name: str, **more: Any) -> dict[str, Any]:
    return {"name": name, **ABOUT, "observation_start": START, "observation_end": END, **more}


def _of(*tables: str) -> dict[str, pd.DataFrame]:
    return {t: _whole()[t].copy() for t in tables}


def _purchases(n: int, spend: Callable[[np.random.Generator, int], np.ndarray]) -> pd.DataFrame:
    """Purchases of ``n`` customers, who buy at different rates and drop out unseen."""
    rng = np.random.default_rng(5)
    who = np.r_[np.arange(n), rng.choice(n, 3 * n, p=rng.dirichlet(np.full(n, 0.6)))]
    start = rng.integers(0, 548, n)
    life = np.minimum(rng.exponential(500, n), 1094 - start)
    after = np.where(np.arange(len(who)) < n, 0, rng.random(len(who)) * life[who])
    when = pd.Timestamp("2021-01-01") + pd.to_timedelta((start[who] + after).astype(int), "D")
    return pd.DataFrame({"customer_id": [f"c{k}" for k in who], "occurred_on": when, "amount": spend(rng, len(who))})


def no_dates() -> Bank:
    rng = np.random.default_rng(1)
    exit_months = rng.integers(1, 60, 300)
    spells = {"entry_months": 0.0, "exit_months": exit_months.astype(float), "event": rng.random(300) < 0.2}
    spells |= {"customer_id": [f"c{k}" for k in range(300)]}
    return Bank.from_frames({"spells": pd.DataFrame(spells)}, {"name": "no-dates", **ABOUT, "dated": False})


def one_customer() -> Bank:
    one = _whole()["customers"]["customer_id"].iloc[0]
    frames = {t: f[f["customer_id"] == one] for t, f in _of("customers", "holdings", "monthly", "transactions").items()}
    frames["customers"] = frames["customers"].assign(referrer_id=None)
    return Bank.from_frames(frames, _about("one-customer"))


def no_exits() -> Bank:
    frames = _of("customers", "holdings", "monthly", "contacts", "survey")
    frames["customers"] = frames["customers"].assign(left_on=pd.NaT, exit_cause=None)
    return Bank.from_frames(frames, _about("no-exits"))


def balances_only() -> Bank:
    frames = _whole()
    money = ["net_interest", "fees", "service_cost", "risk_cost", "allocated_cost"]
    return Bank.from_frames({**frames, "monthly": frames["monthly"].drop(columns=money)}, _about("balances-only"))


def few_exits(exits: int = 14) -> Bank:
    frames = _of("customers", "monthly", "holdings", "service")
    c = frames["customers"]
    stay = c["left_on"].notna() & (c["left_on"].notna().cumsum() > exits)
    frames["customers"] = c.assign(left_on=c["left_on"].mask(stay), exit_cause=c["exit_cause"].mask(stay))
    return Bank.from_frames(frames, _about("few-exits"))


def all_leave() -> Bank:
    frames = _of("customers", "holdings", "monthly", "transactions")
    c = frames["customers"]
    frames["customers"] = c.assign(left_on=c["left_on"].fillna(pd.Timestamp("2023-12-30")), exit_cause="voluntary")
    return Bank.from_frames(frames, _about("all-leave", tolerance_days={"*": 5}))


def one_day() -> Bank:
    bought = _purchases(300, lambda rng, n: rng.gamma(2, 20, n).round(2)).assign(occurred_on=pd.Timestamp("2022-11-05"))
    return Bank.from_frames({"transactions": bought}, _about("one-day"))


def one_product() -> Bank:
    frames = _of("customers", "holdings", "monthly")
    frames["holdings"] = frames["holdings"].assign(product_family="deposit")
    return Bank.from_frames(frames, _about("one-product"))


def no_variance() -> Bank:
    frames = _of("customers", "holdings", "monthly", "survey")
    frames["monthly"] = frames["monthly"].assign(
        **dict.fromkeys(("balance", "net_interest", "fees", "service_cost", "risk_cost", "allocated_cost"), 10.0)
    )
    own = [c for c in frames["survey"] if c not in ("customer_id", "wave_on", "sampled", "responded", "weight")]
    frames["survey"] = frames["survey"].assign(**dict.fromkeys(own, 3))
    return Bank.from_frames(frames, _about("no-variance"))


def survey_only() -> Bank:
    return Bank.from_frames(_of("survey"), _about("survey-only", unlinked=("survey",)))


def campaigns_only() -> Bank:
    return Bank.from_frames(_of("contacts"), _about("campaigns-only"))


def prospects_only() -> Bank:
    frame = _of("prospects")["prospects"]
    return Bank.from_frames({"prospects": frame.assign(customer_id=None)}, _about("prospects-only"))


def late_entry_gaps() -> Bank:
    frames = _of("customers", "monthly")
    c = frames["customers"]
    late = np.arange(len(c)) >= 60
    start = c["acquired_on"].mask(late, pd.Timestamp("2005-01-01"))
    entry = c["observed_from"] if "observed_from" in c else start.clip(lower=pd.Timestamp("2021-01-01"))
    frames["customers"] = c.assign(acquired_on=start, observed_from=np.maximum(entry, start), referrer_id=None)
    return Bank.from_frames(frames, _about("late-entry-gaps"))


def constant_spend() -> Bank:
    bought = _purchases(400, lambda rng, n: np.full(n, 20.0))
    return Bank.from_frames({"transactions": bought}, _about("constant-spend"))


def heavy_tail() -> Bank:
    def spend(rng: np.random.Generator, n: int) -> np.ndarray:
        return np.maximum(rng.gamma(3, 1 / rng.gamma(0.7, 1 / 10, n)), 0.01).clip(max=1e9).round(2)

    return Bank.from_frames({"transactions": _purchases(500, spend)}, _about("heavy-tail"))


POOR = (
    no_dates, one_customer, no_exits, few_exits, all_leave, one_day, one_product, no_variance, survey_only,
    campaigns_only, prospects_only, late_entry_gaps, constant_spend, heavy_tail, balances_only,
)  # fmt: skip
