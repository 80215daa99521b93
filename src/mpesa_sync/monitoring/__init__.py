"""Names of events and metrics, logging and counters. Health checks come with the server."""
