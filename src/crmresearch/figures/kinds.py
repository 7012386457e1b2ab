"""The six kinds of figure, drawn with seaborn on the axes they are given. See :class:`crmresearch.figures.Picture`."""
