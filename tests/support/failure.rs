//! One error type: in a test nobody handles an error, somebody reads it.

use std::fmt;

/// Why a lab, a client or a tool did not do what was asked, as a text for people.
pub struct Failure(String);

/// What everything here that can fail returns.
pub type Result<T = ()> = std::result::Result<T, Failure>;

impl Failure {
    /// A failure with that text.
    pub fn new(text: impl Into<String>) -> Self {
        Self(text.into())
    }

    /// The same, with what was being done in front.
    #[must_use]
    pub fn while_doing(self, what: impl fmt::Display) -> Self {
        Self(format!("{what}: {}", self.0))
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

// A test that returns an error has it printed with `Debug`; logs in it are to be read.
impl fmt::Debug for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

// `Failure` is no `std::error::Error` itself, so that this covers them all.
impl<E: std::error::Error> From<E> for Failure {
    fn from(error: E) -> Self {
        let mut text = error.to_string();
        let mut cause = error.source();
        while let Some(error) = cause {
            text.push_str(": ");
            text.push_str(&error.to_string());
            cause = error.source();
        }
        Self(text)
    }
}

/// Says what was being done when something failed or was missing.
pub trait Context<T> {
    /// Puts `what` in front of the failure.
    ///
    /// # Errors
    /// The failure, if there was one.
    fn context(self, what: impl fmt::Display) -> Result<T>;
}

impl<T, E: Into<Failure>> Context<T> for std::result::Result<T, E> {
    fn context(self, what: impl fmt::Display) -> Result<T> {
        self.map_err(|error| error.into().while_doing(what))
    }
}

impl<T> Context<T> for Option<T> {
    fn context(self, what: impl fmt::Display) -> Result<T> {
        self.ok_or_else(|| Failure::new(what.to_string()))
    }
}

/// Returns a [`Failure`] with a formatted text.
#[macro_export]
macro_rules! fail {
    ($($text:tt)*) => { return Err($crate::Failure::new(format!($($text)*))) };
}

/// Returns a [`Failure`] with a formatted text unless the condition holds.
#[macro_export]
macro_rules! ensure {
    ($condition:expr, $($text:tt)*) => { if !$condition { $crate::fail!($($text)*) } };
}
