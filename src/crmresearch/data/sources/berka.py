"""Berka: accounts, clients and transactions of a Czech bank, 1993-98 (PKDD'99). A real bank, anonymised.

Customer = account owner; other authorised users are counted in ``customers.users``. The full transaction table
(``trans.csv``) is used where it is there; otherwise the transactions of the first fifteen months, beside a summary per
account over the whole period, which stays a ``snapshot``. Standing orders carry no date and are counted there too.
In it, ``turnover`` is the gross sum of all transactions and ``income`` what the bank charged in fees and penalty
interest, both over the whole period; the interest margin is not known.
"""

from __future__ import annotations

import datetime
from pathlib import Path

from crmresearch.data.description import Description, Reconciliation, TableSource
from crmresearch.data.sources.open_data import about_entry
from crmresearch.data.sources.readers import csv_header, csv_relation
from crmresearch.errors import InputError

PARTIAL, FULL, SUMMARY = "trans_1993-01_1994-03.csv", "trans.csv", "trans_account_summary.csv"
PARTIAL_COVERS = (datetime.date(1993, 1, 1), datetime.date(1994, 3, 30))
DAY = "CAST(strptime({}, '%y%m%d') AS DATE)"

CHANNELS = {
    "VKLAD": "cash in",
    "VYBER": "cash out",
    "VYBER KARTOU": "card",
    "PREVOD Z UCTU": "transfer in",
    "PREVOD NA UCET": "transfer out",
}
PURPOSES = {
    "UROK": "interest credited",
    "SLUZBY": "statement fee",
    "SIPO": "household",
    "DUCHOD": "pension",
    "POJISTNE": "insurance",
    "POJISTNE ": "insurance",
    "UVER": "loan payment",
    "SANKC. UROK": "penalty interest",
    "LEASING": "leasing",
}
# counts the publisher states, and what must hold between tables
PUBLISHED = (
    Reconciliation("accounts, each with one owner", "SELECT count(*) FROM customers", 4_500),
    Reconciliation("clients, owners and other users", "SELECT sum(users) FROM customers", 5_369),
    Reconciliation("cards", "SELECT count(*) FROM holdings WHERE product_family = 'card'", 892),
    Reconciliation("loans", "SELECT count(*) FROM holdings WHERE product_family = 'loan'", 682),
)
_LAST = "(SELECT customer_id, max(occurred_on) AS day, sum(amount) AS total FROM transactions GROUP BY customer_id)"
MOVEMENTS = (
    Reconciliation(
        "accounts opened by the last transaction's day that have transactions",
        "SELECT count(DISTINCT customer_id) FROM transactions",
        "SELECT count(*) FROM customers WHERE acquired_on <= (SELECT max(occurred_on) FROM transactions)",
    ),
    Reconciliation(  # balances are rounded to 0.1, so they may drift from the sum of amounts by a little
        "accounts whose signed amounts add up to a balance on their last day, within 2",
        f"""SELECT count(DISTINCT t.customer_id) FROM transactions t JOIN {_LAST} l USING (customer_id)
            WHERE t.occurred_on = l.day AND abs(t.balance_after - l.total) <= 2""",
        "SELECT count(DISTINCT customer_id) FROM transactions",
    ),
)
SUMMARISED = (
    Reconciliation("transactions in the account summary", "SELECT sum(n_trans) FROM snapshot", 1_056_088),
    Reconciliation("accounts blank in the account summary", "SELECT count(*) FROM snapshot WHERE n_trans IS NULL", 8),
    Reconciliation(
        "accounts with more transactions than their summary counts",
        """SELECT count(*) FROM (SELECT customer_id, count(*) AS n FROM transactions GROUP BY customer_id)
           JOIN snapshot USING (customer_id) WHERE n > n_trans""",
        0,
    ),
    Reconciliation(
        "transactions by type, against their number",
        "SELECT sum(n_type_credit + n_type_withdrawal + n_type_vyber) FROM snapshot",
        "SELECT sum(n_trans) FROM snapshot",
    ),
)
STATEMENTS = {"POPLATEK MESICNE": "monthly", "POPLATEK TYDNE": "weekly", "POPLATEK PO OBRATU": "per transaction"}


def _decode(column: str, terms: dict[str, str], blank: str) -> str:
    """Write the translation of Czech terms; a term that is not listed stops the load."""
    arms = " ".join(f"WHEN '{theirs}' THEN '{ours}'" for theirs, ours in terms.items())
    value = f"coalesce(nullif(trim({column}), ''), '')"
    return f"CASE {value} WHEN '' THEN {blank} {arms} ELSE error('unknown term in {column}') END"


