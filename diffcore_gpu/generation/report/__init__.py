"""What a generation run made: counted while it runs, kept beside the store, shown as text and as a page."""
