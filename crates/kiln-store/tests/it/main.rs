//! The store against a real web server that fails in every way it knows.

#![expect(clippy::unwrap_used, reason = "in a test, what cannot be done is a failure")]

mod documents;
mod fetch;
mod layers;
mod processes;
mod proxy;
mod resume;
mod store;
mod world;
