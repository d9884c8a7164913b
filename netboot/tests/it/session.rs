//! Which boot a machine is in, and what is remembered of it.

use netboot::{Boot, BootEntry, Boots, Cause, Fetch, FetchEnd, Stage, StepKind};

use crate::lab::{Lab, START, ip, mac};
use crate::wire::{discover, selecting};

const NOW: u64 = START * 1000;
const SECOND: u64 = 1000;

fn searches() -> StepKind {
    StepKind::Discover { stage: Stage::Firmware, firmware: None, secs: 0 }
}

#[derive(Clone, Copy)]
enum Do {
    Firmware,
    Ipxe,
    System,
    Script,
    /// It is given an address.
    Ack,
    Wait(u64),
}
use Do::{Ack, Firmware, Ipxe, Script, System, Wait};

/// Plays what happens and says in which boot, counted from 1, each DISCOVER and script was.
fn play(what: &[Do]) -> Vec<usize> {
    let mut boots = Boots::new();
    let mut now = NOW;
    let mut epochs = Vec::new();
    let mut seen = Vec::new();
    for one in what {
        let epoch = match one {
            Wait(seconds) => {
                now += seconds * SECOND;
                continue;
            }
            Ack => {
                boots.record(mac(1), StepKind::Ack { stage: Stage::Ipxe, address: None }, "", now);
                continue;
            }
            Firmware | Ipxe | System => {
                let stage = match one {
                    Firmware => Stage::Firmware,
                    Ipxe => Stage::Ipxe,
                    _ => Stage::Other,
                };
                let epoch = boots.on_discover(mac(1), stage, now);
                boots.record(mac(1), searches(), "", now);
                epoch.unwrap_or(0)
            }
            Script => boots.on_script(mac(1), now),
        };
        now += SECOND;
        if !epochs.contains(&epoch) && epoch > 0 {
            assert!(epochs.iter().all(|earlier| *earlier < epoch), "epochs grow");
            epochs.push(epoch);
        }
        seen.push(epochs.iter().position(|e| *e == epoch).map_or(0, |at| at + 1));
    }
    seen
}

#[test]
fn boots_as_they_happen() {
    let table: &[(&str, &[Do], &[usize])] = &[
        ("a ROM that is iPXE", &[Ipxe, Ack, Script], &[1, 1]),
        (
            "its reboots",
            &[Ipxe, Ack, Script, Wait(60), Ipxe, Ack, Script, Wait(9), Ipxe, Script],
            &[1, 1, 2, 2, 3, 3],
        ),
        ("firmware, then iPXE", &[Firmware, Ack, Wait(10), Ipxe, Ack, Script], &[1, 1, 1]),
        ("undionly twice", &[Firmware, Ack, Firmware, Ack, Ipxe, Ack, Script], &[1, 2, 2, 2]),
        (
            "firmware that asks again and again",
            &[Firmware, Wait(4), Firmware, Wait(8), Firmware, Ack, Ipxe, Script],
            &[1, 1, 1, 1, 1],
        ),
        (
            "firmware that gave up and was switched on later",
            &[Firmware, Wait(120), Firmware, Ack, Ipxe, Script],
            &[1, 2, 2, 2],
        ),
        (
            "an iPXE that comes too late is another boot",
            &[Firmware, Ack, Wait(120), Ipxe, Script],
            &[1, 2, 2],
        ),
        ("a user who reads the menu for an hour", &[Ipxe, Ack, Wait(3600), Script], &[1, 1]),
        (
            "the system's own DHCP opens nothing",
            &[Ipxe, Ack, Script, Wait(30), System, Ack, Wait(3600), System],
            &[1, 1, 1, 1],
        ),
        ("a system on a machine that never booted from us", &[System, Ack], &[0]),
        ("a script fetched twice", &[Ipxe, Ack, Script, Script], &[1, 1, 2]),
        ("a script out of nowhere", &[Script, Ipxe, Script], &[1, 2, 2]),
        (
            "a forged DISCOVER while it runs",
            &[Ipxe, Ack, Script, Wait(60), Firmware, Wait(60), System],
            &[1, 1, 2, 2],
        ),
        (
            "a power cycle after that",
            &[Ipxe, Script, Firmware, Wait(300), Firmware, Ack, Ipxe, Script],
            &[1, 1, 2, 3, 3, 3],
        ),
        (
            "a power cut between firmware and iPXE",
            &[Firmware, Ack, Wait(5), Firmware, Ack, Ipxe, Script],
            &[1, 2, 2, 2],
        ),
    ];
    for (what, happens, boots) in table {
        assert_eq!(play(happens), *boots, "{what}");
    }
}

