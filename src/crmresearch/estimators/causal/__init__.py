"""Effects under treatment: by lot, by aim, by staggered adoption, at a cut; selection, uplift."""
