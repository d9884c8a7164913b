//! The API over a real Unix socket, with the simulated engine.
