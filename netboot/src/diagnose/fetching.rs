//! Causes on the way from an address to a script.

use super::{Cause, Finding, View, fetch, has_come, is_past_fetching};
use crate::pxe::Stage;
use crate::step::{FetchEnd, StepKind};

/// How often one boot program has to be fetched, with no script in between, for it to be a loop. Twice happens: a ROM's
/// iPXE that is made to load another first.
const LOOP: usize = 3;

/// How close together those boots are, in milliseconds.
const LOOP_GAP_MS: u64 = 120_000;

/// Turned down, and nothing fetched since.
pub(super) fn refused(view: &View) -> Option<Finding> {
    let last = view.last_before(
        |kind| matches!(kind, StepKind::Refused),
        |kind| has_come(kind) || is_past_fetching(kind),
    )?;
    view.stalled.then(|| {
        view.finding(
            Cause::Refused,
            &[last],
            format!("It asked for what it may not have: {}.", last.detail.trim_end_matches('.')),
            "If it may, change its entry: bootd client set NAME. Boot scripts go only to the address that bootd leased \
             to the client, or that its entry names.",
        )
    })
}

/// Asked for in vain, and nothing since. Loaders try a dozen names before the one that is there, so it is wrong only if
/// it is the end.
pub(super) fn missing(view: &View) -> Option<Finding> {
    let missing = |kind: &StepKind| matches!(kind, StepKind::Missing { .. });
    let last = view.last_before(missing, |kind| {
        has_come(kind)
            || is_past_fetching(kind)
            || matches!(kind, StepKind::Discover { stage: Stage::Ipxe, .. })
    })?;
    let StepKind::Missing { path, near } = &last.kind else { return None };
    let like = match near.as_slice() {
        [] => String::new(),
        names => format!(" There is {}.", names.join(", ")),
    };
    view.stalled.then(|| {
        view.finding(
            Cause::FileMissing,
            &view.all(missing),
            format!("It asked for the file {path}, which there is not.{like}"),
            "Put the file among the boot files (files in the data directory), or mend the name where it comes from: the \
             client's boot program, its menu, a loader's configuration, another DHCP server's option 67.",
        )
    })
}

/// Transfers that begin and don't get on. TFTP answers from a port of its own, which simple firewalls don't expect, and
/// its first large packet is the first block: options and errors are small. The same comes of a smaller MTU on the way,
/// where no block arrives and the machine asks again (ipxe/ipxe#288 and #690).
pub(super) fn stalls(view: &View) -> Option<Finding> {
    let stuck = |kind: &StepKind| {
        fetch(kind).is_some_and(|fetch| {
            matches!(fetch.end, FetchEnd::Silent | FetchEnd::Gone | FetchEnd::BegunAnew)
                && fetch.size.is_none_or(|size| fetch.bytes < size)
        })
    };
    let last = view.last_before(stuck, |kind| has_come(kind) || is_past_fetching(kind))?;
    let all = view.all(stuck);
    let fetch = fetch(&last.kind)?;
    // A single one that nobody misses is a machine that was switched off.
    if !view.stalled && all.len() < 2 {
        return None;
    }
    let times = if all.len() == 1 { "once".to_owned() } else { format!("{} times", all.len()) };
    let what = match (fetch.bytes, fetch.blksize) {
        (0, _) => format!(
            "The transfer of {} was begun {times}, and not one block of it arrived: small packets get through, large \
             ones don't, or none from the transfer's own port.",
            fetch.path
        ),
        (bytes, _) => format!(
            "The transfer of {} stalled {times}, the last time after {bytes} bytes: packets are lost on the way.",
            fetch.path
        ),
    };
    // Where blocks came, the port is not at fault.
    let by_port = "TFTP answers from a port of its own, which a firewall, or a router that translates addresses, may not let through: \
                   open UDP beyond port 69 there, or have bootd answer these machines from port 69, by single_port = [\"SUBNET\"] in \
                   [tftp] of bootd.toml. ";
    let remedy = format!(
        "Look for a smaller MTU on the way (a tunnel, a VLAN on a switch with 1500 bytes for the whole frame, jumbo frames on one \
         side only): bootd explain MAC --probe, while the machine is on, says which packets reach it. {}See what arrives: bootd capture \
         MAC.",
        if fetch.bytes == 0 { by_port } else { "" }
    );
    Some(view.finding(Cause::TransferStalls, &all, what, &remedy))
}

