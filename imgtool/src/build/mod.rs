//! Building images from Dockerfiles.
