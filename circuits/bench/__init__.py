"""Methods x models with a known circuit -> leaderboard."""
