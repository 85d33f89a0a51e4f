//! kiln-debian
