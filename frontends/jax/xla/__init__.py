"""What XLA's general forms mean in the IR: products, convolutions, windows, gathers and scatters over any axes.

Owns their meaning on IR values, whichever program spells them. Knows neither jaxprs nor StableHLO.
"""
