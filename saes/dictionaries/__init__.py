"""A batch of activations -> loss and gradients of a dictionary, at the cost of its arithmetic: a module per family.

Both matrices hold one row per latent. In all modules: B rows in a batch, F = d_sae latents, k active latents per
row, `latents = activation((x - decoder_bias) @ encoder.T + encoder_bias)`, `y_hat = latents @ decoder + decoder_bias`.
"""
