//! Who is behind an address, and what it may fetch: one rule for TFTP and HTTP.
//!
//! - A boot script holds the secrets of one boot, so it goes to the address that is leased to its client (or is
//!   the client's own and nobody else's) and to no other. A machine that is no client has none.
//! - Where another server leases the addresses, an address on the link is the machine's whose network card answers for
//!   it: the kernel has just asked by ARP, to answer this very visitor. That is no weaker than a lease, which whoever
//!   takes another's address enjoys as well. What passes by in DHCP proves nothing, as anyone may broadcast in another's
//!   name. An address behind a router is the client's whose entry names it, and else nobody's.
//! - So does every other text that a template makes, and every managed file: they hold what the site knows of the
//!   client. A client that may not boot gets none of them. Nobody proves more than its address here, for firmware has
//!   nothing to prove it with; who may take another's address on the same wire may take its boot script too.
//! - So does every file of a mirror, of which more may be fetched than the wire bears: only who may boot has us fetch it.
//! - Boot programs and the admin's files hold none: whoever reaches the port may read them, as from every TFTP
//!   server, and as it must be where another server gives the addresses. Except that a machine which bootd knows,
//!   and knows not to boot, gets nothing: what `bootd explain` says of it would not be true otherwise.

#[cfg(test)]
mod tests;

use std::net::{Ipv4Addr, SocketAddr};

use netboot::{Asked, BootPlan, FilePath, Mode, Start, StepKind, raspberry_pi_place, search};
use site::entity::EntityName;
use site::{MacAddr, Site};

use super::script::Which;
use crate::boot::ScriptError;
use crate::events::Event;
use crate::state::{Link, State, unix_millis, unix_seconds};
use crate::sys::neighbour;
use crate::whereabouts::Sign;

/// What a visitor is to be given.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Granted {
    /// A file, if there is one of that name.
    File {
        /// Its name.
        path: FilePath,
        /// Who fetches it, where that is known.
        visitor: Option<MacAddr>,
    },
    /// A script of the machine that asks. If it may not boot, the script tells its user why.
    Script(MacAddr, Which),
    /// The list of the files that are kept on the machine that asks, or the content of one of them.
    Managed {
        /// Which; `None`: the list.
        name: Option<String>,
        /// The machine.
        mac: MacAddr,
    },
    /// The program with which clients keep their files.
    ManagedProgram,
    /// The picture that fits a screen best.
    Wallpaper {
        /// Its width and height in pixels.
        screen: (u32, u32),
        /// Who fetches it, where that is known.
        visitor: Option<MacAddr>,
    },
    /// Where a user of the machine that asks has their files.
    UserHome {
        /// The user.
        user: EntityName,
        /// The machine.
        mac: MacAddr,
    },
    /// A file of a mirror, if it has one of that name.
    Mirrored {
        /// The mirror.
        mirror: String,
        /// The file there.
        path: FilePath,
        /// The machine.
        mac: MacAddr,
    },
    /// To be registered as its query says.
    Register {
        /// The machine.
        mac: MacAddr,
        /// What was typed there.
        query: String,
    },
    /// What the template of that name makes for the machine that asks.
    Text {
        /// Its name.
        path: FilePath,
        /// The machine.
        mac: MacAddr,
    },
}

/// Why a visitor is to be given nothing.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Denied {
    /// The name stands for nothing.
    #[error("there is no such file")]
    NotFound,
    /// It may not have a script.
    #[error("{0}")]
    Script(String),
    /// It may not have files.
    #[error("{0}")]
    File(String),
}

/// A visitor that is turned away.
#[derive(Debug)]
pub(crate) struct TurnedAway {
    /// Why.
    pub(crate) why: Denied,
    /// Who it is, as far as that is known: in whose timeline it stands.
    pub(crate) visitor: Option<MacAddr>,
}

/// What `peer`, which came by `link`, gets for what it asks.
///
/// # Errors
/// When it gets nothing, with the reason.
pub(crate) fn admit(state: &State, link: &Link, peer: Ipv4Addr, asked: Asked) -> Result<Granted, TurnedAway> {
    let site = state.site.load();
    let holder = |guess| holder(state, link, peer, &site, guess);
    let (holder, asked) = match asked {
        Asked::File(path) => {
            let visitor = holder(true);
            match locate(state, &site, visitor, peer, path) {
                // What is made for one machine is given to the one that is known to be there, and not to a supposed one.
                made @ Wanted::Text(_) => (holder(false), made),
                named => (visitor, named),
            }
        }
        asked => {
            let anyone = matches!(asked, Asked::Wallpaper { .. } | Asked::ManagedProgram | Asked::Other);
            (holder(anyone), Wanted::Named(asked))
        }
    };
    let plan_of = |mac| state.plan_at(&site, link, peer, mac);
    if let (Some(mac), Mode::Proxy | Mode::Off) = (holder, link.settings.mode) {
        state.whereabouts.saw(&site, mac, peer, Sign::Visit);
    }
    decide(&Visitor { peer, holder, nobody: nobody(link, peer) }, plan_of, asked).map_err(|why| {
        // Whose own address it is may read of it, though it has no lease.
        let supposed = || match link.settings.mode {
            Mode::Server => self::holder(state, link, peer, &site, true),
            Mode::Proxy | Mode::Off => None,
        };
        TurnedAway { why, visitor: holder.or_else(supposed) }
    })
}

