"""The harness: requests refused, arithmetic right, resumable, the same with one process or two, its table kept."""

import dataclasses
import math
import re
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from matplotlib.collections import PathCollection

from crmresearch import ledger
from crmresearch.errors import FitError, FitWarning, InputError, Missing
from crmresearch.estimators.inference import Estimate
from crmresearch.estimators.verdicts import Bound
from crmresearch.lab import recover, simulated
from crmresearch.lab.recover import harness, limits, lines, summary
from crmresearch.lab.recover.base import ESTIMATORS
from crmresearch.lab.recover.harness import Estimator
from crmresearch.result import Check

COMMITTED = Path(__file__).parents[1] / "outputs" / "reference" / "recovery.csv"


@pytest.fixture
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("CRMRESEARCH_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(harness, "CHUNK", 2)
    return tmp_path


# --- inputs rejected --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("studies", "seeds", "worlds", "message"),
    [
        (["chrun"], 4, None, "no study 'chrun' to recover; there are .*base"),
        (["base"], 4, ["nul"], "no world 'nul' to recover; there are baseline, null"),
        (["base"], 1, None, "at least 2 seeds"),
        (["base"], 4, ["one_factor_survey"], "no estimator of these studies is tried in these worlds"),
    ],
)
def test_impossible_requests_are_refused(studies, seeds, worlds, message, cache):
    with pytest.raises(InputError, match=message):
        recover.run(studies, seeds, worlds, 1, cache)


def test_two_estimators_of_one_name_are_refused(monkeypatch):
    from crmresearch.lab.recover import base

    monkeypatch.setattr(base, "ESTIMATORS", [ESTIMATORS[0], ESTIMATORS[0]])
    with pytest.raises(InputError, match=r"two estimators are named base\.exit_rates"):
        harness.discover.__wrapped__()


# --- correct: the arithmetic of the table -----------------------------------------------------------------------------

N = 1000


def drawn(shift=0.0, scale=1.0, closed=0, n=N, seed=7):
    """Draw n normal estimates around 5 with known bias, error and gates."""
    value = 5.0 + shift + np.random.default_rng(seed).standard_normal(n)
    return pd.DataFrame(
        {
            "value": value, "ci_low": value - 1.96 * scale, "ci_high": value + 1.96 * scale, "se": scale,
            "unit": "points", "warned": 0, "failed": 0, "open": (np.arange(n) >= closed).astype(int),
        }
    )  # fmt: skip


def synthetic(shift=0.0, scale=1.0, closed=0, world="baseline", truth=5.0, quantity="q", n=N, fresh=None):
    """Summarise estimates of a sampler that is known."""
    e, part = Estimator("x", "test", dict, dict), drawn(shift, scale, closed, n)
    return summary._summary(e, world, quantity, part, (truth, 0.0), 3, fresh)


@pytest.fixture
def bound(monkeypatch):
    """Put a line of the register beside its truth: 4 is the bound, and 5 lies beyond it."""
    from crmresearch import ledger

    known = ledger.lines()["S41"]

    def at(bound, **more):
        line = dataclasses.replace(known, line_id="q", bound=Bound(bound, 0, "above"), **more)
        monkeypatch.setattr(ledger, "lines", lambda: {"q": line, "r": dataclasses.replace(line, line_id="r")})

    return at


def test_bias_error_and_coverage_of_a_known_sampler():
    good = synthetic()
    assert good["bias"] == pytest.approx(0, abs=4 / N**0.5)
    assert good["bias_error"] == pytest.approx(1 / N**0.5, rel=0.15)
    assert good["se_ratio"] == pytest.approx(1, rel=0.15)
    assert good["coverage_low"] <= 0.95 <= good["coverage_high"]
    assert (good["verdict"], good["failed"], good["provisional"]) == ("pass", 3, "no")
    assert synthetic(shift=1.0)["verdict"] == "short"  # a bias of one standard error covers 83%
    assert synthetic(shift=0.3, scale=1.5)["verdict"] == "biased"  # wide intervals cover; the mean is off all the same
    assert synthetic(scale=0.6)["verdict"] == "short"  # intervals too short
    assert synthetic(scale=2.0)["verdict"] == "conservative"  # and too long


