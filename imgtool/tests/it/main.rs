//! Integration tests of imgtool: the real program on the real kernel, registries on loopback.
#![allow(clippy::unwrap_used)] // a case that cannot go on has failed

mod additional;
mod artifact;
mod build;
mod build_ask;
mod build_image;
mod build_share;
mod bundle;
mod copy;
mod edit;
mod gc;
mod hostile;
mod import;
mod index;
mod insert;
mod load;
mod login;
mod names;
mod owners;
mod pull;
mod registries;
mod rig;
mod terminal;
mod unpack;
