"""Generated counterparts, mixed into every training batch on the GPU (DiffCoRe-Mix)."""

__version__ = "0.1.0"