/// An address, and who is behind it.
struct Visitor {
    peer: Ipv4Addr,
    holder: Option<MacAddr>,
    /// What is said of the address where it is unknown who is.
    nobody: &'static str,
}

/// What it means that it is unknown who is behind an address.
fn nobody(link: &Link, peer: Ipv4Addr) -> &'static str {
    match link.settings.mode {
        Mode::Server => "is leased to no machine",
        Mode::Proxy | Mode::Off if link.interface.contains(peer) => {
            "is the address of no network card that answers on this link"
        }
        // What relays pass on of its DHCP proves nothing: anyone can send that in another's name.
        Mode::Proxy | Mode::Off => {
            "is behind a router, where only the address in a client's entry says whose it is (bootd client set NAME \
             --address ADDRESS, and the same address for it in the other DHCP server)"
        }
    }
}

/// Who is behind that address, as far as it is known. `guess`: it is asked for what anyone may have.
fn holder(state: &State, link: &Link, peer: Ipv4Addr, site: &Site, guess: bool) -> Option<MacAddr> {
    if link.settings.mode == Mode::Server {
        let (leases, now) = (state.leases.lock(), unix_seconds());
        return match guess {
            true => leases.holder(peer, site, now),
            false => leases.by_address(peer, now).map(|lease| lease.mac),
        };
    }
    let entry = || site.client_by_address(peer).map(|client| client.mac);
    if !link.interface.contains(peer) {
        return entry();
    }
    match neighbour(link.index, peer) {
        Ok(Some(mac)) => Some(MacAddr::new(mac)),
        Ok(None) => None,
        Err(e) => {
            let what = format!("can't ask the kernel whose {peer} is, so the site's entries decide: {e}");
            state.events.emit(Event::Trouble { service: "visitor", what });
            entry()
        }
    }
}

/// What a file's name stands for: a template of the site's own, a file, or a template that bootd brings along, in this
/// order. A boot loader that searches for its menu is given what it would find at last ([`search`]).
fn locate(state: &State, site: &Site, holder: Option<MacAddr>, peer: Ipv4Addr, path: FilePath) -> Wanted {
    let menus = state.menus.load();
    let there = |path: &FilePath| menus.has_own(path.as_str()) || state.files.has(path);
    let shared = holder.and_then(|mac| raspberry_pi_place(&path, mac, site));
    let path = shared.filter(|shared| !there(&path) && there(shared)).unwrap_or(path);
    let names = holder.map_or_else(|| vec![path.clone()], |mac| search(&path, mac, peer));
    let alone = names.len() == 1;
    for name in names {
        if menus.has_own(name.as_str()) {
            return Wanted::Text(name);
        }
        let shipped = menus.has(name.as_str());
        if (shipped || !alone) && state.files.open(&name).is_ok() {
            return Wanted::Named(Asked::File(name));
        }
        if shipped {
            return Wanted::Text(name);
        }
    }
    Wanted::Named(Asked::File(path))
}

/// Notes that a file was asked for that there is not. It is in the timeline each time and in the log once in a while:
/// some programs try a dozen names before the one that is there.
pub(crate) fn tell_missing(
    state: &State,
    service: &'static str,
    peer: SocketAddr,
    visitor: Option<MacAddr>,
    path: &str,
) {
    if let Some(mac) = visitor {
        let (programs, beside) = (state.files.programs().all(), state.files.beside(path));
        let kind = StepKind::missing(path, programs.iter().chain(&beside).map(String::as_str));
        state.boots.lock().record(mac, kind, service, unix_millis());
    }
    let why = format!("there is no file {path}");
    state.events.emit(Event::Refused { service, peer, why });
}

/// Notes that a visitor was denied what it asked for: in the log, and in its timeline.
pub(crate) fn tell_refused(
    state: &State,
    service: &'static str,
    peer: SocketAddr,
    visitor: Option<MacAddr>,
    why: String,
) {
    if let Some(mac) = visitor {
        state.boots.lock().record(mac, StepKind::Refused, &why, unix_millis());
    }
    state.events.emit(Event::Refused { service, peer, why });
}

/// Notes that a text could not be made for the client `mac`: in its timeline and in the log.
pub(crate) fn tell_unmade(
    state: &State,
    service: &'static str,
    mac: MacAddr,
    path: &str,
    error: &ScriptError,
) {
    let why = format!("{path}: {error}");
    state.boots.lock().record(mac, StepKind::Failed, &why, unix_millis());
    state.events.emit(Event::Trouble { service, what: why });
}

