//! Causes between the script and a running system.

use super::{Cause, Finding, View};
use crate::step::StepKind;

fn is_login(kind: &StepKind) -> bool {
    matches!(kind, StepKind::Login(_))
}

/// The disk takes no more writes. Systems that don't expect it stop: Windows with a blue screen.
pub(super) fn full(view: &View) -> Option<Finding> {
    let step = view.last_before(|kind| matches!(kind, StepKind::DiskFull), |_| false)?;
    Some(view.finding(
        Cause::DiskFull,
        &[step],
        "Its disk took no more writes: what it may write is used up, or the server's disk is full.".into(),
        "bootd status NAME says which. Raise its limit (bootd client set NAME --overlay-limit SIZE) or make room on the \
         server, then boot it again. Defragmenting, hibernation and page files in the image use it up for nothing.",
    ))
}

/// A read or a write failed.
pub(super) fn failed(view: &View) -> Option<Finding> {
    let step = view.last_before(|kind| matches!(kind, StepKind::DiskFailed), |_| false)?;
    Some(view.finding(
        Cause::DiskFailed,
        &[step],
        format!("Its disk failed: {}.", step.detail.trim_end_matches('.')),
        "Look at the log and at the server's disks: the image or the client's own layer could not be read or written.",
    ))
}

/// Boot firmware has read the disk and the system never came. What hands the disk over is the iBFT, which the system has
/// to look for: Linux by its initramfs (open-iscsi/open-iscsi#502), Windows by a network driver that starts at boot,
/// without a filter bound to it that cuts the disk off (KB976042), and not by one that is built on NetAdapterCx, which
/// can't (MicrosoftDocs/windows-driver-docs#3754).
pub(super) fn no_second_login(view: &View) -> Option<Finding> {
    let logins = view.all(is_login);
    let [only] = logins.as_slice() else { return None };
    view.stalled.then(|| {
        view.finding(
            Cause::NoSecondLogin,
            &[only],
            "Its boot loader had the disk, and the operating system did not log in to it.".into(),
            "Look at its screen. Linux: its initramfs must have iSCSI boot (Debian: open-iscsi and a file \
             /etc/iscsi/iscsi.initramfs; dracut: the iscsi module and rd.iscsi.firmware=1 ip=ibft), its network driver \
             and nothing that takes the card down. Windows, stop code 0x7B: the driver of this very card must be in the \
             image and start at boot, the WFP lightweight filter must not be bound to it, and drivers built on \
             NetAdapterCx can't boot from iSCSI. No boot loader on the screen: the image does not fit the firmware \
             (BIOS or UEFI).",
        )
    })
}

/// Not let in, and not since.
pub(super) fn login_refused(view: &View) -> Option<Finding> {
    let last = view.last_before(|kind| matches!(kind, StepKind::LoginRefused { .. }), is_login)?;
    let StepKind::LoginRefused { chap } = last.kind else { return None };
    Some(if chap {
        view.finding(
            Cause::ChapRefused,
            &[last],
            "It was not let in to its disk: it could not prove who it is (CHAP).".into(),
            "Each boot has a secret of its own, which the script tells it. Who logs in with an earlier one has an old \
             script, or settings of its own: use no saved script, and clear iSCSI settings in the firmware and in the \
             image (/etc/iscsi/iscsid.conf, /etc/iscsi/nodes). The operating system must take them from the iBFT.",
        )
    } else {
        view.finding(
            Cause::LoginRefused,
            &[last],
            format!("It was not let in to its disk. {}.", last.detail.trim_end_matches('.')),
            "A disk is there for one boot and for one initiator: what logs in must take the names from its script or \
             from the iBFT.",
        )
    })
}

/// It has its script, and its disk waits for it.
pub(super) fn no_login(view: &View) -> Option<Finding> {
    let script = view.last_before(
        |kind| matches!(kind, StepKind::Script),
        |kind| {
            let other =
                matches!(kind, StepKind::LoginRefused { .. } | StepKind::ScriptFailed | StepKind::Waits);
            other || is_login(kind)
        },
    )?;
    // A diskless system that was fetched as a kernel needs no disk.
    let fetched_on =
        view.boot.steps.iter().any(|step| step.at_ms > script.at_ms && super::has_come(&step.kind));
    let asked_user = view.has(|kind| matches!(kind, StepKind::Menu { .. }));
    (view.stalled && !fetched_on).then(|| {
        let menu = if asked_user { " It may be waiting at its menu." } else { "" };
        view.finding(
            Cause::NoLogin,
            &[script],
            format!("It has its script and did not log in to its disk.{menu}"),
            "Its screen says why. A firewall must let it reach the iSCSI port (3260, or [iscsi] port). A boot program built \
             without iSCSI can't: take the stock one (bootd client set NAME --boot-program none).",
        )
    })
}

/// It was told that its disk is still being made, and asks no more.
pub(super) fn slow(view: &View) -> Option<Finding> {
    let last = view.last_before(
        |kind| matches!(kind, StepKind::Waits),
        |kind| is_login(kind) || matches!(kind, StepKind::Script | StepKind::ScriptFailed),
    )?;
    view.stalled.then(|| {
        view.finding(
            Cause::DiskSlow,
            &[last],
            "Its disk takes long to be made, and was not there when it last asked for it.".into(),
            "Something holds up the storage of its image or of the overlays, or many machines boot at once: see the log \
             and bootd check. It asks again every few seconds by itself; if it has given up, boot it again.",
        )
    })
}

/// No script or no disk: the reason is the step's.
pub(super) fn script_failed(view: &View) -> Option<Finding> {
    let last = view.last_before(|kind| matches!(kind, StepKind::ScriptFailed), is_login)?;
    Some(view.finding(
        Cause::ScriptFailed,
        &[last],
        format!("Its script or its disk could not be made: {}.", last.detail.trim_end_matches('.')),
        "Mend that, and boot it again. bootd render script.ipxe NAME renders the script without booting.",
    ))
}
