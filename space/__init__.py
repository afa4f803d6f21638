"""The folder that becomes a Hugging Face Space: `python -m space`."""
