"""Tables: schemas, the catalogue of what is written, and the run directory that holds it."""
