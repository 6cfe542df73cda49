"""drawing: where everything stands in a drawn circuit, what it says under the mouse, and the curve beside it."""
