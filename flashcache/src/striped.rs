//! A counter that many threads count on without meeting: each has a line of memory of its own.

use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering::Relaxed};

/// Lines of one counter. More threads than that share some.
const STRIPES: usize = 16;

#[derive(Debug, Default)]
#[repr(align(128))]
struct Line(AtomicU64);

/// A sum that threads add to.
#[derive(Debug, Default)]
pub(crate) struct Striped {
    lines: [Line; STRIPES],
}

thread_local! {
    static STRIPE: usize = {
        static NEXT: AtomicUsize = AtomicUsize::new(0);
        NEXT.fetch_add(1, Relaxed) % STRIPES
    };
}

impl Striped {
    pub(crate) fn add(&self, n: u64) {
        let stripe = STRIPE.with(|stripe| *stripe);
        if let Some(Line(line)) = self.lines.get(stripe) {
            line.fetch_add(n, Relaxed);
        }
    }

    pub(crate) fn sum(&self) -> u64 {
        self.lines.iter().map(|Line(line)| line.load(Relaxed)).sum()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn adds_up_over_threads() {
        let counter = Striped::default();
        std::thread::scope(|scope| {
            for _ in 0..20 {
                scope.spawn(|| (0..1000).for_each(|_| counter.add(1)));
            }
        });
        assert_eq!(counter.sum(), 20_000);
    }
}
