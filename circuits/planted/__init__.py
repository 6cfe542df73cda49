"""Seed -> models wired by hand whose circuits are known: the truth that methods are scored against.

`cases` lists them and says what each one is for; `planted(name, seed)` makes one.
"""
