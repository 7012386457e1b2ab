"""Satisfaction survey of a Spanish credit institution, 250 customers, from the R package plspm. A real bank survey.

Items are scored 0 to 10; loyalty is stated intention. There are no customer ids, so ids are row numbers and join with
nothing; sampling and date are not documented, so every row counts as sampled and the wave carries no date.
"""

from __future__ import annotations

from pathlib import Path

from crmresearch.data.description import Description, TableSource
from crmresearch.data.sources.open_data import about_entry
from crmresearch.data.sources.own_files import csv_header, csv_relation


def describe(name: str, folder: Path) -> Description:
    """Describe the satisfaction survey.

    Parameters
    ----------
    name : str
        Name in the catalogue.
    folder : Path
        Folder with ``satisfaction.csv``.
    """
    file = folder / "satisfaction.csv"
    header = csv_header(file)
    items = ", ".join(header)
    query = (
        f"SELECT 'row-' || row_number() OVER () AS customer_id, true AS sampled, true AS responded, {items} "
        f"FROM {csv_relation(file, header)}"
    )
    return Description(about_entry(name), {"survey": TableSource(query, text=True, origin=file.name)}, (file,))
