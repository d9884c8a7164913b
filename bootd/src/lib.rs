//! The shell of bootd: sockets, files, clock, signals, wiring and the command line.
//!
//! Everything that decides lies in crates without I/O (`netboot`, `menus`, `iscsi`) or behind `lvm`'s engine.
//! Here bytes are received, handed to them, and what they answer is sent.
#![allow(dead_code)] // Only until every service is wired.

mod app;
mod boot;
mod cli;
mod config;
mod control;
mod events;
mod machine;
mod serve;
mod state;
mod sys;

pub use cli::main;
