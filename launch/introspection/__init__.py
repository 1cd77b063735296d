"""Changes of a network by adaptation: the paper's Figures 7 and 8 for any two runs of the same shape (§6.5).

`weight_changes.read` and `measure` give the numbers, `weight_claims.claims` their verdicts on the paper's claims,
`weight_page.sections` the parts of an HTML page, and `write` all of it as files.
"""
