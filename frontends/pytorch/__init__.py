"""Reads PyTorch models through `torch.export`.

Owns the translation of exported graphs, their dynamic dims and their state. Refuses what no table entry
translates, naming the module path and the source line of each occurrence.
"""
