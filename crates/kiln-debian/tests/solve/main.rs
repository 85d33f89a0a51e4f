//! The solver on hand-written worlds: every rule of choice, every explanation, and what must hold for any world.

#![expect(clippy::unwrap_used, reason = "a test that fails here has failed")]

mod explanations;
mod order;
mod properties;
mod rules;
mod world;
