"""SAE and tokens of known roles -> how well its latents match the roles, what they do, and what would be chance."""
