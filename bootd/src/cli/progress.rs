//! How far something is that takes a while.

use std::cell::Cell;
use std::io::{IsTerminal as _, stderr};

use indicatif::{ProgressBar, ProgressStyle};

use super::print;
use crate::config::show_size;

/// How far something is: a bar on a terminal, a line at every tenth elsewhere, nothing with `--json`.
pub(super) struct Progress {
    bar: Option<ProgressBar>,
    tenths: Cell<Option<u64>>,
    silent: bool,
}

impl Progress {
    pub(super) fn new(silent: bool) -> Self {
        let bar = (!silent && stderr().is_terminal()).then(|| {
            let style = ProgressStyle::with_template("{bar:40} {bytes}/{total_bytes} {bytes_per_sec} {eta}");
            ProgressBar::new(0).with_style(style.unwrap_or_else(|_| ProgressStyle::default_bar()))
        });
        Self { bar, tenths: Cell::new(None), silent }
    }

    /// So many bytes of so many.
    pub(super) fn at(&self, done: u64, total: u64) {
        if let Some(bar) = &self.bar {
            bar.set_length(total);
            bar.set_position(done);
            return;
        }
        let tenths = done.saturating_mul(10).checked_div(total).unwrap_or(10);
        if !self.silent && self.tenths.replace(Some(tenths)) != Some(tenths) {
            let _ = print(&format!("{}% of {}\n", tenths * 10, show_size(total)));
        }
    }

    /// It is done.
    pub(super) fn finish(&self) {
        self.bar.iter().for_each(ProgressBar::finish_and_clear);
    }
}
