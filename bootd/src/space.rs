//! Warns of what fills up before a client finds its disk full: a system that can't write any more is lost, so whoever
//! runs the site must hear of it while there is time.
//!
//! Looking costs a few loads for each client, so it is simply done again and again. What is too full is shown by
//! `bootd status` as long as it is, and told to the log when it becomes so.

use std::collections::HashMap;
use std::fs;
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use lvm::{DiskStatus, SpaceStatus};
use tokio::task::spawn_blocking;
use tokio_util::sync::CancellationToken;

use crate::config::{Config, EngineKind, show_size};
use crate::events::Event;
use crate::state::State;

const SERVICE: &str = "disks";

/// How often it is looked at. At a full gigabyte a second, what is left of a usual overlay lasts longer.
const PERIOD: Duration = Duration::from_secs(2);

/// At how many percent of its limit an overlay is told of, and told of again.
const OVERLAY: [u64; 2] = [80, 95];

/// The same of a file system. Those are often nearly full and stay so.
const FILE_SYSTEM: [u64; 2] = [90, 97];

/// By how many percent what was told of must become emptier to be told of once more.
const SLACK: u64 = 5;

/// Something that can be full.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Fill {
    what: String,
    used: u64,
    limit: u64,
    marks: [u64; 2],
    /// What comes of it, and what to do.
    remedy: String,
}

impl Fill {
    fn percent(&self) -> u64 {
        let percent = u128::from(self.used) * 100 / u128::from(self.limit.max(1));
        u64::try_from(percent).unwrap_or(u64::MAX).min(100)
    }

    /// How many of its marks it is above.
    fn level(&self) -> usize {
        self.marks.iter().filter(|mark| self.percent() >= **mark).count()
    }

    fn text(&self) -> String {
        let Self { what, used, limit, remedy, .. } = self;
        let left = show_size(limit.saturating_sub(*used));
        format!("{what} is {} % full, {left} of {} are left: {remedy}", self.percent(), show_size(*limit))
    }
}

/// All that can be full now: the overlays, and the file systems that they and the other data lie on.
pub(crate) fn all(config: &Config, disks: &[DiskStatus], space: Option<SpaceStatus>) -> Vec<Fill> {
    let unkept = config.engine.is_files();
    let mut all: Vec<Fill> = disks.iter().map(|disk| overlay(disk, unkept)).collect();
    if let Some(SpaceStatus { used, size, file }) = space {
        all.push(Fill {
            what: "the space that all overlays share".into(),
            used: used.0,
            limit: size.0,
            marks: OVERLAY,
            remedy: "at its end no client can boot and no overlay grows; have clients shut down, or give it more (space_size, \
                     or another space, in [engine])"
                .into(),
        });
        // The file has holes, so its file system may be full before it is.
        let of_data = device(&config.data);
        let place = file.as_deref().and_then(Path::parent).filter(|place| device(place) != of_data);
        let remedy = "at its end the writes of all clients fail; make room, or move it (space in [engine])";
        all.extend(
            place.and_then(|place| file_system("the file system of the overlays' space", place, remedy)),
        );
    }
    let overlays = &config.overlay_directory;
    let elsewhere = device(overlays) != device(&config.data);
    let in_files = config.engine == EngineKind::Embedded || config.engine.is_files();
    if in_files {
        let remedy = if unkept {
            "shortly before its end no client gets a disk, and then the writes of all fail; make room, or move images and \
             overlays together"
        } else {
            "at its end the writes of all clients fail; make room, or move the overlays (directory in [overlay])"
        };
        all.extend(file_system("the file system of the overlays", overlays, remedy));
    }
    if elsewhere || !in_files {
        let remedy = "at its end no address is leased and nothing can be changed; make room";
        all.extend(file_system("the file system of the data", &config.data, remedy));
    }
    all
}

/// What `bootd status` has to say of them.
pub(crate) fn warnings(all: &[Fill]) -> Vec<String> {
    all.iter().filter(|fill| fill.level() > 0).map(Fill::text).collect()
}

/// How full an overlay is. Where its limit is kept by nobody (`unkept`), that is all that comes of it.
fn overlay(disk: &DiskStatus, unkept: bool) -> Fill {
    let client = &disk.request.client;
    let comes = if unkept {
        "nothing ends its writes there, and they take what is left for others"
    } else {
        "at the limit its writes fail"
    };
    Fill {
        what: format!("the disk of {client}"),
        used: disk.overlay_used.0,
        limit: disk.request.overlay_limit.0,
        marks: OVERLAY,
        remedy: format!(
            "{comes}; for its next boot, give it more: bootd client set {client} --overlay-limit SIZE"
        ),
    }
}

