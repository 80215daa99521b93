"""What the tests share: databases, venues in every state, an observer, an oracle, and the proofs' machinery."""
