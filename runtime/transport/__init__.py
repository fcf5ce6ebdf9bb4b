"""How messages travel between client, front and engine. Knows sockets and frames, no program."""
