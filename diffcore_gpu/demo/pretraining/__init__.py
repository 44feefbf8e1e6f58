"""How the demo's models were trained: a text-to-image pipeline and an image–text model of handwritten digits."""
