"""The documentation's own code: what is generated out of the project as the site is built.

Pages are written by hand in docs/; here stands what would drift there, which a page asks for by a line
`<!-- generated: NAME -->`. It reads the code and changes nothing.
"""
