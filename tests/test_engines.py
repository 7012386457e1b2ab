"""The seam to the engine: nobody else names it, and what it returns has the types that were asked for."""

from __future__ import annotations

import ast
import datetime
import functools
import hashlib
import inspect
import io
import re
import tokenize
from decimal import Decimal
from pathlib import Path

import ibis
import numpy as np
import pandas as pd
import pytest

from crmresearch.data import bank
from crmresearch.data.engines import DuckDB, typed
from crmresearch.data.reductions import base, churn, cost, expressions, loyalty, value
from crmresearch.data.reductions.blocks import BLOCKS, block_of

PACKAGE = Path(__file__).parents[1] / "src" / "crmresearch"
NAMES = re.compile(r"duckdb|dialect|\.con\b|pragma |\braw_sql\b|\bto_sql\(", re.IGNORECASE)


def code(path: Path) -> str:
    """Code of a module, without comments and docstrings."""
    kept = []
    before = tokenize.NEWLINE
    for token in tokenize.generate_tokens(io.StringIO(path.read_text("utf-8")).readline):
        text = token.type == tokenize.STRING and before in (tokenize.NEWLINE, tokenize.INDENT, tokenize.NL)
        if token.type != tokenize.COMMENT and not text:
            kept.append(token.string)
        before = token.type
    return " ".join(kept).replace(" . ", ".").replace(" (", "(")


def test_no_other_module_names_an_engine():
    found = {}
    for path in sorted(PACKAGE.rglob("*.py")):
        relative = path.relative_to(PACKAGE).as_posix()
        text = code(path).replace("DuckDB", "")  # the seam's own class, which says what it is given
        if relative != "data/engines.py" and NAMES.search(text):
            found[relative] = NAMES.search(text)[0]
    assert found == {}


def test_columns_get_the_types_an_expression_declares():
    schema = ibis.schema(
        {
            "day": "date", "whole": "int32", "gaps": "int64", "money": "decimal(18, 2)", "share": "float64",
            "flag": "boolean", "unsure": "boolean", "name": "string",
        }
    )  # fmt: skip
    frame = pd.DataFrame(
        {
            "day": [datetime.date(2020, 1, 31), None],
            "whole": [3.0, 4.0],  # as an engine returns a sum of whole numbers
            "gaps": pd.array([1, None], dtype="Int64"),
            "money": [Decimal("1.25"), None],
            "share": [0.5, np.nan],
            "flag": pd.array([True, False], dtype="boolean"),
            "unsure": pd.array([True, None], dtype="boolean"),
            "name": ["a", None],
        }
    )
    got = typed(frame, schema)
    kinds = ["datetime64[ns]", "int32", "float64", "float64", "float64", "bool", "object", "object"]
    assert [str(t) for t in got.dtypes] == kinds
    assert got["unsure"].tolist() == [True, None]
    assert got["money"].tolist()[0] == 1.25


def test_the_engine_answers_frames_scalars_and_what_was_loaded():
    engine = DuckDB()
    with engine.visible({"given": pd.DataFrame({"x": [1, 2, 4]})}):
        engine.run("CREATE TABLE t AS SELECT * FROM given")
    engine.note({"t": {"rows": 3}})
    t = engine.table("t")
    assert engine.scalar(t.x.sum()) == 7
    assert engine.frame(t.order_by("x"))["x"].tolist() == [1, 2, 4]
    assert engine.frame("SELECT max(x) AS m FROM t")["m"].tolist() == [4]
    assert engine.tables() == {"t": {"rows": 3}}
    assert engine.fingerprint() == ""
    with pytest.raises(engine.error):
        engine.run("SELECT * FROM given")
    engine.close()


DIALECTS = ("databricks", "trino")  # on PostgreSQL and Spark they run (`make test-engines`)


def reductions(bank):
    """Every reduction, by module and name, with what it takes beside the bank."""
    month = value.month_end
    days = churn.landmark_dates(bank, 12)
    given = {
        "value.contribution_by_month": {"at": month(bank, 12)},
        "value.equity": {"opening": month(bank, 12), "closing": month(bank)},
        "value.tenure_windows": {"until": month(bank, 12)},
        "value.summary": {"calibration_share": 0.5, "gross": True},
        "churn.landmark": {"on": days[0], "horizon": 12},
        "churn.landmark_dates": {"horizon": 12},
        "churn.person_months_by_lag": {"lags": (0, 3), "groups": churn.GROUPS},
        "churn.spells": {"groups": churn.GROUPS, "states": churn.STATES},
        "cost.upkeep": {"by": "segment"},
    }
    taken = {"value.split_day", "value.summary_expression"}  # parts of others
    for module in (base, value, churn, cost, loyalty):
        short = module.__name__.rpartition(".")[2]
        for name, function in inspect.getmembers(module, inspect.isfunction):
            key = f"{short}.{name}"
            if function.__module__.startswith(module.__name__) and name[0] != "_" and key not in taken:
                yield key, functools.partial(function, bank, **given.get(key, {}))