/// What a name stands for, templates counted.
enum Wanted {
    /// What a template makes.
    Text(FilePath),
    /// What its name says.
    Named(Asked),
}

fn decide(
    visitor: &Visitor,
    plan_of: impl Fn(MacAddr) -> BootPlan,
    wanted: Wanted,
) -> Result<Granted, Denied> {
    let asked = match wanted {
        Wanted::Text(path) => {
            let mac = booting(visitor, plan_of)?;
            return Ok(Granted::Text { path, mac });
        }
        Wanted::Named(asked) => asked,
    };
    match asked {
        Asked::Other => Err(Denied::NotFound),
        Asked::File(path) => match visitor.holder.map(&plan_of) {
            Some(plan) if !plan.may_boot() => Err(Denied::File(why(&plan))),
            _ => Ok(Granted::File { path, visitor: visitor.holder }),
        },
        Asked::ManagedList => Ok(Granted::Managed { name: None, mac: booting(visitor, plan_of)? }),
        Asked::Managed(name) => Ok(Granted::Managed { name: Some(name), mac: booting(visitor, plan_of)? }),
        Asked::ManagedProgram => Ok(Granted::ManagedProgram),
        Asked::Wallpaper { width, height } => match visitor.holder.map(&plan_of) {
            Some(plan) if !plan.may_boot() => Err(Denied::File(why(&plan))),
            _ => Ok(Granted::Wallpaper { screen: (width, height), visitor: visitor.holder }),
        },
        Asked::UserHome(user) => Ok(Granted::UserHome { user, mac: booting(visitor, plan_of)? }),
        Asked::Mirrored { mirror, path } => {
            Ok(Granted::Mirrored { mirror, path, mac: booting(visitor, plan_of)? })
        }
        Asked::Script { mac } => script(visitor, Some(mac), Which::Boot, plan_of),
        Asked::Menu { mac } => script(visitor, Some(mac), Which::Menu, plan_of),
        Asked::Choice { mac, name } => script(visitor, Some(mac), Which::Choice(name), plan_of),
        Asked::Register { mac, query } => match script(visitor, Some(mac), Which::Boot, &plan_of)? {
            Granted::Script(mac, _) if plan_of(mac).start == Start::Register => {
                Ok(Granted::Register { mac, query })
            }
            _ => Err(Denied::Script("only machines that the site doesn't know are registered".into())),
        },
        Asked::Autoexec => script(visitor, None, Which::Autoexec, plan_of),
    }
}

/// The client at `peer`, which may boot.
fn booting(visitor: &Visitor, plan_of: impl Fn(MacAddr) -> BootPlan) -> Result<MacAddr, Denied> {
    let Visitor { peer, holder, nobody } = visitor;
    let Some(holder) = *holder else {
        return Err(Denied::File(format!("{peer} {nobody}, so nothing is made for it")));
    };
    let plan = plan_of(holder);
    if plan.may_boot() && plan.client.is_some() { Ok(holder) } else { Err(Denied::File(why(&plan))) }
}

fn script(
    visitor: &Visitor,
    whose: Option<MacAddr>,
    which: Which,
    plan_of: impl Fn(MacAddr) -> BootPlan,
) -> Result<Granted, Denied> {
    let Visitor { peer, holder, nobody } = visitor;
    let Some(holder) = *holder else {
        return Err(Denied::Script(format!("{peer} {nobody}, so no boot script is its")));
    };
    if let Some(other) = whose.filter(|mac| *mac != holder) {
        return Err(Denied::Script(format!(
            "the boot script of {other} goes only to its own address, and {peer} is that of {holder}"
        )));
    }
    let plan = plan_of(holder);
    let Some(client) = &plan.client else {
        // A stranger may have what it is offered, and nothing that only a client has.
        return match &which {
            Which::Boot | Which::Autoexec if plan.may_boot() => Ok(Granted::Script(holder, which)),
            Which::Choice(name) if plan.choice(name.as_str()).is_some() => Ok(Granted::Script(holder, which)),
            _ => Err(Denied::Script(why(&plan))),
        };
    };
    match &which {
        Which::Choice(name) if plan.choice(name.as_str()).is_none() => Err(Denied::Script(format!(
            "the choice {name} is not offered to {}, which may choose only among its own (bootd explain {})",
            client.name, client.name
        ))),
        Which::Menu if plan.may_boot() && plan.offer.shown().is_empty() => {
            Err(Denied::Script(format!("{} has no menu, since it has no choices", client.name)))
        }
        _ => Ok(Granted::Script(holder, which)),
    }
}

fn why(plan: &BootPlan) -> String {
    plan.why.iter().map(ToString::to_string).collect::<Vec<_>>().join(" ")
}
