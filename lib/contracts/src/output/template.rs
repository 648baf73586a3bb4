//! `--format` templates: the part of Go's text/template that docker users write, over JSON values.
