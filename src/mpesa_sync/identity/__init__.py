"""Who a person is and which bars they belong to: accounts, sessions, tokens, membership. Knows nothing of HTTP."""
