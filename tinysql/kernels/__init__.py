"""Kernels: the arithmetic of the models, each first as clear PyTorch that is also the test of any faster form."""
