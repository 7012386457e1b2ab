"""Bank marketing: telephone campaigns of a Portuguese bank, 2008-10. Real; contacts per sale, but no money and no ids.

Each row is the last contact of a campaign with one client; clients cannot be told apart, so the ids are row numbers and
join with nothing. ``duration`` is known only after the call and is refused by name.
"""

from __future__ import annotations

from pathlib import Path

from crmresearch.data.description import Description, TableSource
from crmresearch.data.sources.open_data import about_entry
from crmresearch.data.sources.own_files import csv_header, csv_relation

FILE = "bank-additional-full.csv.gz"


def describe(name: str, folder: Path) -> Description:
    """Describe the bank marketing data (41,188 contacts).

    Columns keep the publisher's names (dots become underscores), with three exceptions: ``contacts`` is their
    ``campaign`` (contacts in this campaign, the last one included), ``days_since_previous`` their ``pdays`` (absent
    where they write 999, never contacted before), ``sold`` their ``y``.

    Parameters
    ----------
    name : str
        Name in the catalogue.
    folder : Path
        Folder with the gzipped file.
    """
    file = folder / FILE
    header = csv_header(file, ";")
    renamed = {"campaign": "contacts", "pdays": "days_since_previous", "y": "sold"}
    special = {"pdays": "nullif(CAST(pdays AS INTEGER), 999)", "y": "CAST(y AS BOOLEAN)"}
    columns = ", ".join(
        f"{special.get(c, chr(34) + c + chr(34))} AS {renamed.get(c, c.replace('.', '_'))}"
        for c in header
        if c != "duration"
    )
    query = f"SELECT 'row-' || row_number() OVER () AS customer_id, {columns} FROM {csv_relation(file, header, ';')}"
    return Description(about_entry(name), {"snapshot": TableSource(query, text=True, origin=FILE)}, (file,))
