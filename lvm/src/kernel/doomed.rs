//! Disks that are over: their devices are removed while everybody else goes on.

use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};

use parking_lot::Mutex;

use super::extents::Extent;
use super::overlay::Owner;

/// How many are removed at a time. The kernel takes most of a removal to wait until no processor looks at a device any
/// more, which it can do for several at once.
const AT_ONCE: usize = 4;

/// Disks that are over and not removed yet, with what they have of the space.
#[derive(Default)]
pub(super) struct Doomed {
    disks: Mutex<Vec<(Owner, Vec<Extent>)>>,
    burying: Mutex<()>,
}

/// What became of them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Buried {
    /// Whether any is gone.
    pub(super) some: bool,
    /// Whether all are gone; else something is busy, and must be tried again.
    pub(super) all: bool,
}

impl Doomed {
    pub(super) fn push(&self, owner: Owner, extents: Vec<Extent>) {
        self.disks.lock().push((owner, extents));
    }

    pub(super) fn contains(&self, owner: &Owner) -> bool {
        self.disks.lock().iter().any(|(one, _)| one == owner)
    }

    pub(super) fn is_empty(&self) -> bool {
        self.disks.lock().is_empty()
    }

    /// Has `remove` try each of them, and forgets those of which it says that they are gone. Who comes while others are at
    /// it waits for them.
    pub(super) fn bury(&self, remove: impl Fn(&Owner, &[Extent]) -> bool + Sync) -> Buried {
        let _others = self.burying.lock();
        let disks = self.disks.lock().clone();
        let (next, gone) = (AtomicUsize::new(0), AtomicUsize::new(0));
        let work = || {
            while let Some((owner, extents)) = disks.get(next.fetch_add(1, Relaxed)) {
                if remove(owner, extents) {
                    self.disks.lock().retain(|(one, _)| one != owner);
                    gone.fetch_add(1, Relaxed);
                }
            }
        };
        std::thread::scope(|scope| {
            for _ in 1..AT_ONCE.min(disks.len()) {
                // Without a thread it takes longer.
                let _ = std::thread::Builder::new().name("bootd-bury".into()).spawn_scoped(scope, work);
            }
            work();
        });
        let gone = gone.into_inner();
        Buried { some: gone > 0, all: gone == disks.len() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_busy_is_tried_again() {
        let owner = |epoch| Owner { client: "pc1".into(), epoch };
        let doomed = Doomed::default();
        assert_eq!(doomed.bury(|_, _| unreachable!("there is none")), Buried { some: false, all: true });
        for epoch in 0..20 {
            doomed.push(owner(epoch), vec![Extent { start: epoch * 128, sectors: 128 }]);
        }
        let tried = Mutex::new(Vec::new());
        let buried = doomed.bury(|one, extents| {
            assert_eq!(extents[0].start, one.epoch * 128);
            tried.lock().push(one.epoch);
            one.epoch != 7
        });
        assert_eq!(buried, Buried { some: true, all: false });
        tried.lock().sort_unstable();
        assert_eq!(*tried.lock(), (0..20).collect::<Vec<_>>());
        assert!(doomed.contains(&owner(7)) && !doomed.contains(&owner(8)) && !doomed.is_empty());
        assert_eq!(doomed.bury(|one, _| one.epoch == 7), Buried { some: true, all: true });
        assert!(doomed.is_empty());
    }
}
