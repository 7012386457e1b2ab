"""The whole study, as ``make study`` runs it: completed, and the ledger in git is what comes out.

Where nbval has executed the notebooks in the same session, nothing is executed twice.
"""

from __future__ import annotations

import functools
import shutil
from pathlib import Path

import numpy as np
import pytest

from crmresearch import ledger
from crmresearch.data import pseudonyms
from crmresearch.run import batch, staging, workers

ROOT = Path(__file__).parents[1]
NUMBERS = ["estimate", "ci_low", "ci_high", "se", "strength", "p_value", "q_value", "truth", "limit"]
# Sums are exact in the engine and seeds are fixed; what differs between machines is the last digit of a logarithm or a
# matrix product, which an optimiser that stops at a gradient of 1e-8 or so turns into the seventh digit of an estimate.
RTOL = 1e-5
# Absolute, for p-values near zero and gaps that are rounding errors themselves (S03).
ATOL = 1e-9


def taken(tested, run, job, progress):
    """Give what nbval has executed in this session for what the runner would execute; it compares the outputs."""
    source, folder = Path(job["source"]), Path(job["folder"])
    if not (tested / "through" / source.stem).exists():
        return run(job, progress)
    for path in staging.owned(tested / "run", source.stem):
        shutil.copy2(path, folder / path.parent.name)
    shutil.copyfile(source, folder / "notebooks" / source.name)
    return {"status": "completed", "seconds": 0.0}


@pytest.fixture(scope="module")
def outcome(tmp_path_factory: pytest.TempPathFactory, identifiers_as_they_came, tested) -> batch.Outcome:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(pseudonyms, "key", identifiers_as_they_came)
        patch.delenv("CRMRESEARCH_BANKS", raising=False)
        patch.setenv("CRMRESEARCH_CACHE", str(tested / "cache"))
        with workers.team(2, batch.environment(), None, warm=True) as team:
            patch.setattr(team, "run", functools.partial(taken, tested, team.run))
            return batch.run("reference", out=tmp_path_factory.mktemp("study") / "reference", team=team)


def test_every_notebook_completes_and_nothing_breaches(outcome):
    ended = {name: one["status"] for name, one in outcome.status["notebooks"].items()}
    assert set(ended.values()) == {"completed"}, outcome.status
    assert list(ended) == sorted(p.stem for p in (ROOT / "notebooks").glob("*.ipynb"))
    assert outcome.completed, outcome.status.get("disclosure")
    assert (outcome.folder / "site" / "index.html").exists()


def test_the_stored_ledger_is_what_comes_out(outcome):
    fresh, stored = ledger.read(outcome.folder), ledger.read(ROOT / "outputs" / "reference")
    # details of gates hold rounded numbers; how the data were loaded differs between versions of the engine
    words = [c for c in ledger.COLUMNS if c not in (*NUMBERS, "checks", "data_fingerprint")]
    differ = [
        f"{new['line_id']} {column}: stored {old[column]!r}, now {new[column]!r}"
        for old, new in zip(stored.to_dict("records"), fresh.to_dict("records"), strict=True)
        for column in (*words, *NUMBERS)
        if not _same(old[column], new[column], column in NUMBERS)
    ]
    assert differ == [], "run: make notebooks, if the change is meant"


def _same(old: object, new: object, is_number: bool) -> bool:
    if is_number:
        return bool(np.isclose(old, new, rtol=RTOL, atol=ATOL, equal_nan=True))
    return old == new or (old != old and new != new)


def test_every_claim_of_the_register_has_its_rows(outcome):
    fresh = ledger.read(outcome.folder)
    assert set(fresh["claim_id"]) == {c["id"] for c in ledger.claims()}
    assert not fresh["verdict"].eq("").any()
    measured = fresh[fresh["estimate"].notna()]
    assert (measured["cell"] != "").sum() >= len(measured) - 1  # all but the line that the runner itself decides
    assert (fresh["evidence"].isin(["simulated"])).all()
