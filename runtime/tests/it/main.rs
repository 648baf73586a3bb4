//! The runtime on the real kernel, one file per verb. As root; without it each case says so and passes over itself.

mod rig;

mod create;
mod delete;
mod escape;
mod exec;
mod faults;
mod kill;
mod list;
mod process;
mod rootfs;
mod run;
mod spec;
