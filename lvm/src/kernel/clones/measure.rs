//! What disks have of their own, as it was when they were last looked at. To look is to go through every piece of a file,
//! and a disk that was long written to has many: so all that look together take a small part of the time.

use std::collections::HashMap;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use block::Bytes;
use parking_lot::Mutex;

use super::share;

/// For how many times as long as the last look took nobody looks again.
const REST: u32 = 20;

/// What was seen.
#[derive(Default)]
pub(super) struct Measures {
    /// When to look again. Held by who looks.
    next: Mutex<Option<Instant>>,
    own: Mutex<HashMap<String, Bytes>>,
}

impl Measures {
    /// What each of these disks, a name and a file, has of its own; nothing of those that came since the last look.
    pub(super) fn of<'a>(&self, disks: impl Iterator<Item = (&'a str, PathBuf)>) -> HashMap<String, Bytes> {
        self.within(disks, |path| share::own(path).ok(), Instant::now)
    }

    fn within<'a>(
        &self,
        disks: impl Iterator<Item = (&'a str, PathBuf)>,
        look: impl Fn(&PathBuf) -> Option<Bytes>,
        now: impl Fn() -> Instant,
    ) -> HashMap<String, Bytes> {
        if let Some(mut next) = self.next.try_lock()
            && next.is_none_or(|next| next <= now())
        {
            let begin = now();
            let own = disks.filter_map(|(name, path)| Some((name.to_owned(), look(&path)?))).collect();
            *self.own.lock() = own;
            let took = now().saturating_duration_since(begin);
            *next = now().checked_add(took.checked_mul(REST).unwrap_or(Duration::MAX));
        }
        self.own.lock().clone()
    }
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;

    use super::*;

    #[test]
    fn who_took_long_to_look_rests_long() {
        let (begin, second) = (Instant::now(), Duration::from_secs(1));
        let (time, own) = (Cell::new(begin), Cell::new(1));
        let measures = Measures::default();
        let seen = |names: &[&str]| {
            let look = |_: &PathBuf| {
                time.set(time.get() + second);
                Some(Bytes(own.get()))
            };
            let disks = names.iter().map(|name| (*name, PathBuf::new()));
            let mut seen: Vec<_> = measures.within(disks, look, || time.get()).into_iter().collect();
            seen.sort_by(|(a, _), (b, _)| a.cmp(b));
            seen
        };
        let as_of = |name: &str, own| (name.to_owned(), Bytes(own));
        assert_eq!(seen(&["pc1"]), [as_of("pc1", 1)]);
        own.set(2);
        time.set(time.get() + second * (REST - 1));
        assert_eq!(seen(&["pc1", "pc2"]), [as_of("pc1", 1)]);
        time.set(time.get() + second);
        assert_eq!(seen(&["pc1", "pc2"]), [as_of("pc1", 2), as_of("pc2", 2)]);
    }
}
