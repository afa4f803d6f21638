"""The ways in. Each decodes, asks the engine, and encodes; none decides."""
