//! netctl on the real kernel, in the network namespace that cargo's runner made (tests/in-namespace).
#![allow(clippy::unwrap_used)] // a test says what failed by its line

mod cni;
mod crash;
mod create;
mod dhcp;
mod dns;
mod firewall;
mod lacking;
mod lan;
mod netavark;
mod overlay;
mod rig;
mod rootless;
mod traffic;
mod up;
mod vanish;
mod way_out;
