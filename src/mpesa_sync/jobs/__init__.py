"""What is done in the background: alerts are told to operators and to the owners of venues, as jobs on PgQueuer."""
