"""CDNOW: purchases at an online music shop, 1997-98. Real, another trade; the benchmark of latent-attrition models.

Every customer first bought in the first quarter of 1997; that purchase is the acquisition. Leaving is never observed.
Several purchases on one day stay separate rows, and ids stay text.
"""

from __future__ import annotations

from pathlib import Path

from crmresearch.data.description import Description, TableSource
from crmresearch.data.sources.open_data import about_entry
from crmresearch.data.sources.own_files import csv_header, csv_relation

FILES = {"cdnow": "CDNOW_master.csv", "cdnow-sample": "CDNOW_sample.csv"}


def describe(name: str, folder: Path) -> Description:
    """Describe the full data (``cdnow``) or the published one-in-ten sample (``cdnow-sample``).

    Parameters
    ----------
    name : {'cdnow', 'cdnow-sample'}
        Name in the catalogue.
    folder : Path
        Folder with the file.
    """
    file = folder / FILES[name]
    rows = csv_relation(file, csv_header(file))
    day = "CAST(strptime(date, '%Y%m%d') AS DATE)"
    customers = f"SELECT customer_id, min({day}) AS acquired_on FROM {rows} GROUP BY customer_id ORDER BY customer_id"
    transactions = (
        f"SELECT customer_id, {day} AS occurred_on, CAST(dollar_value AS DECIMAL(18,2)) AS amount, "
        f"CAST(number_of_cds AS BIGINT) AS units FROM {rows}"
    )
    tables = {
        "customers": TableSource(customers, origin=file.name),
        "transactions": TableSource(transactions, origin=file.name),
    }
    return Description(about_entry(name), tables, (file,))
