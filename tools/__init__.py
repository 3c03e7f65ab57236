"""Offline side of inspectd: train, export and evaluate the network a bundle carries."""
