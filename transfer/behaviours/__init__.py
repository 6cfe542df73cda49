"""behaviours: what models are taught to do on command, known to the last row, and how it is told whether they do."""
