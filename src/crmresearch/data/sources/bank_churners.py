"""BankChurners: credit-card customers with an attrition flag. Of uncertain origin, possibly simulated.

One snapshot without dates: ``spells`` hold the tenure at the snapshot and the flag, ``snapshot`` everything else
(``spend`` is the card turnover of twelve months). The two scores of an earlier model in the file leak the answer and
are refused by name.
"""

from __future__ import annotations

from pathlib import Path

from crmresearch.data.description import Description, TableSource
from crmresearch.data.sources.open_data import about_entry
from crmresearch.data.sources.own_files import csv_header, csv_relation

TRAITS = (
    "Customer_Age",
    "Gender",
    "Dependent_count",
    "Education_Level",
    "Marital_Status",
    "Income_Category",
    "Card_Category",
)
# measured over the very months in which the attrited left, so not offered as covariates of the spells
ACTIVITY = (
    "Total_Relationship_Count",
    "Months_Inactive_12_mon",
    "Contacts_Count_12_mon",
    "Credit_Limit",
    "Total_Revolving_Bal",
    "Avg_Open_To_Buy",
    "Total_Amt_Chng_Q4_Q1",
    "Total_Trans_Amt",
    "Total_Trans_Ct",
    "Total_Ct_Chng_Q4_Q1",
    "Avg_Utilization_Ratio",
)


def describe(name: str, folder: Path) -> Description:
    """Describe the BankChurners data.

    Parameters
    ----------
    name : str
        Name in the catalogue.
    folder : Path
        Folder with ``BankChurners.csv``.
    """
    file = folder / "BankChurners.csv"
    rows = csv_relation(file, csv_header(file))
    attrited = (
        "CASE Attrition_Flag WHEN 'Attrited Customer' THEN true WHEN 'Existing Customer' THEN false "
        "ELSE error('unknown Attrition_Flag') END"
    )
    traits = ", ".join(f"{c} AS {c.lower()}" for c in TRAITS)
    activity = ", ".join(f"{c} AS {c.lower()}" for c in ACTIVITY) + ", Total_Trans_Amt AS spend"
    spells = (
        f"SELECT CLIENTNUM AS customer_id, 0 AS entry_months, CAST(Months_on_book AS DOUBLE) AS exit_months, "
        f"{attrited} AS event, {traits} FROM {rows}"
    )
    snapshot = (
        f"SELECT CLIENTNUM AS customer_id, Months_on_book AS months_on_book, {attrited} AS attrited, {traits}, "
        f"{activity} FROM {rows}"
    )
    tables = {
        "spells": TableSource(spells, text=True, origin=file.name),
        "snapshot": TableSource(snapshot, text=True, origin=file.name),
    }
    return Description(about_entry(name), tables, (file,))