def describe(name: str, folder: Path) -> Description:
    """Describe the Berka bank.

    Parameters
    ----------
    name : str
        Name in the catalogue.
    folder : Path
        Folder with the files, ``trans.csv`` or the partial table among them.

    Raises
    ------
    InputError
        If there is no transaction table.
    """
    here = {p.name for p in folder.iterdir()}
    trans = next((f for f in (FULL, PARTIAL) if f in here), None)
    if trans is None:
        raise InputError(f"berka needs {FULL} or {PARTIAL}; crmresearch bank get berka --from DIR brings either")

    def rows(file: str, sep: str = ";") -> str:
        return csv_relation(folder / file, csv_header(folder / file, sep), sep)

    owners = f"(SELECT account_id, client_id FROM {rows('disp.csv')} WHERE type = 'OWNER')"
    users = f"(SELECT account_id, count(*) AS users FROM {rows('disp.csv')} GROUP BY account_id)"
    # birth_number is YYMMDD, with 50 added to the month for women
    month = "CAST(substr(birth_number, 3, 2) AS INTEGER)"
    customers = f"""
        SELECT o.client_id AS customer_id, {DAY.format("a.date")} AS acquired_on,
               1900 + CAST(substr(birth_number, 1, 2) AS INTEGER) AS birth_year,
               CASE WHEN {month} > 50 THEN 'female' ELSE 'male' END AS sex,
               c.district_id AS city_id, d.A3 AS region, u.users AS users,
               {_decode("a.frequency", STATEMENTS, "NULL")} AS statements
        FROM {rows("account.csv")} a JOIN {owners} o USING (account_id) JOIN {users} u USING (account_id)
             JOIN {rows("client.csv")} c ON c.client_id = o.client_id
             JOIN {rows("district.csv")} d ON d.A1 = c.district_id
        ORDER BY CAST(o.client_id AS INTEGER)"""
    # finished contracts (status A, B) end by the end of 1998, running ones (C, D) after it: the term gives the end
    loan_day = DAY.format("l.date")
    holdings = f"""
        SELECT customer_id, product_family, opened_on, closed_on, term_months, variant FROM (
          SELECT o.client_id AS customer_id, 'current account' AS product_family, {DAY.format("a.date")} AS opened_on,
                 CAST(NULL AS DATE) AS closed_on, CAST(NULL AS BIGINT) AS term_months, CAST(NULL AS VARCHAR) AS variant
          FROM {rows("account.csv")} a JOIN {owners} o USING (account_id)
          UNION ALL
          SELECT o.client_id, 'card', {DAY.format("substr(k.issued, 1, 6)")}, NULL, NULL, k.type
          FROM {rows("card.csv")} k JOIN {rows("disp.csv")} p USING (disp_id) JOIN {owners} o USING (account_id)
          UNION ALL
          SELECT o.client_id, 'loan', {loan_day},
                 CASE WHEN l.status IN ('A', 'B')
                      THEN CAST({loan_day} + to_months(CAST(l.duration AS INTEGER)) AS DATE) END,
                 CAST(l.duration AS BIGINT),
                 CASE l.status WHEN 'A' THEN 'finished, paid' WHEN 'B' THEN 'finished, not paid'
                               WHEN 'C' THEN 'running, paid' WHEN 'D' THEN 'running, in debt' END
          FROM {rows("loan.csv")} l JOIN {owners} o USING (account_id))
        ORDER BY CAST(customer_id AS INTEGER), opened_on, product_family"""
    transactions = f"""
        SELECT o.client_id AS customer_id, {DAY.format("t.date")} AS occurred_on,
               CASE t.type WHEN 'PRIJEM' THEN 1 WHEN 'VYDAJ' THEN -1 WHEN 'VYBER' THEN -1
                           ELSE error('unknown term in type') END * CAST(t.amount AS DECIMAL(18,2)) AS amount,
               {_decode("t.operation", CHANNELS, "'booked by the bank'")} AS channel,
               {_decode("t.k_symbol", PURPOSES, "NULL")} AS purpose,
               CAST(t.balance AS DECIMAL(18,2)) AS balance_after
        FROM {rows(trans)} t JOIN {owners} o USING (account_id)
        ORDER BY {DAY.format("t.date")}, CAST(t.account_id AS INTEGER), CAST(t.trans_id AS BIGINT)"""
    files = ["account.csv", "card.csv", "client.csv", "disp.csv", "district.csv", "loan.csv", "order.csv", trans]
    tables = {
        "customers": TableSource(customers, origin="account.csv"),
        "holdings": TableSource(holdings, origin="account.csv, card.csv, loan.csv"),
        "transactions": TableSource(transactions, origin=trans),
    }
    if SUMMARY in here:
        files.append(SUMMARY)
        orders = f"""(SELECT account_id, count(*) AS standing_orders, sum(CAST(amount AS DECIMAL(18,2)))
                      AS standing_order_amount FROM {rows("order.csv")} GROUP BY account_id)"""
        columns = [c for c in csv_header(folder / SUMMARY) if c != "account_id"]
        types = {c: "BIGINT" if c.startswith("n_") else "DOUBLE" for c in columns}
        kept = ", ".join(f"CAST(nullif(s.{c}, '') AS {t}) AS {c}" for c, t in types.items())
        snapshot = f"""
            SELECT o.client_id AS customer_id, {kept}, coalesce(standing_orders, 0) AS standing_orders,
                   CAST(coalesce(standing_order_amount, 0) AS DOUBLE) AS standing_order_amount,
                   CAST(nullif(s.sum_amount, '') AS DOUBLE) AS turnover,
                   CAST(nullif(s.total_sym_statement_fee, '') AS DECIMAL(18,2))
                     + CAST(nullif(s.total_sym_sanction_interest, '') AS DECIMAL(18,2)) AS income
            FROM {rows(SUMMARY, ",")} s JOIN {owners} o USING (account_id) LEFT JOIN {orders} USING (account_id)
            ORDER BY CAST(o.client_id AS INTEGER)"""
        tables["snapshot"] = TableSource(snapshot, origin=SUMMARY)
    covered = {"transactions": PARTIAL_COVERS} if trans == PARTIAL else {}
    rows_published = 46_997 if trans == PARTIAL else 1_056_320
    counted = Reconciliation("transactions", "SELECT count(*) FROM transactions", rows_published)
    checks = (counted, *PUBLISHED, *MOVEMENTS, *(SUMMARISED if SUMMARY in here else ()))
    return Description(about_entry(name, covered=covered), tables, tuple(folder / f for f in files), reconcile=checks)
