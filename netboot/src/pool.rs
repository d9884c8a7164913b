//! A range of addresses to give away.

use std::fmt;
use std::net::Ipv4Addr;

use serde::{Deserialize, Serialize};

/// The largest pool.
pub const MAX_POOL: u32 = 1 << 16;

/// Addresses for machines that have none of their own, both ends included.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct PoolRange {
    first: Ipv4Addr,
    last: Ipv4Addr,
}

/// Why two addresses make no pool.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum PoolError {
    /// The wrong way round.
    #[error("the pool's first address {0} is greater than its last, {1}")]
    Reversed(Ipv4Addr, Ipv4Addr),
    /// More than [`MAX_POOL`].
    #[error("the pool {0} to {1} has more than {MAX_POOL} addresses")]
    TooLarge(Ipv4Addr, Ipv4Addr),
}

impl PoolRange {
    /// The pool from `first` to `last`.
    ///
    /// # Errors
    /// When `last` is smaller, or there are more than [`MAX_POOL`] addresses between them.
    pub fn new(first: Ipv4Addr, last: Ipv4Addr) -> Result<Self, PoolError> {
        match last.to_bits().checked_sub(first.to_bits()) {
            None => Err(PoolError::Reversed(first, last)),
            Some(span) if span >= MAX_POOL => Err(PoolError::TooLarge(first, last)),
            Some(_) => Ok(Self { first, last }),
        }
    }

    /// The pool without so many of its last addresses; the first always stays.
    pub(crate) fn without_last(self, count: u32) -> Self {
        let last = self.last.to_bits().saturating_sub(count).max(self.first.to_bits());
        Self { last: Ipv4Addr::from_bits(last), ..self }
    }

    /// Its lowest address.
    #[must_use]
    pub fn first(self) -> Ipv4Addr {
        self.first
    }

    /// Its highest address.
    #[must_use]
    pub fn last(self) -> Ipv4Addr {
        self.last
    }

    /// Whether `address` is in it.
    #[must_use]
    pub fn contains(self, address: Ipv4Addr) -> bool {
        (self.first..=self.last).contains(&address)
    }

    /// How many addresses it has.
    #[must_use]
    #[expect(clippy::len_without_is_empty, reason = "it is never empty")]
    pub fn len(self) -> u32 {
        self.last.to_bits() - self.first.to_bits() + 1
    }
}

impl fmt::Display for PoolRange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} to {}", self.first, self.last)
    }
}