@pytest.mark.parametrize(
    ("coverage", "fresh", "bias", "error", "n", "verdict"),
    [
        (0.945, math.nan, 0.0, 0.03, 1000, "pass"),
        (0.975, math.nan, 0.0, 0.03, 1000, "pass"),
        (0.976, math.nan, 0.0, 0.03, 1000, "conservative"),
        (0.919, math.nan, 0.0, 0.03, 1000, "short"),
        (0.919, 0.96, 0.0, 0.03, 1000, "short"),  # fresh seeds decide between the two limits only
        (0.92, math.nan, 0.0, 0.03, 1000, "between"),
        (0.944, 0.939, 0.0, 0.03, 1000, "short"),
        (0.92, 0.94, 0.0, 0.03, 1000, "pass"),
        (0.95, math.nan, -0.15, 0.03, 1000, "biased"),
        (0.95, math.nan, -0.13, 0.03, 1000, "pass"),
        (0.99, math.nan, 0.3, 0.03, 1000, "biased"),
        (0.90, math.nan, 0.35, 0.05, 1000, "short"),
        (0.90, math.nan, 0.15, 0.05, 100, "pass"),  # so few seeds cannot tell
        (0.90, math.nan, 0.40, 0.05, 100, "biased"),
        (0.75, math.nan, 0.0, 0.05, 100, "short"),
        (1.00, math.nan, 0.0, 0.05, 100, "pass"),
        (1.00, math.nan, 0.0, 0.05, 400, "conservative"),
    ],
)
def test_intervals_are_judged_by_coverage_and_bias(coverage, fresh, bias, error, n, verdict):
    assert summary.judged(round(coverage * n), n, fresh, bias, error) == verdict


def test_fresh_seeds_decide_where_the_first_thousand_do_not():
    between = synthetic(scale=0.92)
    assert 0.92 <= between["coverage"] < 0.945
    assert between["verdict"] == "between"
    assert synthetic(scale=0.92, fresh=drawn(scale=1.0, n=4000, seed=8))["verdict"] == "pass"
    assert synthetic(scale=0.92, fresh=drawn(scale=0.9, n=4000, seed=8))["verdict"] == "short"


def test_ratios_are_summarised_on_logs(bound, monkeypatch):
    bound(2.0)
    from crmresearch import ledger

    line = dataclasses.replace(ledger.lines()["q"], bound=Bound(1.05, 1, "above"))
    monkeypatch.setattr(ledger, "lines", lambda: {"q": line})
    part = drawn()
    for column in ("value", "ci_low", "ci_high"):
        part[column] = np.exp(part[column])
    row = summary._summary(Estimator("x", "test", dict, dict), "baseline", "q", part, (math.exp(5.0), 0.0), 0)
    assert row["bias"] == pytest.approx(synthetic()["bias"])
    assert (row["true_spread"], row["verdict"]) == (pytest.approx(1, rel=0.1), "pass")
    assert row["mean"] == pytest.approx(math.exp(5.0 + row["bias"]))


def test_found_and_wrong_are_read_from_the_register_and_need_open_gates(bound):
    """The interval of 5 (1) leaves bounds of 2.2 and 7.8 behind with probability .80; at 5 undecided is right."""
    error = 4 * (0.8 * 0.2 / N) ** 0.5
    for at, share in ((2.2, 0.80), (7.8, 0.80), (5.0, 0.95)):
        bound(at)
        row = synthetic(quantity="q")
        assert row["found"] == pytest.approx(share, abs=error)
        assert row["found_low"] < row["found"]
        assert row["at_bound"] == pytest.approx(0.05, abs=4 * (0.05 * 0.95 / N) ** 0.5)
        assert row["at_bound_high"] > row["at_bound"]
    bound(2.2)
    shut = synthetic(quantity="q", closed=N)
    assert (shut["found"], shut["wrong"], shut["at_bound"], shut["gates_open"]) == (0, 0, 0, 0)
    bound(2.2)
    assert synthetic(shift=-6.0, quantity="q")["wrong"] > 0.9
    assert "found" not in synthetic(quantity="no line")


