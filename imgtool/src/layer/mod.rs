//! Layers: applying, diffing and packing them.
