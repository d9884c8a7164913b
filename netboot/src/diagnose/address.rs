//! Causes on the way to an address.

use super::{Cause, Finding, View, fetch};
use crate::step::StepKind;

/// From which number of seconds on a machine that is first heard of was kept from being heard. Firmware that is heard
/// at once says 0 to 4, and a port that runs the spanning tree protocol learns for twice 15 s (IEEE 802.1D-2004, 17.14).
const HELD_UP: u16 = 25;

/// A larger number is no time: some clients put the bytes in the wrong order, so that 4 s are 1024.
const CREDIBLE: u16 = 180;

fn has_come_further(kind: &StepKind) -> bool {
    matches!(kind, StepKind::Ack { .. } | StepKind::Told { .. })
        || fetch(kind).is_some()
        || super::is_past_fetching(kind)
}

/// It asked and was not answered: the policy's word on it is in the step.
pub(super) fn not_answered(view: &View) -> Option<Finding> {
    let silent = |kind: &StepKind| matches!(kind, StepKind::Silence);
    let last =
        view.last_before(silent, |kind| has_come_further(kind) || matches!(kind, StepKind::Offer { .. }))?;
    if !view.stalled {
        return None;
    }
    Some(view.finding(
        Cause::NotAnswered,
        &view.all(silent),
        format!("It asked for an address and was not answered. {}", last.detail),
        "See what it would get and why: bootd explain MAC. Where addresses have run out, widen the pool (pool in \
         [dhcp]) or give the client one of its own (bootd client set NAME --address A.B.C.D).",
    ))
}

/// A NAK, and no address after it. A client that comes with the address of another network is told so once, and then
/// begins anew (RFC 2131, §4.3.2); it is wrong only if that is the end.
pub(super) fn refused(view: &View) -> Option<Finding> {
    let nak = view.last_before(|kind| matches!(kind, StepKind::Nak), has_come_further)?;
    view.stalled.then(|| {
        view.finding(
            Cause::AddressRefused,
            &[nak],
            format!("It was told not to use the address that it wants, and has not asked for another. {}", nak.detail),
            "Look for a second DHCP server on this network, or for two machines with one address; switch the machine \
             off and on, so that it forgets the address.",
        )
    })
}

/// The REQUEST is broadcast, also to those whose offer was not taken (RFC 2131, §3.1, step 3): it names the winner.
/// Beside a server that is to give the addresses, that is as it should be, and [`offer_not_taken`] looks on.
pub(super) fn other_server(view: &View) -> Option<Finding> {
    let chose = |kind: &StepKind| matches!(kind, StepKind::ChoseOther { .. });
    let last = view.last_before(chose, has_come_further)?;
    let StepKind::ChoseOther { server } = &last.kind else { return None };
    let offered_addresses = view.has(|kind| matches!(kind, StepKind::Offer { shape: None, .. }));
    (view.stalled && offered_addresses).then(|| {
        view.finding(
            Cause::OtherServer,
            &[last],
            format!(
                "It took the offer of another DHCP server, {server}, which does not tell it to boot from here."
            ),
            &format!(
                "Switch DHCP off on {server} for this network; or leave the addresses to it and let bootd be a proxy \
                 beside it (mode = \"proxy\" in [dhcp]); or have it name bootd as next server (option 66) and the boot program as \
                 boot file (option 67)."
            ),
        )
    })
}

