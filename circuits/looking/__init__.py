"""Model and rows -> what stands at each depth, who writes the answer, who looks where, what breaks it."""
