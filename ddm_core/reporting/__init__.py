"""What the measurements add up to: metrics.json, tables, plots and the page people read."""
