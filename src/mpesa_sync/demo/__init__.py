"""Sample venues, the story that the demo tells, and the loopback proxy that can break a connection.

The proxy is the tests' fixture too: what the demo shows is what the tests prove.
"""