@pytest.mark.parametrize(("scale", "verdict"), [(1.0, "pass"), (0.6, "short")])
def test_false_decisions_of_all_lines_together(bound, scale, verdict):
    """Two independent lines with honest intervals decide at their bounds in about 5% of banks; short ones in more."""
    bound(2.2, primary=True)
    two = [drawn(scale=scale, seed=seed).assign(quantity=q, seed=np.arange(N)) for seed, q in ((1, "q"), (2, "r"))]
    rows = summary.together(pd.concat(two).assign(world="baseline", truth=5.0))
    every, half = rows
    assert every["verdict"] == half["verdict"] == verdict
    assert (every["estimator"], every["seeds"], every["provisional"]) == ("2 lines", N, "no")
    if scale == 1.0:
        assert every["at_bound"] == pytest.approx(0.05, abs=4 * (0.05 * 0.95 / N) ** 0.5)
        few = summary.together(pd.concat([t.iloc[:20] for t in two]).assign(world="baseline", truth=5.0))
        assert (few[0]["verdict"], few[0]["provisional"]) == ("between", "yes")  # twenty banks settle nothing
    closed = summary.together(pd.concat(two).assign(world="baseline", truth=5.0, open=0))
    assert [r["at_bound"] for r in closed] == [0, 0]


def test_without_truth_there_is_no_bias():
    row = synthetic(truth=math.nan)
    assert "bias" not in row
    assert row["verdict"] == ""


@pytest.mark.parametrize(("hits", "n"), [(0, 10), (7, 10), (10, 10)])
def test_binomial_interval_is_the_set_not_rejected(hits, n):
    """Clopper and Pearson: the ends are where one tail of the binomial has half the level."""
    from scipy.stats import binom

    low, high = summary.binomial_interval(hits, n, 0.95)
    assert low == (0.0 if hits == 0 else pytest.approx(low))
    if hits > 0:
        assert binom.sf(hits - 1, n, low) == pytest.approx(0.025)
    if hits < n:
        assert binom.cdf(hits, n, high) == pytest.approx(0.025)


# --- runs: resumable, parallel, honest about failures -----------------------------------------------------------------

CALLS: list[str] = []


def count_customers(bank):
    """Customers and a quantity that fails, warns or closes its gate by turns."""
    import warnings

    n = bank.rows("customers")
    CALLS.append(bank.name)
    if len(CALLS) % 3 == 0:
        raise FitError("no fit this time")
    if len(CALLS) % 3 == 1:
        warnings.warn("flat", FitWarning, stacklevel=1)
    shut = Check("a gate", "closed", "it is shut")
    return {"customers": Estimate(n, n - 1, n + 1, "customers", n), "gated": Estimate(1, 0, 2, "x", n, checks=(shut,))}


def planted(truth):
    return {"customers": float(truth["customers"])}


@pytest.fixture
def counting(monkeypatch, cache):
    e = Estimator("count", "test", count_customers, planted, ("baseline",), 50, 60, ("customers",))
    monkeypatch.setattr(harness, "discover", lambda: {e.key: e})
    CALLS.clear()
    return cache


def test_failures_and_warnings_are_counted(counting):
    table = recover.read(recover.run(None, 6, None, 1, counting))
    row = table.set_index("quantity").loc["customers"]
    assert (row["seeds"], row["failed"], row["warned"]) == (4, 2, 2)
    assert (row["truth"], row["bias"], row["coverage"]) == (50, 0, 1)
    assert table.set_index("quantity").loc["gated", "gates_open"] == 0


def test_a_stopped_run_goes_on_where_it_was(counting):
    recover.run(None, 4, None, 1, counting)
    assert len(CALLS) == 4
    recover.run(None, 8, None, 1, counting)
    assert len(CALLS) == 8
    first = recover.run(None, 8, None, 1, counting / "again.csv").read_bytes()
    assert len(CALLS) == 8
    assert first == (counting / "recovery.csv").read_bytes()
    lost = next((counting / "cache" / "recovery").rglob("*-000003-2.csv"))
    lost.unlink()
    recover.run(None, 8, None, 1, counting)
    assert len(CALLS) == 10


def test_a_change_of_the_code_starts_anew(counting, monkeypatch):
    recover.run(None, 2, None, 1, counting)
    monkeypatch.setattr(harness, "fingerprint", lambda module: "other")
    recover.run(None, 2, None, 1, counting)
    assert len(CALLS) == 4


