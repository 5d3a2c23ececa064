"""Finding composite ops in graphs that spell them out: decompositions read backwards.

`skeleton` traces a decomposition on the types of a guess, `unify` compares it with a graph, `recogniser` makes a rule
of each op that gives guesses, `order` says in which order they run.
"""
