"""switching: a fine-tuned model that can act as its base, at run time, and what else could make it do so."""
