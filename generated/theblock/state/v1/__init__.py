"""Made from the proto files by proto/generate.py; not edited by hand."""