/// Offers that nothing follows. Firmware says nothing when it dislikes one: EDK2 with a caching bug drops proxy offers
/// with option 43 (tianocore/edk2#6944), BIOS ROMs want it, and some machines use no second offer at all
/// (garybowers/bootimus#77).
pub(super) fn offer_not_taken(view: &View) -> Option<Finding> {
    let offer = |kind: &StepKind| matches!(kind, StepKind::Offer { .. });
    let last = view.last_before(offer, |kind| has_come_further(kind) || matches!(kind, StepKind::Nak))?;
    if !view.stalled {
        return None;
    }
    let StepKind::Offer { shape, .. } = &last.kind else { return None };
    let offers = view.all(offer);
    let took = view.boot.steps.iter().rev().find_map(|step| match step.kind {
        StepKind::ChoseOther { server } => Some(server),
        _ => None,
    });
    let count = offers.len();
    let finding = |what, remedy: &str| view.finding(Cause::OfferNotTaken, &offers, what, remedy);
    match (shape, took) {
        (Some(shape), Some(server)) => Some(finding(
            format!(
                "It has its address from {server}, and did not come for its boot program: its firmware does not take \
                 bootd's offer in this form ({shape})."
            ),
            "Switch it on again: at each search bootd offers the next form, and keeps the one that works. If none does, \
             let bootd give the addresses, or have the other server name bootd as next server (option 66) and the boot \
             program as boot file (option 67).",
        )),
        (Some(shape), None) => Some(finding(
            format!(
                "It was told what to boot {count} times ({shape}), and takes no DHCP server's address: there is none \
                 that offers it one, or its answers don't arrive."
            ),
            "Look whether the DHCP server of this network runs and has addresses left. Then see what the machine gets: \
             bootd capture MAC.",
        )),
        // Had another server won, we had heard whom the REQUEST names.
        (None, None) if searches_on(view) => Some(finding(
            format!(
                "It was offered an address {count} times and goes on with the same search: the offers don't reach it."
            ),
            "See whether the offers leave: bootd capture MAC. If they do, the network drops them: a switch with DHCP \
             snooping must trust the port of this server, a firewall must let UDP from port 67 to 68 through, and a \
             relay must know the way back.",
        )),
        (None, None) => Some(finding(
            format!(
                "It was offered an address {count} times and never asked for it: the offers don't reach it, or its firmware \
                 does not take them."
            ),
            "See whether the offers leave: bootd capture MAC. If they do, look whether the network drops them: a switch with \
             DHCP snooping must trust the port of this server, a firewall must let UDP from port 67 to 68 through, a relay \
             must know the way back. If they arrive, the firmware wants them in another form: bootd site set client/NAME \
             'dhcp_option=60!:text:PXEClient' 'dhcp_option=43!:hex:060108ff'; or let another server give the addresses and \
             bootd be a proxy beside it, which tries each form (mode = \"proxy\" in [dhcp]).",
        )),
        (None, Some(_)) => None,
    }
}

/// Whether a machine asks on after an offer as if it had heard nothing: the time for which it says that it asks has grown.
/// Firmware that drops an offer ends its search, and begins the next at 0.
fn searches_on(view: &View) -> bool {
    let mut asked = None;
    let mut offered = false;
    view.boot.steps.iter().any(|step| match step.kind {
        StepKind::Offer { .. } => {
            offered = asked.is_some();
            false
        }
        StepKind::Discover { stage, secs, .. } => {
            let on = offered && asked.is_some_and(|(earlier, before)| earlier == stage && secs > before);
            (asked, offered) = (Some((stage, secs)), false);
            on
        }
        _ => false,
    })
}

/// The machine says for how long it has been asking. Where the first that was heard is late, the ones before were
/// lost, as on a switch port that does not forward until spanning tree has settled. iPXE's own drivers take the link
/// down once more, so that the firmware succeeds and iPXE waits (ipxe/ipxe#1337).
pub(super) fn spanning_tree(view: &View) -> Option<Finding> {
    let mut heard = Vec::new();
    let late = view.boot.steps.iter().find(|step| match &step.kind {
        StepKind::Discover { stage, secs, .. } => {
            let first = !heard.contains(stage);
            heard.push(*stage);
            first && (HELD_UP..=CREDIBLE).contains(secs)
        }
        _ => false,
    })?;
    let StepKind::Discover { stage, secs, .. } = &late.kind else { return None };
    let finding = view.finding(
        Cause::SpanningTree,
        &[late],
        format!(
            "Its {stage} had been asking for {secs} s when it was first heard: the switch port let nothing through. \
             That is how a port that runs the spanning tree protocol begins."
        ),
        "Make the switch port an edge port (portfast). Where that can't be done, use a boot program that leaves the link \
         up, undionly.kpxe or snponly.efi: bootd client set NAME --boot-program PROGRAM.",
    );
    // It was heard, so this is not what stops it now.
    Some(Finding { stops: false, ..finding })
}
