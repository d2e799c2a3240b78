"""What the tests share: helpers and generators of cases. Nothing imports from a test file."""
