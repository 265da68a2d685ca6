"""Tables: their schemas, checks and file formats, and the run directory that contains them."""