@pytest.fixture(scope="module")
def asked(small_bank):
    """What every reduction asks the engine of the small bank for, by its name."""
    found: dict[str, list] = {}
    compiled = DuckDB.compiled
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(bank, "_STATEMENTS", {})
        for name, run in reductions(small_bank):
            seen = found.setdefault(name, [])
            patch.setattr(DuckDB, "compiled", lambda e, expr, seen=seen: seen.append(expr) or compiled(e, expr))
            run()
    return found


def test_every_reduction_compiles_for_other_engines(asked):
    """Compiling proves little; but what does not compile would surely not run."""
    refused = []
    assert [name for name, seen in asked.items() if any(isinstance(expr, str) for expr in seen)] == []
    for name, seen in asked.items():
        for expr in seen:
            for dialect in DIALECTS:
                try:
                    ibis.to_sql(expr.as_table(), dialect=dialect)
                except Exception as error:
                    refused.append((name, dialect, repr(error)[:200]))
    assert refused == []
    assert sum(map(len, asked.values())) > 50


def test_whole_numbers_are_cast_before_they_are_divided(asked):
    """Elsewhere a whole number over a fraction becomes a decimal of six digits."""
    wrong = set()
    for name, seen in asked.items():
        for expr in seen:
            for node in expr.op().find(ibis.expr.operations.Divide):
                if not (isinstance(node, ibis.expr.operations.FloorDivide) or node.left.dtype.is_floating()):
                    wrong.add((name, node.name))
    assert wrong == set()


def test_a_block_is_the_same_on_every_engine():
    engine = DuckDB()
    with engine.visible({"given": pd.DataFrame({"id": ["c0001", "Ärger", "7"]})}):
        engine.run("CREATE TABLE t AS SELECT * FROM given")
    t = engine.table("t")
    got = engine.frame(t.select(t.id, block=block_of(t.id)))
    expected = [int(hashlib.md5(k.encode(), usedforsecurity=False).hexdigest()[:3], 16) % BLOCKS for k in got["id"]]
    assert got["block"].tolist() == expected


SMALL = {"_cities": "places", "helped": "branches", "_homes": "branches", "branch_quarters": "branches",
         "_waves": "waves", "_next_wave": "waves"}  # fmt: skip


def test_no_window_without_a_partition_runs_over_people():
    """An engine of many machines sends all rows of such a window to one of them."""
    found = set()
    for path in sorted((PACKAGE / "data" / "reductions").rglob("*.py")):
        for function in ast.walk(ast.parse(path.read_text("utf-8"))):
            if not isinstance(function, ast.FunctionDef):
                continue
            for call in ast.walk(function):
                name = call.func.attr if isinstance(call, ast.Call) and isinstance(call.func, ast.Attribute) else ""
                given = {k.arg for k in call.keywords} if name else set()
                if (name == "window" or (name == "over" and given)) and not given & {"group_by", None}:
                    found.add(function.name)
    assert found == {*SMALL}


@pytest.mark.parametrize("n", [3, 9, 10, 100])
def test_cuts_make_parts_of_equal_size_and_keep_equals_together(n):
    engine = DuckDB()
    values = -1e6 / 3 + np.random.default_rng(n).permutation(n) / 7
    with engine.visible({"given": pd.DataFrame({"x": values, "y": np.where(np.arange(n) <= n // 2, 5.0, values)})}):
        engine.run("CREATE TABLE t AS SELECT * FROM given")
    t = engine.table("t")
    low, middle = expressions.cuts(engine, t.x, 3)
    sizes = [(values <= low).sum(), ((values > low) & (values <= middle)).sum(), (values > middle).sum()]
    assert max(sizes) - min(sizes) <= 1
    assert set(expressions.cuts(engine, t.y, 3)) >= {5.0 + 5e-12}
    engine.close()
