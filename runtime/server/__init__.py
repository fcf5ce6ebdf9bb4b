"""The loops that drive front and engine, in two processes or in one. Imports nothing by itself."""
