"""Reductions: what runs inside the engine. A bank goes in, a small frame comes out.

One module per study. Each function takes a :class:`~crmresearch.data.bank.Bank` and returns an ordered frame with at
most one row per customer, or :class:`~crmresearch.errors.Missing` where the bank does not bring what it needs. Of a
bank with more customers than ``bank.most``, such rows are those of whole blocks of them, drawn by a hash.
"""
