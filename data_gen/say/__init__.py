"""Typed query -> the English that asks for it."""
