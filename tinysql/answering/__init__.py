"""Prompts -> answers -> grades: how a model writes SQL, and how often it is right."""
