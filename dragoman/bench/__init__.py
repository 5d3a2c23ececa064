"""Benchmarks that run where the hardware is: `python -m dragoman.bench gpu`."""
