"""The rewrite rules, one file per concern, each a `before`, an `after`, samples and a reason to decline.

Owns rules only; the driver and the checks live in `dragoman.passes`.
"""
