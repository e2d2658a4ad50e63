"""Historical prices: asked of a DTC server, kept as .scid files, and served from them."""
