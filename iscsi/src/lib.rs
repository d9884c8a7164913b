//! A sans-I/O iSCSI target: bytes and time in, bytes and Io requests out.
