//! Moving images between places.
