"""Emits ONNX models: idiomatic nodes at a chosen opset, streamed weights, reproducible bytes.

Owns the spelling of IR operations in ONNX and the crash-safe writing of the files. Refuses what the chosen
opset cannot express, with the reason.
"""
