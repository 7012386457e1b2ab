"""Effects under treatment: doubly robust means, selection, uplift."""
