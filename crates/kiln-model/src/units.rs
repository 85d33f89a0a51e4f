//! Durations and sizes.
