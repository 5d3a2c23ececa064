"""The tests mirror the packages; `from tests.zoo import …` works in each of them, with the root off `sys.path`."""
