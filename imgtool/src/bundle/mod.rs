//! OCI bundles made from images.
