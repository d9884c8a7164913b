//! The admin API on the Unix socket.
