"""The customer database: contract, banks, engine, sources, and the reductions that run inside it."""
