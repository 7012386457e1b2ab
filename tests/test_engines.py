"""The seam to the engine: nobody else names it, and what it returns has the types that were asked for."""

from __future__ import annotations

import datetime
import io
import re
import tokenize
from decimal import Decimal
from pathlib import Path

import ibis
import numpy as np
import pandas as pd
import pytest

from crmresearch.data.engines import DuckDB, typed

PACKAGE = Path(__file__).parents[1] / "src" / "crmresearch"
# The one beside the seam itself: own files may be tables of a database, whose suffix its reader must know.
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
