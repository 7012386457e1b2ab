"""Time to exit: curves, causes, hazards; late entry and counted rows everywhere."""
