//! What the user reads on stdout: tables, JSON, and `--format` templates.

pub mod human;
pub mod table;
pub mod template;
