"""Between text and tokens: tokenizers, chat templates, detokenizing, stopping."""
