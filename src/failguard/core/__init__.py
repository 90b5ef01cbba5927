"""Values that everything else is made of. Standard library and NumPy only; no framework is imported here."""
