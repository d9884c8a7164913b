//! The `bootd` program.

fn main() {}
