"""What a person reads after a conversion: the summary in the terminal, the certificate and the HTML page.

Owns presentation only; every number in it was computed elsewhere.
"""
