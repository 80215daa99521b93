"""The tests: real PostgreSQL, real commits. `make test` runs them."""
