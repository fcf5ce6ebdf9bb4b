"""Traces of programs, replayed on the KV cache, with an offline bound on what any policy can do."""
