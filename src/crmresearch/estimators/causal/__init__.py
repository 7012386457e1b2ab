"""Effects under treatment: randomised and targeted offers, doubly robust means, selection, uplift."""
