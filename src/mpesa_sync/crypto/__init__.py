"""Secrets at rest: the key ring, the forms found in the wild, sealing and opening (spec K).

Nothing here reads settings or a database: keys and stored values are handed in.
"""