def test_two_processes_give_the_same_table_as_one(tmp_path, monkeypatch):
    """Also checks the simple estimators: unbiased over seeds (4 Monte-Carlo errors)."""
    tables = []
    for jobs in (1, 2):
        monkeypatch.setenv("CRMRESEARCH_CACHE", str(tmp_path / f"cache{jobs}"))
        monkeypatch.setattr(harness, "discover", lambda: {e.key: e for e in ESTIMATORS if e.name == "exit_rates"})
        worlds = ["baseline", "no_late_entry"]
        tables.append(recover.run(["base"], 20, worlds, jobs, tmp_path / f"{jobs}.csv").read_bytes())
    assert tables[0] == tables[1]
    table = recover.read(tmp_path / "1.csv")
    assert (np.abs(table["bias"]) < 4 * table["bias_error"]).all()
    assert table["truth"].notna().all()


def test_limit_of_an_estimator_is_near_its_truth(monkeypatch):
    """The exit rate is consistent, so that its limit is the truth (5 standard errors of three draws)."""
    e = next(e for e in ESTIMATORS if e.name == "exit_rates")
    e = dataclasses.replace(e, limits=("exit_rate.voluntary",), truth=_nothing)
    for module in (harness, limits):
        monkeypatch.setattr(module, "discover", lambda: {e.key: e})
    drawn = [limits.draw([e.key], "baseline", seed, 8_000)[e.key]["exit_rate.voluntary"] for seed in (1, 2, 3)]
    value, error = limits.limit(drawn)
    truth = simulated.truth(simulated.Settings())["estimands"]["exit_rate.voluntary"]
    assert abs(value - truth) < 5 * max(error, 0.0008)


def test_limits_are_for_what_has_no_formula_and_no_noise():
    e = next(e for e in ESTIMATORS if e.name == "exit_rates")
    e = dataclasses.replace(e, limits=("exit_rate.voluntary", "other"))
    assert limits.wanted(e, "baseline") == ["other"]
    assert limits.wanted(e, "small") == []
    assert limits.banks(dataclasses.replace(e, customers=20_000), "baseline") * limits.CUSTOMERS >= 150 * 20_000
    assert limits.limit([1.0, 1.1, 0.9]) == [1.0, 0.0577]
    assert limits.limit([5.0, -4.0, 1.0]) is None
    assert limits.limit([1.0, math.inf]) is None


def _nothing(truth):
    return {}


def test_estimators_of_one_bank_share_reductions_and_cannot_change_each_others(small_bank):
    calls = []

    def reduction(bank, **options):
        calls.append(options)
        return pd.DataFrame({"x": [1.0, 2.0]})

    first = recover.harness.reduced(small_bank, reduction, lag=3)
    first["x"] = 0.0
    assert recover.harness.reduced(small_bank, reduction, lag=3)["x"].tolist() == [1.0, 2.0]
    recover.harness.reduced(small_bank, reduction, lag=6)
    assert calls == [{"lag": 3}, {"lag": 6}]
    with pytest.raises(FitError, match="no survey"):
        recover.harness.reduced(small_bank, lambda bank: Missing("no survey", ()))


def test_fingerprint_follows_the_imports_of_a_study_and_no_others():
    found = {m: set(harness._imports(f"crmresearch.lab.recover.{m}")) for m in ("value", "loyalty")}
    assert "crmresearch.data.reductions.value" in found["value"]
    assert not any("loyalty" in m for m in found["value"])
    assert (
        len({harness.fingerprint(f"crmresearch.lab.recover.{m}") for m in ("base", "value", "churn", "loyalty")}) == 4
    )


# --- the report -------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def table():
    """Summaries of a sampler without bias, one with, one without truth, and the null world."""
    untold = synthetic(truth=math.nan, world="wider")
    rows = [
        synthetic() | {"quantity": "good"},
        synthetic(shift=1.0) | {"quantity": "shifted"},
        synthetic(truth=math.nan) | {"quantity": "unknown"},
        synthetic(world="null") | {"quantity": "good"},
        synthetic(closed=N, world="no_overlap") | {"quantity": "good"},
        untold | {"quantity": "q", "found": 0.9, "found_low": 0.88, "at_bound": 0.05},
        untold | {"quantity": "weak", "found": 0.4, "found_low": 0.38, "at_bound": 0.04},
    ]
    return pd.DataFrame(rows).reindex(columns=list(recover.COLUMNS))


