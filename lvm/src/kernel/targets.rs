//! Which of LIO's targets are ours, and the end of those that are no longer asked for. A target has another name when the
//! server or its domain has, and a machine may go back to a target in bootd's own process.

use std::fs;
use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use super::lio::{Files, Lio, LioConfig, STEP_LIMIT, names};
use super::sessions;
use crate::names::parse_dm_name;

/// What the name of each group of our disks ends with.
const OF_OURS: &str = "_20260";

/// The entry by which a target that has no disk is known as ours. Nobody can log in by it, as it has no secret. The target's
/// alias would be its place, but that is told at each log-in, and libiscsi breaks off where it is.
pub(super) fn mark(tag: &str) -> String {
    format!("iqn.2026-01.internal.{tag}:mark")
}

impl Files {
    /// Finds the targets of other names that are ours.
    pub(super) fn find_earlier(&self) {
        let others = names(&self.config.root.join("iscsi")).into_iter();
        let others = others.filter(|name| name.starts_with("iqn.") && *name != self.config.target);
        let ours = others.map(|name| self.of_target(name)).filter(Self::is_ours).collect();
        // A second look is at what the first one left.
        let _ = self.earlier.set(ours);
    }

    fn is_ours(&self) -> bool {
        let group = self.group();
        let linked = |lun: &str, disk: &str| {
            let of_ours = |path: std::path::PathBuf| {
                path.parent()?.file_name()?.to_str().map(|group| group.ends_with(OF_OURS))
            };
            fs::read_link(group.join("lun").join(lun).join(disk)).ok().and_then(of_ours).unwrap_or(false)
        };
        self.entry(&mark(&self.tag)).is_dir()
            || self
                .luns()
                .iter()
                .any(|(lun, disk)| parse_dm_name(&self.tag, disk).is_some() && linked(lun, disk))
    }

    /// Where the target is found.
    fn portals(&self) -> Vec<String> {
        names(&self.group().join("np"))
    }

    /// Who is logged in.
    fn clients(&self) -> Vec<String> {
        let entries = self.entries().into_iter().map(|(initiator, _)| initiator);
        entries.filter(|initiator| sessions::session(&self.entry(initiator)).is_some()).collect()
    }

    fn notice(&self, text: String) {
        self.notices.lock().push(text);
    }

    /// Has the target listen no more where it is not asked to. To close a portal breaks off log-ins, so that waits until
    /// nobody is logged in.
    pub(super) fn close_portals(&self) {
        let wanted: Vec<_> = self.config.portals.iter().map(SocketAddr::to_string).collect();
        for portal in self.portals().into_iter().filter(|portal| !wanted.contains(portal)) {
            if !self.clients().is_empty() {
                self.notice(format!(
                    "LIO still listens on {portal}, as clients have their disks by now: that ends with the first start of \
                     bootd that finds none"
                ));
            } else if let Err(e) = self.remove_directory(&self.group().join("np").join(&portal)) {
                self.notice(format!("LIO still listens on {portal}: {e}"));
            }
        }
    }

    /// Removes the targets of earlier names that nobody has a disk at.
    pub(super) fn end_earlier(&self) {
        for earlier in self.all().skip(1).filter(|earlier| earlier.group().is_dir()) {
            let target = &earlier.config.target;
            match earlier.entries().len() {
                0 => {
                    if let Err(e) = earlier.take_down() {
                        self.notice(format!("LIO still has the target {target}, which has another name now: {e}"));
                    }
                }
                clients => self.notice(format!(
                    "{clients} clients booted from {target}, and the target is called {} now: they keep their disks by the \
                     old name until they boot again",
                    self.config.target
                )),
            }
        }
    }

    fn take_down(&self) -> io::Result<()> {
        let group = self.group();
        if group.is_dir() {
            if fs::read_to_string(group.join("enable")).is_ok_and(|text| text.trim() == "1") {
                self.write(&group.join("enable"), "0")?;
            }
            self.clear_units(&[])?;
            self.remove_directory(&self.entry(&mark(&self.tag)))?;
            for portal in self.portals() {
                self.remove_directory(&group.join("np").join(portal))?;
            }
            self.remove_directory(&group)?;
        }
        group.parent().map_or(Ok(()), |target| self.remove_directory(target))
    }

    fn take_all_down(&self) -> io::Result<()> {
        self.all().try_for_each(Self::take_down)?;
        self.clear(&[])
    }

    /// Whether it listens at one of these addresses.
    fn listens_at(&self, addresses: &[SocketAddr]) -> bool {
        let portals: Vec<SocketAddr> =
            self.portals().iter().filter_map(|portal| portal.parse().ok()).collect();
        portals.iter().any(|portal| {
            let here = |at: &SocketAddr| at.ip() == portal.ip() || portal.ip().is_unspecified();
            addresses.iter().any(|at| at.port() == portal.port() && here(at))
        })
    }

    fn give_back(&self) -> io::Result<()> {
        let ours = || self.all().filter(|files| files.group().is_dir());
        let wanted = &self.config.portals;
        let Some(first) = ours().find(|files| wanted.is_empty() || files.listens_at(wanted)) else {
            return Ok(());
        };
        let target = &first.config.target;
        let clients: Vec<_> = ours().flat_map(Self::clients).collect();
        if !clients.is_empty() {
            let text = format!(
                "clients have their disks at LIO's target {target}, of the kernel engine: {}; shut them down, or have them \
                 lose their disks, as root: bootd storage down",
                clients.join(", ")
            );
            return Err(io::Error::new(io::ErrorKind::ResourceBusy, text));
        }
        self.take_all_down().map_err(|e| {
            let text = format!(
                "LIO still has the target {target}, of the kernel engine; remove it, as root: bootd storage down ({e})"
            );
            io::Error::new(e.kind(), text)
        })?;
        self.notice(format!("LIO's target {target}, of the kernel engine, which nobody used, is removed"));
        Ok(())
    }
}

/// The way to LIO where there is one.
fn way(config: &LioConfig, tag: &str, step_limit: Duration) -> io::Result<Option<Lio>> {
    config.root.is_dir().then(|| Lio::start(config.clone(), tag, step_limit)).transpose()
}

/// Removes our target, whatever it is called, and all disks behind it. For the operator who wants LIO as it was, and for
/// tests: every log-in at the same address is broken off.
///
/// # Errors
/// When LIO refuses, or hangs.
pub fn remove_target(config: &LioConfig, tag: &str) -> io::Result<()> {
    remove_within(config, tag, STEP_LIMIT)
}

pub(super) fn remove_within(config: &LioConfig, tag: &str, step_limit: Duration) -> io::Result<()> {
    let Some(lio) = way(config, tag, step_limit)? else { return Ok(()) };
    lio.work(Box::new(|files| {
        files.find_earlier();
        files.take_all_down()
    }))
}

/// Removes our target, whatever it is called, if it listens at one of the portals, which another one wants now; if there
/// are none, wherever it listens. Says what it has removed.
///
/// # Errors
/// When somebody is logged in there, or LIO refuses, or hangs; the text says what to do.
pub fn give_back(config: &LioConfig, tag: &str) -> io::Result<Vec<String>> {
    let Some(lio) = way(config, tag, STEP_LIMIT)? else { return Ok(Vec::new()) };
    lio.work(Box::new(|files| {
        files.find_earlier();
        files.give_back()
    }))?;
    // A process that gives up privileges afterwards has no thread that keeps them.
    Ok(lio.finish())
}
