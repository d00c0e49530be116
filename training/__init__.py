"""How the bundled models are trained: from nothing, on drawn scenes."""
