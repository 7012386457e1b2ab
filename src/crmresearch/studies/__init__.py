"""One package per claim group: a small frame in, a Result out."""