fn file_system(what: &str, path: &Path, remedy: &str) -> Option<Fill> {
    let space = rustix::fs::statvfs(path).ok()?;
    let free = space.f_bavail.saturating_mul(space.f_frsize);
    // Without what is reserved for others: to us it is not there.
    let used = space.f_blocks.saturating_sub(space.f_bfree).saturating_mul(space.f_frsize);
    Some(Fill {
        what: format!("{what} ({})", path.display()),
        used,
        limit: used.saturating_add(free),
        marks: FILE_SYSTEM,
        remedy: remedy.to_owned(),
    })
}

fn device(path: &Path) -> Option<u64> {
    fs::metadata(path).ok().map(|metadata| metadata.dev())
}

/// What was told of, and at which mark.
#[derive(Debug, Default)]
struct Told(HashMap<String, usize>);

impl Told {
    /// What is to be told now.
    fn news(&mut self, all: &[Fill]) -> Vec<String> {
        let mut levels = HashMap::new();
        let mut news = Vec::new();
        for fill in all {
            let before = self.0.get(&fill.what).copied().unwrap_or_default();
            // Around a mark it would be told of without end.
            let emptier = Fill { used: fill.used + fill.limit / 100 * SLACK, ..fill.clone() };
            let level = fill.level().max(before.min(emptier.level()));
            if level > before {
                news.push(fill.text());
            }
            levels.insert(fill.what.clone(), level);
        }
        // What is no more is forgotten.
        self.0 = levels;
        news
    }
}

/// Looks until `stop`.
pub(crate) async fn watch(state: Arc<State>, stop: CancellationToken) {
    let mut told = Told::default();
    loop {
        let now = {
            let state = Arc::clone(&state);
            spawn_blocking(move || all(&state.config, &state.engine.status(), state.engine.space())).await
        };
        for what in told.news(&now.unwrap_or_default()) {
            state.events.emit(Event::Trouble { service: SERVICE, what });
        }
        tokio::select! {
            () = stop.cancelled() => return,
            () = tokio::time::sleep(PERIOD) => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use block::Bytes;

    use super::*;

    fn fill(used: u64) -> Fill {
        Fill { what: "the disk".into(), used, limit: 1000, marks: OVERLAY, remedy: "look out".into() }
    }

    #[test]
    fn each_mark_is_told_of_once() {
        let mut told = Told::default();
        let mut news = |used| told.news(&[fill(used)]).len();
        assert_eq!([news(0), news(799), news(800), news(900), news(950), news(1000)], [0, 0, 1, 0, 1, 0]);
        // Up and down at a mark is one thing; to have been well below it is another.
        assert_eq!([news(949), news(951), news(799), news(801)], [0, 0, 0, 0]);
        assert_eq!([news(700), news(801), news(960)], [0, 1, 1]);
    }

    #[test]
    fn a_new_disk_of_the_same_client_begins_anew() {
        let mut told = Told::default();
        assert_eq!(told.news(&[fill(900)]).len(), 1);
        assert_eq!(told.news(&[]).len(), 0);
        assert_eq!(told.news(&[fill(900)]).len(), 1);
    }

    #[test]
    fn the_space_that_all_share_is_told_of_before_it_is_full() {
        let directory = tempfile::tempdir().unwrap();
        let (state, _store, _told) = crate::testing::state(directory.path());
        let told = |used| {
            let space = SpaceStatus { used: Bytes(used), size: Bytes(1000), file: None };
            let said = warnings(&all(&state.config, &[], Some(space)));
            said.iter().filter(|text| text.contains("space that all overlays share")).count()
        };
        assert_eq!([told(0), told(799), told(800), told(1000)], [0, 0, 1, 1]);
        // Its file may lie where nothing else of ours does.
        let file = Some("/proc/self/space".into());
        let space = SpaceStatus { used: Bytes(0), size: Bytes(1000), file };
        let what = |fill: &Fill| fill.what.contains("/proc/self");
        assert!(all(&state.config, &[], Some(space)).iter().any(what));
    }

    #[test]
    fn it_says_how_full_and_what_to_do() {
        let all = [fill(799), fill(960)];
        assert_eq!(warnings(&all), ["the disk is 96 % full, 40 B of 1000 B are left: look out"]);
        let none = Fill { limit: 0, used: 0, ..fill(0) };
        assert_eq!((none.percent(), fill(5000).percent()), (0, 100));
    }
}
