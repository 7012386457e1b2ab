"""A bank that a driver of Spark in this process reads from files."""

from __future__ import annotations

import pandas as pd
import pytest

from crmresearch.data import pseudonyms
from crmresearch.data.bank import open_bank
from crmresearch.errors import CrmError

BANK = """name: far
currency: EUR
evidence: simulated
observation_start: 2020-01-01
observation_end: 2021-12-31
engine: spark
connect: local[1]
tables:
  customers: {{table: "parquet.`{}`", columns: {{customer_id: nr}}}}
"""


def test_a_driver_here_reads_files_tells_changes_and_ends_in_one_line_where_it_is_lost(
    tmp_path, monkeypatch, identifiers_as_they_came
):
    monkeypatch.setattr(pseudonyms, "key", identifiers_as_they_came)
    monkeypatch.setenv("CRMRESEARCH_CACHE", str(tmp_path / "cache"))
    file = tmp_path / "customers.parquet"
    days = pd.to_datetime(["2020-02-01", "2020-03-01", "2020-04-01"]).date
    pd.DataFrame({"nr": [3, 10, 2], "acquired_on": days}).to_parquet(file)
    (tmp_path / "bank.yaml").write_text(BANK.format(file), "utf-8")
    far = open_bank(tmp_path)
    found = far.frame(far.table("customers")).sort_values("customer_id")
    assert found["acquired_on"].dt.month.tolist() == [3, 4, 2]  # in the order of the texts 10, 2, 3
    link = far.engine.link
    before = link.digest()
    assert link.digest() == before
    pd.DataFrame({"nr": [3, 10, 4], "acquired_on": days}).to_parquet(file)
    assert link.digest() != before
    link.session.sparkContext._gateway.proc.kill()
    with pytest.raises(CrmError, match=r"^Spark, where the bank's tables are, did not answer \(\w+\); see .* kept$"):
        far.frame(far.table("customers"))
    far.engine.close()
