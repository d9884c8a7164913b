//! The few calls to the system that no crate wraps safely.
