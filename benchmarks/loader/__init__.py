"""Loading: a store against folders of images, and opening, writing and reading stores."""
