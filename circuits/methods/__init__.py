"""Model and pairs -> EdgeScores, one function per method, all with one signature."""
