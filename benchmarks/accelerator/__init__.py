"""One command that checks and measures an accelerator in minutes; see README.md."""
