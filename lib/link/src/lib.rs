//! What the linker is told of every release binary: for the tools' `build.rs`.

use std::env;
use std::path::Path;

/// Flag and reason; a linker that does not know one says so and goes on.
const FLAGS: &[(&str, &str)] = &[
    ("--strip-all", "Cargo forgets `strip` for a package with an `opt-level` of its own"),
    (
        "-z,pack-relative-relocs",
        "3,000 relocations in 800 bytes instead of 70,000 (musl reads them since 1.2.4)",
    ),
    ("--sort-section=name", "what belongs together is loaded together"),
];

/// Tells Cargo that this package's release binaries live for a few milliseconds only: they begin as lib/sys/src/entry.rs
/// says. Its heap has to be of `sys::heap`.
#[allow(clippy::print_stdout)] // Cargo reads it
pub fn brief() {
    let is = |name: &str, value: &str| env::var(name).is_ok_and(|found| found == value);
    if is("PROFILE", "release") && is("CARGO_CFG_TARGET_ARCH", "x86_64") && is("CARGO_CFG_TARGET_ENV", "musl")
    {
        println!("cargo::rustc-link-arg-bins=-Wl,-e,prepared_start");
    }
}

/// Tells Cargo, from a `build.rs`, how to link this package's release binaries. `scripts` are further linker scripts of
/// the package, which come before [`seldom.ld`](../seldom.ld).
#[allow(clippy::print_stdout)] // Cargo reads it
pub fn release(scripts: &[&str]) {
    println!("cargo::rerun-if-changed=build.rs");
    let is = |name: &str, value: &str| env::var(name).is_ok_and(|found| found == value);
    if !is("PROFILE", "release") {
        return;
    }
    for (flag, _) in FLAGS {
        println!("cargo::rustc-link-arg-bins=-Wl,{flag}");
    }
    if is("CARGO_CFG_TARGET_ARCH", "x86_64") {
        // Others have pages of up to 64 KiB, which is what segments are aligned to where nobody says otherwise.
        println!("cargo::rustc-link-arg-bins=-Wl,-z,max-page-size=4096");
    }
    if is("CARGO_CFG_TARGET_ENV", "musl") {
        let package = env::var("CARGO_MANIFEST_DIR").unwrap_or_default();
        let own = scripts.iter().map(|name| Path::new(&package).join(name));
        let all = own.chain([Path::new(env!("CARGO_MANIFEST_DIR")).join("seldom.ld")]);
        for script in all {
            println!("cargo::rerun-if-changed={}", script.display());
            println!("cargo::rustc-link-arg-bins=-Wl,-T,{}", script.display());
        }
    }
}
