"""maps: activations of one model -> activations of another, of any two widths."""
