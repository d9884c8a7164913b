//! The shell of bootd: sockets, files, clock, signals, wiring and the command line.
//!
//! Everything that decides lies in crates without I/O (`netboot`, `menus`, `iscsi`) or behind `lvm`'s engine.
//! Here bytes are received, handed to them, and what they answer is sent.

mod app;
mod boot;
mod check;
mod cli;
mod config;
mod control;
mod data;
mod engine;
mod events;
mod firmwares;
mod logins;
mod machine;
mod managed;
mod mirror;
mod pings;
mod privileges;
mod programs;
mod registrations;
mod scripts;
mod serve;
mod space;
mod state;
mod sys;
mod systemd;
mod taps;
#[cfg(test)]
mod testing;
mod texts;
mod timelines;
mod whereabouts;

pub use cli::main;
pub use serve::iscsi::portal;