def test_report_tells_what_the_table_holds(table):
    overview = recover.overview(table).table.set_index("world")
    assert overview.loc["baseline", ["quantities", "pass", "short", "biased"]].tolist() == [2, 1, 1, 0]
    estimates = recover.estimates(table)
    assert estimates.table["quantity"].tolist() == ["good", "shifted"]
    assert "1 are covered too rarely, 0 are biased" in estimates.sentence
    assert "shifted" in estimates.alt
    gates = recover.gates(table)
    assert gates.table.loc[0, ["baseline", "null", "no_overlap"]].tolist() == [1, 1, 0]
    assert gates.sentence.endswith("no_overlap.")
    decisions = recover.decisions(table)
    assert decisions.table["quantity"].tolist() == ["q", "weak"]
    assert decisions.sentence == (
        "In wider, the world of the reference bank, the truth of 1 of 2 lines is found in at least 80% of banks. "
        "Found less often: weak."
    )


def points(ax):
    return [c for c in ax.collections if isinstance(c, PathCollection)]


def test_figures_show_the_numbers_of_the_table(table):
    left, right = recover.estimates(table).plot()
    rows = recover.estimates(table).table
    shown = np.sort(np.concatenate([dots.get_offsets()[:, 0] for dots in points(right)]))
    assert np.allclose(shown, np.sort(rows["coverage"]))
    assert len(left.get_yticks()) == len(rows)
    dots, squares = (marks.get_offsets()[:, 0] for marks in points(recover.decisions(table).plot()))
    assert np.allclose(np.sort(dots), [0.4, 0.9])
    assert np.allclose(np.sort(squares), [0.04, 0.05])


def test_report_says_when_there_is_nothing_to_show(table, tmp_path):
    nothing = recover.published(tmp_path / "recovery.csv")
    for result in (recover.overview(nothing), recover.estimates(nothing), recover.estimates(table, world="small")):
        assert not result.applicable
        assert result.plot() is None
    assert "for nobody; it has rows of test" in recover.gates(table, study_name="nobody").missing.reason
    pd.DataFrame({"study": ["base"]}).to_csv(tmp_path / "recovery.csv")
    with pytest.raises(InputError, match=r"recovery\.csv lacks estimator, world"):
        recover.published(tmp_path / "recovery.csv")


# --- the committed table ----------------------------------------------------------------------------------------------


@pytest.mark.skipif(not COMMITTED.exists(), reason="outputs/reference/recovery.csv is not there yet (make recover)")
def test_committed_table_agrees_with_a_few_seeds(tmp_path, monkeypatch):
    """Few new seeds against the many committed: means agree within 4 Monte-Carlo errors of the few."""
    committed = recover.read(COMMITTED)
    assert list(committed.columns) == list(recover.COLUMNS)
    monkeypatch.setenv("CRMRESEARCH_CACHE", str(tmp_path))
    few = recover.read(recover.run(["base"], 6, ["baseline", "null"], 1, tmp_path))
    key = ["study", "estimator", "world", "quantity"]
    both = few[few["study"] != "all"].merge(committed, on=key, suffixes=("", "_committed"))
    assert len(both) > 8
    error = 4 * both["true_spread_committed"] / np.sqrt(both["seeds"])
    assert (np.abs(both["mean"] - both["mean_committed"]) < error).all()
    assert np.allclose(both["truth"], both["truth_committed"], rtol=1e-5)


@pytest.mark.skipif(not COMMITTED.exists(), reason="outputs/reference/recovery.csv is not there yet (make recover)")
def test_no_shortfall_of_the_committed_table_is_without_a_reason():
    found = recover.failures(recover.published(COMMITTED))
    assert found.table.loc[found.table["reason"] == ""].to_dict("records") == []


