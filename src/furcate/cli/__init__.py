"""The command line: `furcate run | serve | models`. Each command is a module; none imports torch
before it needs it."""
