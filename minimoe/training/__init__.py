"""Corpus, losses and the training loop behind the mini checkpoint."""
