//! Disks that the kernel exports. Its target tells bootd nothing, so it is looked at: who is logged in, who has written,
//! who was refused. What a look shows for the first time becomes a step of that client's boot, as if the target in this
//! process had told it. What begins and ends between two looks is missed.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use lvm::{Activity, DiskActivity, Refusals, Session};
use netboot::StepKind;
use tokio::task::spawn_blocking;
use tokio_util::sync::CancellationToken;

use super::glue::SERVICE;
use crate::events::Event;
use crate::state::{State, unix_millis};
use crate::whereabouts::Sign;

/// How often. A look at one disk takes some microseconds.
const LOOK: Duration = Duration::from_secs(1);

/// Looks until `stop`.
pub(super) async fn watch(state: Arc<State>, stop: CancellationToken) {
    let mut seen = Seen::default();
    // What an earlier process's clients did is in their timelines already.
    let mut is_first = true;
    loop {
        let engine = Arc::clone(&state.engine);
        // LIO can hang, and whoever looks at it with it: nobody waits for that.
        let looked = tokio::select! {
            () = stop.cancelled() => return,
            looked = spawn_blocking(move || engine.activity()) => looked,
        };
        let Ok(activity) = looked else { return };
        let news = seen.news(activity);
        if !std::mem::take(&mut is_first) {
            news.iter().for_each(|news| tell(&state, news));
        }
        tokio::select! {
            () = stop.cancelled() => return,
            () = tokio::time::sleep(LOOK) => {}
        }
    }
}

/// What was seen so far.
#[derive(Debug, Default)]
struct Seen {
    disks: HashMap<(String, u64), Last>,
    refusals: u64,
    of_chap: u64,
}

#[derive(Debug, Default)]
struct Last {
    /// The newest session that was ever there.
    newest: Option<u64>,
    /// Whether it still is.
    is_there: bool,
    written: bool,
    full: bool,
}

/// What a look shows that the one before did not.
#[derive(Debug, PartialEq, Eq)]
enum News {
    LoggedIn { client: String, epoch: u64, session: Session },
    Gone { client: String, epoch: u64 },
    Wrote { client: String, epoch: u64 },
    Full { client: String, epoch: u64 },
    Refused { refusals: Refusals, chap: bool },
}

impl Seen {
    fn news(&mut self, activity: Activity) -> Vec<News> {
        let Activity { disks, refusals } = activity;
        let mut news = Vec::new();
        // Disks that are over are forgotten with their boots.
        self.disks.retain(|(client, epoch), _| {
            disks.iter().any(|one| one.client == *client && one.epoch == *epoch)
        });
        for DiskActivity { client, epoch, session, written, full } in disks {
            let last = self.disks.entry((client.clone(), epoch)).or_default();
            // Behind a session that has ended an older one may show that nobody uses any more.
            let new = session.filter(|one| last.newest.is_none_or(|newest| newest < one.id));
            let goes_on = session.is_some_and(|one| last.newest == Some(one.id));
            if last.is_there && !goes_on {
                news.push(News::Gone { client: client.clone(), epoch });
            }
            last.is_there = goes_on || new.is_some();
            if let Some(session) = new {
                last.newest = Some(session.id);
                news.push(News::LoggedIn { client: client.clone(), epoch, session });
            }
            if written && !std::mem::replace(&mut last.written, written) {
                news.push(News::Wrote { client: client.clone(), epoch });
            }
            if full && !std::mem::replace(&mut last.full, full) {
                news.push(News::Full { client, epoch });
            }
        }
        if refusals.count > self.refusals {
            self.refusals = refusals.count;
            let chap = std::mem::replace(&mut self.of_chap, refusals.chap) < refusals.chap;
            news.push(News::Refused { refusals, chap });
        }
        news
    }
}

