"""Talking to PostgreSQL: pool, the only commit, the error map, schema, one module of SQL per subject."""
