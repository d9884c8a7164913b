//! Builds, owns and drains every service.