def test_failures_carry_their_reasons():
    bad = synthetic(shift=1.0)
    table = pd.DataFrame(
        [
            bad | {"quantity": "naive: spend taken as drawn"},
            bad | {"quantity": "S40"},
            synthetic() | {"quantity": "S41"},
        ]
    ).reindex(columns=list(recover.COLUMNS))
    found = recover.failures(table)
    assert found.table["quantity"].tolist() == ["naive: spend taken as drawn", "S40"]
    assert "on purpose" in found.table.loc[0, "reason"]
    assert found.table.loc[1, "reason"] == ""
    assert "1 of them for no known reason" in found.sentence
    assert recover.failures(table.iloc[2:]).table.empty


def test_many_lines_read_together_are_rarely_decided_wrongly():
    """The reduced form of what notebook 90 shows with a thousand banks and intervals."""
    found = recover.many_lines(runs=200, seed=7).table
    assert len(found) == 9
    assert (found["estimate"] <= found["level"]).all()
    assert found["estimate"].max() > 0.02  # something is decided at all


def test_many_lines_would_show_verdicts_without_control(monkeypatch):
    monkeypatch.setattr(
        ledger.verdicts, "adjusted", lambda primary, within: dict.fromkeys(ledger.lines(), 0.0) | primary
    )
    found = recover.many_lines(runs=50, seed=7).table
    assert (found["estimate"] > found["level"])[:3].all()


def test_every_stored_truth_is_exact_to_a_tenth_of_an_estimate():
    """Monte-Carlo error of each line's truth against the standard error of its estimate on the reference bank."""
    from crmresearch import ledger
    from crmresearch.estimators.inference import z

    found = pd.read_csv(COMMITTED.with_name("ledger.csv")).set_index("line_id")
    stored, known, checked = simulated.about(simulated.Settings(world=simulated.REFERENCE))["truth"], ledger.lines(), {}
    for line, one in stored.items():
        low, high = (float(found.loc[line, end]) for end in ("ci_low", "ci_high"))
        ratio = known[line].bound is not None and known[line].bound.none == 1 and line[:3] != "S40"
        if low == high:  # found without error
            continue
        se = (math.log(high / low) if ratio else high - low) / (2 * z())
        errors = [one["error"] / (one.get("world", one.get("limit")) if ratio else 1)]
        if "limit" in one and "world" in one:  # the limit has its error where it comes from
            value, error = lines.limits(simulated.REFERENCE)[line]
            errors.append(error / (value if ratio else 1))
        checked[line] = max(errors) / se
    assert len(checked) > 30
    assert {line: share for line, share in checked.items() if share >= 0.1} == {}


def test_truths_of_lines_agree_with_a_small_new_draw_and_travel_with_the_bank(tmp_path):
    from crmresearch import ledger
    from crmresearch.data.sources.own_files import about_in

    stored = simulated.about(simulated.Settings(world=simulated.REFERENCE))["truth"]
    assert stored, f"lines.yaml belongs to other worlds.yaml: {lines.COMMAND}"
    assert set(stored) <= set(ledger.lines())
    fresh = lines.drawn(simulated.REFERENCE, [lines._sums(simulated.REFERENCE, block) for block in range(300, 308)])
    for line, one in fresh.items():
        spread = math.hypot(one["error"], stored[line]["error"])
        assert abs(one["world"] - stored[line]["world"]) <= 4.5 * spread, line
    # what has a formula or a limit is stored as it is known today
    for line, one in lines.known(simulated.REFERENCE).items():
        assert stored[line] == pytest.approx(one, rel=1e-5), line
    changed = simulated.Settings(300, 60, world="wider", changes={"retain_exit": 0.0})
    assert simulated.about(changed)["truth"] == {}
    folder = simulated.write(simulated.Settings(300, world="wider"), tmp_path / "bank", ["customers"])
    assert about_in(folder).truth == stored
    described = (folder / "bank.yaml").read_text()
    for broken in ("truth: {S06: {word: 1}}", "truth: {S06: {error: 1}}", "truth: {S06: {world: x}}"):
        (folder / "bank.yaml").write_text(re.sub(r"truth:\n(?:  .*\n)+", broken + "\n", described))
        with pytest.raises(InputError, match=r"truth must look like this: truth: \{S06"):
            about_in(folder)
