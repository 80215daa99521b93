"""What is true of bars, credentials and offers: values and pure functions. No I/O, no framework."""