#[test]
fn a_forged_discover_changes_nothing_of_the_running_boot() {
    let mut boots = Boots::new();
    boots.on_discover(mac(1), Stage::Ipxe, NOW);
    let running = boots.on_script(mac(1), NOW);
    assert_eq!(boots.on_login(mac(1), running, "iPXE", NOW + 1), 1);
    for i in 0..1000 {
        // Also when each forged one is far from the one before.
        boots.on_discover(mac(1), Stage::Firmware, NOW + i * 500 * SECOND);
        boots.record(mac(1), searches(), "", NOW + i * 500 * SECOND);
    }
    assert_eq!(boots.on_login(mac(1), running, "Linux", NOW + 2), 2);
    assert!(boots.record_at(mac(1), running, StepKind::FirstWrite, "", NOW + 3));
    assert!(!boots.record_at(mac(1), running, StepKind::FirstWrite, "", NOW + 4), "there is one first");
    let boot = boots.boot(mac(1), running).unwrap();
    let kinds: Vec<_> = boot.steps.iter().map(|step| step.kind.clone()).collect();
    let expected = [StepKind::Script, StepKind::Login(1), StepKind::Login(2), StepKind::FirstWrite];
    assert_eq!(kinds, expected);
    assert_eq!(boots.history(mac(1)).count(), 16);
}

#[test]
fn forged_requests_do_not_crowd_out_the_boot() {
    let mut boots = Boots::new();
    boots.on_discover(mac(1), Stage::Firmware, NOW);
    for _ in 0..10_000 {
        boots.record(mac(1), searches(), "", NOW);
    }
    let epoch = boots.on_script(mac(1), NOW);
    boots.on_login(mac(1), epoch, "", NOW);
    let boot = boots.current(mac(1)).unwrap();
    assert_eq!((boot.steps.len(), boot.left_out), (32 + 2, 10_000 - 32));
    for _ in 0..1000 {
        boots.record(mac(1), StepKind::Failed, "", NOW);
    }
    assert_eq!(boots.current(mac(1)).unwrap().steps.len(), 128);
}

#[test]
fn a_flood_of_machines_pushes_out_itself() {
    let mut boots = Boots::new();
    boots.on_discover(mac(1), Stage::Firmware, NOW);
    let epoch = boots.on_script(mac(1), NOW);
    for i in 0..20_000_u32 {
        let [_, a, b, c] = i.to_be_bytes();
        boots.on_discover(site::MacAddr::new([2, 0, 0, a, b, c]), Stage::Firmware, NOW + u64::from(i));
    }
    assert_eq!(boots.machines().count(), 4096);
    assert!(boots.boot(mac(1), epoch).is_some());
}

#[test]
fn epochs_grow_over_a_clock_that_goes_back_and_over_a_restart() {
    let mut boots = Boots::new();
    let first = boots.on_script(mac(1), NOW);
    let second = boots.on_script(mac(1), NOW - 5000);
    assert!(second > first);
    let other = boots.on_script(mac(2), NOW - 5000);
    assert!(other > second, "also from machine to machine");

    let mut after = Boots::new();
    after.adopt(mac(1), second, NOW - 9000);
    after.adopt(mac(1), first, NOW - 9000);
    after.adopt(mac(1), second, NOW - 9000);
    assert_eq!(after.history(mac(1)).map(|boot| boot.epoch).collect::<Vec<_>>(), [second, first]);
    assert!(after.current(mac(1)).unwrap().scripted, "the running disk's script is not rendered into");
    assert_eq!(after.on_login(mac(1), second, "again", NOW - 8000), 1);
    assert!(after.on_script(mac(1), NOW - 8000) > second);
}

#[test]
fn what_was_kept_of_a_client_is_what_there_was() {
    let mut boots = Boots::new();
    boots.on_discover(mac(2), Stage::Firmware, NOW);
    boots.record(mac(2), searches(), "", NOW);
    assert_eq!(boots.take_unsaved(), [], "nothing is kept of machines that the site doesn't know");

    let fetch = Fetch {
        path: "undionly.kpxe".into(),
        bytes: 70_000,
        size: Some(70_000),
        took_ms: 80,
        resent: 0,
        blksize: Some(1432),
        end: FetchEnd::Complete,
    };
    let mut kept: Vec<BootEntry> = Vec::new();
    let mut epoch = 0;
    for n in 0..40 {
        let now = NOW + n * 300 * SECOND;
        boots.on_discover(mac(1), Stage::Firmware, now);
        boots.record(mac(1), StepKind::TftpFile(fetch.clone()), "", now + 1);
        epoch = boots.on_script(mac(1), now + 2);
        let taken = boots.take_unsaved();
        assert_eq!(taken.len(), 1);
        kept.extend(taken.into_iter().flat_map(|(_, entries)| entries));
        boots.on_login(mac(1), epoch, "iPXE", now + 3);
        // The end of another was only guessed from the silence afterwards, and some of it was on disk by then.
        boots.record_past(mac(1), StepKind::TftpFile(fetch.clone()), "late", now + 1, now + 15 * SECOND);
        let steps = &boots.current(mac(1)).unwrap().steps;
        assert_eq!([&steps[0].detail, &steps[1].detail], ["", "late"], "in its place");
        assert!(matches!(steps.last().unwrap().kind, StepKind::Login(1)));
    }
    kept.extend(boots.take_unsaved().into_iter().flat_map(|(_, entries)| entries));
    assert_eq!(boots.take_unsaved(), [], "each step once");

    let text = serde_json::to_string(&kept).unwrap();
    let mut after = Boots::new();
    after.restore(mac(1), serde_json::from_str::<Vec<BootEntry>>(&text).unwrap());
    assert_eq!(after.entries(mac(1)), boots.entries(mac(1)));
    assert_eq!(after.history(mac(1)).count(), 16);
    assert_eq!(after.take_unsaved(), [], "what came from the disk is on it");
    assert!(after.on_script(mac(1), NOW) > epoch);
}

