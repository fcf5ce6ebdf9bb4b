"""Where a program can run: one Channel a file, and the session that sits on it."""
