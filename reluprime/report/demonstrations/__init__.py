"""Minimal demonstrations, each of one statement of the audit page or of the mechanism page.

Nothing here is code of the releases: each function does on a small example what one of them does,
beside what its paper defines, and returns a table. Sources: the audit page names repository, file
and commit for each.
"""
