"""Random numbers -> typed queries on schemas."""
