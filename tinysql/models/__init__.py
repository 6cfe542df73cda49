"""Models: tokens -> logits and named activations."""
