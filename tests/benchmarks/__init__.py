"""The benchmarks run, and their arithmetic is right; what they measure is not tested here."""
