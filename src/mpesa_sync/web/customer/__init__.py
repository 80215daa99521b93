"""The customer app: what a bar accepts, as a page, as JSON and as a stream. Knows nothing of the staff app."""