/// The program that was fetched asks like firmware again. An iPXE that is not recognised as one is sent itself; so is a
/// program that restarts the machine.
pub(super) fn loops(view: &View) -> Option<Finding> {
    let mine = view.all(has_come);
    let path = &fetch(&mine.last()?.kind)?.path;
    if view.has(is_past_fetching) || !is_program(path) {
        return None;
    }
    let is_it = |kind: &StepKind| has_come(kind) && fetch(kind).is_some_and(|fetch| fetch.path == *path);
    let mut count = view.all(is_it).len();
    let mut next_ms = view.boot.started_ms;
    for boot in view.earlier.iter().take_while(|boot| !boot.scripted) {
        if next_ms.saturating_sub(boot.last_sign_ms()) > LOOP_GAP_MS {
            break;
        }
        count += boot.steps.iter().filter(|step| is_it(&step.kind)).count();
        next_ms = boot.started_ms;
    }
    (count >= LOOP).then(|| {
        view.finding(
            Cause::BootLoop,
            &mine,
            format!(
                "It fetched {path} {count} times in a row and never asked for a script: the program starts, and asks as \
                 firmware again."
            ),
            "Another DHCP server may answer the program with the same boot file: it must send its script to clients of \
             user class iPXE, or nothing. A program with a script of its own must not chain to itself. Try the stock one: \
             bootd client set NAME --boot-program none.",
        )
    })
}

/// Fetched, started, silent. All-driver programs hang where the take-over of the card from the firmware fails, and those
/// that use the firmware's driver where that one is broken (ipxe/ipxe#1561, FOGProject/fogproject#960).
pub(super) fn program_hangs(view: &View) -> Option<Finding> {
    let last = view.last_before(has_come, |kind| {
        is_past_fetching(kind)
            || matches!(kind, StepKind::Discover { .. } | StepKind::Missing { .. } | StepKind::Refused)
    })?;
    let path = &fetch(&last.kind)?.path;
    if !view.stalled || !is_program(path) {
        return None;
    }
    let other = match path.rsplit('/').next().unwrap_or_default() {
        name if name.starts_with("ipxe") && name.ends_with(".efi") => {
            "snponly.efi, which uses the firmware's driver"
        }
        name if name.ends_with(".efi") => "ipxe.efi, which has drivers of its own",
        name if name.starts_with("undionly") => "ipxe.pxe, which has drivers of its own",
        _ => "undionly.kpxe, which uses the firmware's driver",
    };
    Some(view.finding(
        Cause::ProgramHangs,
        &[last],
        format!("It fetched {path}, and that has not asked for an address since: it hangs, or does not start."),
        &format!(
            "Look at its screen. Try {other}: bootd client set NAME --boot-program PROGRAM. With Secure Boot on, firmware \
             starts only what is signed. Where spanning tree holds the port up, the program may give up first: make it \
             an edge port."
        ),
    ))
}

/// It was given an address and nothing else: by policy, or for want of a boot program. The step has the reason.
pub(super) fn nothing_to_boot(view: &View) -> Option<Finding> {
    let last = view.last_before(
        |kind| matches!(kind, StepKind::Ack { .. } | StepKind::Told { .. }),
        |kind| has_come(kind) || is_past_fetching(kind),
    )?;
    (!last.detail.is_empty()).then(|| {
        view.finding(
            Cause::Refused,
            &[last],
            format!("It was given an address and nothing to boot. {}", last.detail),
            "If it may boot, see what it lacks (bootd explain MAC) and give it that: bootd client add, bootd client set.",
        )
    })
}

/// iPXE has its address, and no script was asked for.
pub(super) fn no_script(view: &View) -> Option<Finding> {
    let last = view.last_before(
        |kind| {
            matches!(kind, StepKind::Ack { stage: Stage::Ipxe, .. } | StepKind::Told { stage: Stage::Ipxe })
        },
        |kind| {
            is_past_fetching(kind)
                || fetch(kind).is_some()
                || matches!(kind, StepKind::Missing { .. } | StepKind::Refused)
        },
    )?;
    (view.stalled && last.detail.is_empty()).then(|| {
        view.finding(
            Cause::NoScript,
            &[last],
            "iPXE has its address and did not fetch its script.".into(),
            "Its screen says why. A firewall must let it reach the HTTP port ([http] port). A script of the program's own, \
             or another DHCP server's boot file, may have sent it elsewhere.",
        )
    })
}

/// The firmware has its address, and asked for nothing.
pub(super) fn nothing(view: &View) -> Option<Finding> {
    let last = view.last_before(
        |kind| {
            matches!(
                kind,
                StepKind::Ack { stage: Stage::Firmware, .. } | StepKind::Told { stage: Stage::Firmware }
            )
        },
        |kind| {
            is_past_fetching(kind)
                || fetch(kind).is_some()
                || matches!(kind, StepKind::Missing { .. } | StepKind::Refused | StepKind::Discover { .. })
        },
    )?;
    (view.stalled && last.detail.is_empty()).then(|| {
        view.finding(
            Cause::NothingFetched,
            &[last],
            "Its firmware has an address and asked for no file.".into(),
            "See whether it was told one: bootd explain MAC. A firewall must let UDP port 69 and the ports above 1024 \
             through. See whether it asks at all: bootd capture MAC. Some firmware needs IPv4 network boot switched on \
             for this card.",
        )
    })
}

fn is_program(path: &str) -> bool {
    [".efi", ".kpxe", ".kkpxe", ".pxe", ".lkrn", ".0"].iter().any(|suffix| path.ends_with(suffix))
}
