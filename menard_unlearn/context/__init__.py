"""Context needed: dated documents before a text, its loss by how many tokens they are, and what the law of it says."""
