"""The widget of a product page: its options, its cards, the fragment that loads later, who sees which version."""
