//! The RAM block cache that every client of an image shares.
