//! How the release binary is linked: lib/link.

fn main() {
    link::release(&["seldom.ld"]);
    link::brief();
}
