//! netctl on the real kernel, in the network namespace that cargo's runner made (tests/in-namespace).

mod dns;
