"""The shapes that come in, and that one step hands to the next. Money is whole cents."""
