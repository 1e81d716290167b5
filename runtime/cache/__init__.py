"""The one owner of KV memory: a radix tree of tokens over a pool of pages."""