#[test]
fn strangers_are_forgotten_before_clients() {
    let mut boots = Boots::new();
    let mut lab = Lab::new();
    let event = lab.send(&discover(mac(1)).option(60, b"PXEClient").encode()).event;
    boots.on_dhcp(&event, NOW);
    for i in 0..20_000_u32 {
        let [_, a, b, c] = i.to_be_bytes();
        boots.on_discover(site::MacAddr::new([2, 0, 0, a, b, c]), Stage::Firmware, NOW + u64::from(i));
    }
    assert_eq!(boots.current(mac(1)).unwrap().steps.len(), 2, "a client that stalled before its script");
    for n in 0..50 {
        boots.on_discover(mac(9), Stage::Firmware, NOW + n * 500 * SECOND);
    }
    assert_eq!(boots.history(mac(9)).count(), 4);
}

#[test]
fn all_steps_together_are_bounded() {
    let mut boots = Boots::new();
    for i in 0..500_u32 {
        let [_, _, b, c] = i.to_be_bytes();
        let machine = site::MacAddr::new([2, 0, 0, 0, b, c]);
        for n in 0..16 {
            let epoch = boots.on_script(machine, NOW + n);
            for _ in 0..128 {
                boots.record_at(machine, epoch, StepKind::Failed, "", NOW + n);
            }
        }
    }
    let steps: usize = boots.machines().flat_map(|m| boots.history(m)).map(|boot| boot.steps.len()).sum();
    assert!((350_000..=400_000).contains(&steps), "{steps}");
}

#[test]
fn a_boot_that_is_not_known_takes_no_steps() {
    let mut boots = Boots::new();
    assert!(!boots.record(mac(1), StepKind::Failed, "", NOW));
    assert!(!boots.record_at(mac(1), 7, StepKind::Failed, "", NOW));
    assert_eq!(boots.on_discover(mac(1), Stage::Other, NOW), None);
    assert_eq!(boots.machines().count(), 0);
}

#[test]
fn dhcp_writes_the_timeline() {
    let mut lab = Lab::new();
    lab.settings.pool = None;
    let mut boots = Boots::new();
    let mut happens = |lab: &mut Lab, message: crate::wire::Message| {
        let event = lab.send(&message.encode()).event;
        boots.on_dhcp(&event, NOW);
    };
    let rom = |message: crate::wire::Message| message.option(93, &[0, 7]).option(60, b"PXEClient");
    happens(&mut lab, rom(discover(mac(2))));
    happens(&mut lab, rom(selecting(mac(1), ip(11), ip(2))));
    happens(&mut lab, discover(mac(5)));
    // One that is disabled is told so, in its timeline.
    happens(&mut lab, rom(discover(mac(6))));
    lab.settings.pool = Some(crate::lab::pool(100, 120));
    happens(&mut lab, rom(selecting(mac(6), ip(100), crate::lab::SERVER)));
    let kinds = |boots: &Boots, last| -> Vec<StepKind> {
        boots
            .current(mac(last))
            .map_or(vec![], |boot: &Boot| boot.steps.iter().map(|s| s.kind.clone()).collect())
    };
    let asked =
        StepKind::Discover { stage: Stage::Firmware, firmware: Some(netboot::Firmware::UefiX64), secs: 0 };
    assert_eq!(kinds(&boots, 2), [asked, StepKind::Silence]);
    let silence = &boots.current(mac(2)).unwrap().steps[1];
    assert!(silence.detail.contains("There is no pool"), "{}", silence.detail);
    let found = netboot::diagnose(boots.current(mac(6)).unwrap(), &[], NOW);
    assert!(
        found.iter().any(|one| one.cause == Cause::Refused && one.what.contains("disabled")),
        "{found:#?}"
    );
    assert_eq!(kinds(&boots, 1), [], "a REQUEST opens nothing");
    assert_eq!(kinds(&boots, 5), [], "nor does a system");
}

#[test]
fn what_is_known_late_belongs_to_the_boot_that_it_was_in() {
    let mut boots = Boots::new();
    let first = boots.on_script(mac(1), NOW);
    let second = boots.on_script(mac(1), NOW + 10 * SECOND);
    let late = |boots: &mut Boots, at| boots.record_past(mac(1), StepKind::Failed, "", at, NOW + 20 * SECOND);
    assert!(late(&mut boots, NOW + 5 * SECOND) && late(&mut boots, NOW + 15 * SECOND));
    assert!(!late(&mut boots, NOW - SECOND), "it was in none");
    for epoch in [first, second] {
        assert_eq!(boots.boot(mac(1), epoch).unwrap().steps.len(), 2);
    }
}
