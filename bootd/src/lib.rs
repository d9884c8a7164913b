//! The shell of bootd: sockets, files, clock, signals, wiring and the command line.
