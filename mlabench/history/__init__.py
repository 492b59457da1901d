"""How a point's time went over the runs of a folder: series that are comparable, their steps, table and plot."""
