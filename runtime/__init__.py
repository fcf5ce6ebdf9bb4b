"""The engine: owns tensors, memory and time. Imports nothing heavy by itself."""
