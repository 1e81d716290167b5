"""Grammar texts (Lark, GBNF, W3C-like EBNF) and structural tags to grammar programs."""
