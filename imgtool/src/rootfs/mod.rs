//! Root file systems: overlays of layers.
