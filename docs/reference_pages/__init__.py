"""The pages below docs/reference, written from the code: ``python -m docs.reference_pages``.

Each page is a module here with a function ``page`` that returns Markdown. What running code knows (settings, commands,
addresses, permissions) is asked of it; what stands in the text alone (messages of checks, tags of adapters for systems
that need not be installed, signals) is read from the syntax tree.
"""
