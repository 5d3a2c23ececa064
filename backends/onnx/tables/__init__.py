"""The spellings of ops in ONNX, one file per family of ops, each adding its entries to the table when imported."""
