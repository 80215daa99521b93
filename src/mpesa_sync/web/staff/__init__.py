"""The staff app: signing in, the venues of a person, and the M-Pesa page of each. Knows nothing of the customer app."""
