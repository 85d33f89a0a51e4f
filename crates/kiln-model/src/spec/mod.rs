//! `kiln.toml`.
