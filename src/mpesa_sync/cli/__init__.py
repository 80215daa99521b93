"""The command line: one module per command group, registered by `main`. Parses, asks the layers below, prints."""