fn tell(state: &State, news: &News) {
    let step = |client: &str, epoch: u64, kind: StepKind, detail: &str| {
        if let Some(mac) = state.targets.machine_of(client, epoch) {
            state.step_at(mac, epoch, kind, detail);
        }
    };
    match news {
        News::LoggedIn { client, epoch, session } => {
            state.counters.iscsi_logins.inc();
            let Some(mac) = state.targets.machine_of(client, *epoch) else { return };
            if let Some(IpAddr::V4(address)) = session.peer {
                state.whereabouts.saw(&state.site.load(), mac, address, Sign::Login);
            }
            let from = session.peer.map(|peer| format!("from {peer}")).unwrap_or_default();
            let number = state.boots.lock().on_login(mac, *epoch, &from, unix_millis());
            state.tell(mac, format!("{}: {from}", StepKind::Login(number)));
        }
        News::Gone { client, epoch } => {
            step(client, *epoch, StepKind::Lost, "or with one, LIO does not tell");
        }
        News::Wrote { client, epoch } => step(client, *epoch, StepKind::FirstWrite, ""),
        News::Full { client, epoch } => {
            state.counters.disk_errors.inc();
            step(client, *epoch, StepKind::DiskFull, "a write to a new block has failed");
        }
        News::Refused { refusals: Refusals { initiator, peer, .. }, chap } => {
            state.counters.iscsi_login_failures.inc();
            let from = peer.map(|peer| format!(" from {peer}")).unwrap_or_default();
            let why =
                if *chap { "it could not prove who it is" } else { "it may not, or there is no disk for it" };
            let text = format!("{initiator}{from} may not log in: {why}");
            if let Some((mac, epoch)) = state.targets.boot_of_initiator(initiator) {
                state.step_at(mac, epoch, StepKind::LoginRefused { chap: *chap }, &text);
            }
            state.events.emit(Event::Trouble { service: SERVICE, what: text });
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn disk(id: Option<u64>, written: bool) -> DiskActivity {
        let session = id.map(|id| Session { id, peer: None });
        DiskActivity { client: "rook".into(), epoch: 7, session, written, full: false }
    }

    fn activity(disk: DiskActivity) -> Activity {
        Activity { disks: vec![disk], refusals: Refusals::default() }
    }

    /// The kinds of what a look shows.
    fn look(seen: &mut Seen, disk: DiskActivity) -> Vec<&'static str> {
        let kind = |news: &News| match news {
            News::LoggedIn { .. } => "in",
            News::Gone { .. } => "gone",
            News::Wrote { .. } => "wrote",
            News::Full { .. } => "full",
            News::Refused { .. } => "refused",
        };
        seen.news(activity(disk)).iter().map(kind).collect()
    }

    #[test]
    fn a_boot_is_two_log_ins_and_a_first_write() {
        let mut seen = Seen::default();
        assert!(look(&mut seen, disk(None, false)).is_empty());
        assert_eq!(look(&mut seen, disk(Some(3), false)), ["in"]);
        assert!(look(&mut seen, disk(Some(3), false)).is_empty());
        // The system has taken the card over: iPXE's session is still there, and no longer shown.
        assert_eq!(look(&mut seen, disk(Some(4), true)), ["gone", "in", "wrote"]);
        assert!(look(&mut seen, disk(Some(4), true)).is_empty());
        // And shows again when the newer one has ended.
        assert_eq!(look(&mut seen, disk(Some(3), true)), ["gone"]);
        assert!(look(&mut seen, disk(None, true)).is_empty());
        assert_eq!(look(&mut seen, disk(Some(5), true)), ["in"]);
        assert_eq!(look(&mut seen, DiskActivity { full: true, ..disk(Some(5), true) }), ["full"]);
    }

    #[test]
    fn the_next_boot_is_another_disk() {
        let mut seen = Seen::default();
        look(&mut seen, disk(Some(3), true));
        let next = DiskActivity { epoch: 8, ..disk(Some(9), true) };
        assert_eq!(look(&mut seen, next), ["in", "wrote"]);
        assert_eq!(seen.disks.len(), 1);
    }

    #[test]
    fn a_refusal_is_told_once() {
        let mut seen = Seen::default();
        // A wrong secret counts twice, for one of them as what it is.
        let refusals = Refusals { count: 2, initiator: "iqn.x".into(), peer: None, chap: 1 };
        let activity = Activity { disks: vec![], refusals: refusals.clone() };
        assert_eq!(seen.news(activity.clone()), [News::Refused { refusals: refusals.clone(), chap: true }]);
        assert!(seen.news(activity).is_empty());
        let refusals = Refusals { count: 3, ..refusals };
        let activity = Activity { disks: vec![], refusals: refusals.clone() };
        assert_eq!(seen.news(activity), [News::Refused { refusals, chap: false }]);
    }
}
