"""The API: settings of a bar, operations, and the documents that describe it."""
