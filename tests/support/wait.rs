//! Waiting for something to become true. Nothing here sleeps and hopes.

use std::thread;
use std::time::{Duration, Instant};

use crate::{Result, fail, interrupt};

/// How often a condition is looked at.
const INTERVAL: Duration = Duration::from_millis(50);

/// How long a thing may take that takes a moment: emulated machines share their processors with other tests.
pub const SOON: Duration = Duration::from_secs(20);

/// How long a test may wait for others to end.
pub const AGES: Duration = Duration::from_secs(1800);

/// Asks `look` again and again until it has something.
///
/// # Errors
/// When it has nothing after that time, or fails.
pub fn wait_for<T>(what: &str, within: Duration, mut look: impl FnMut() -> Result<Option<T>>) -> Result<T> {
    let start = Instant::now();
    loop {
        interrupt::check()?;
        if let Some(found) = look()? {
            return Ok(found);
        }
        if start.elapsed() > within {
            fail!("waited {} s in vain for {what}", within.as_secs());
        }
        thread::sleep(INTERVAL);
    }
}
