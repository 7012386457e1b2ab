"""SMCRM: teaching data of a book on customer relationship management. Almost certainly simulated, and no bank.

Five data sets of 500 customers each; equal numbers in different sets are not the same customers, so each set is a bank
of its own. None has dates: durations stay ``spells``, summaries ``snapshot``, with the publisher's column names.
"""

from __future__ import annotations

from pathlib import Path

from crmresearch.data.description import Description, TableSource
from crmresearch.data.sources.open_data import about_entry, catalogue
from crmresearch.data.sources.own_files import csv_header, csv_relation

DAYS_PER_MONTH = 365.25 / 12


def describe(name: str, folder: Path) -> Description:
    """Describe one of the SMCRM data sets.

    =====================  ========================================================================================
    ``smcrm``              acquisitionRetention: prospects, won or not, both spends, duration, profit (``snapshot``)
    ``smcrm-acquisition``  customerAcquisition: the same with censoring (``snapshot``; ``spells`` of those won)
    ``smcrm-churn``        customerChurn: durations to 730 days (``spells`` with covariates)
    ``smcrm-retention``    500 customers, 12 quarters, summed up per customer, and their traits (``snapshot``)
    ``smcrm-winback``      customerWinBack: offers to lapsed customers (``snapshot``)
    =====================  ========================================================================================

    Parameters
    ----------
    name : str
        Name in the catalogue.
    folder : Path
        Folder with the set's files.
    """

    def rows(file: str) -> str:
        return csv_relation(folder / file, csv_header(folder / file))

    def renamed(file: str, *drop: str) -> str:
        return ", ".join(c for c in csv_header(folder / file) if c not in ("customer", *drop))

    # censor = 1 means still a customer at the end of the period
    spell = f"0 AS entry_months, CAST(duration AS DOUBLE) / {DAYS_PER_MONTH} AS exit_months, censor = '0' AS event"
    text: dict[str, tuple[str, str]] = {}
    if name == "smcrm":
        file = "acquisitionRetention.csv"
        text["snapshot"] = (f"SELECT customer AS customer_id, {renamed(file)} FROM {rows(file)}", file)
    elif name == "smcrm-acquisition":
        file = "customerAcquisition.csv"
        traits = renamed(file, "acquisition", "duration", "censor", "clv")
        text["snapshot"] = (f"SELECT customer AS customer_id, {renamed(file)} FROM {rows(file)}", file)
        text["spells"] = (
            f"SELECT customer AS customer_id, {spell}, {traits} FROM {rows(file)} WHERE acquisition = '1'",
            file,
        )
    elif name == "smcrm-churn":
        file = "customerChurn.csv"
        traits = renamed(file, "duration", "censor")
        text["spells"] = (f"SELECT customer AS customer_id, {spell}, {traits} FROM {rows(file)}", file)
    elif name == "smcrm-retention":
        file = "customerRetentionTransactions.csv"
        summed = f"""(SELECT customer, sum(CAST(purchase AS INTEGER)) AS purchases,
                             max(CAST(crossbuy AS INTEGER)) AS crossbuy,
                             sum(CAST(order_quantity AS DECIMAL(18,4))) AS order_quantity,
                             sum(CAST(ret_expense AS DECIMAL(18,4))) AS ret_expense
                      FROM {rows(file)} GROUP BY customer)"""
        traits, counts = "customerRetentionDemographics.csv", "customerRetentionLifetimeDuration.csv"
        query = f"""SELECT d.customer AS customer_id, {renamed(traits)}, purchases, crossbuy, order_quantity,
                           ret_expense, x AS frequency, tx AS recency_quarters, T AS observed_quarters
                    FROM {rows(traits)} d JOIN {rows(counts)} USING (customer) JOIN {summed} USING (customer)
                    ORDER BY CAST(d.customer AS INTEGER)"""
        text["snapshot"] = (query, traits)
    else:
        file = "customerWinBack.csv"
        text["snapshot"] = (f"SELECT customer AS customer_id, {renamed(file)} FROM {rows(file)}", file)
    tables = {table: TableSource(query, text=True, origin=origin) for table, (query, origin) in text.items()}
    return Description(about_entry(name), tables, tuple(folder / f for f in catalogue()[name]["files"]))
