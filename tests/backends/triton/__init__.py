"""Tests of the ONNX backend."""
