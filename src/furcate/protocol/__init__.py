"""The contract between language and runtime: data only. Imports the standard library and
msgspec."""
