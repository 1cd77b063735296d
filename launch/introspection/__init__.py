"""What adapting changed in a network: the paper's Figures 7 and 8 for any two runs of one shape (§6.5).

`comparison.read` and `comparison.measure` give the numbers, `claims.claims` what they say about the paper's claims,
`page.sections` the parts of an HTML page, and `page.write` all of it as files.
"""
