"""Regular expressions to byte-level expressions."""
