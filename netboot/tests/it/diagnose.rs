//! Timelines of boots that went wrong, and what is said of them.

use netboot::{
    Boot, Cause, Fetch, FetchEnd, Finding, Firmware, Phase, Progress, Shape, Stage, Step, StepKind, diagnose,
};

use crate::lab::{START, ip};

const NOW: u64 = START * 1000;
const SECOND: u64 = 1000;
const HOUR: u64 = 3600 * SECOND;

type Steps = Vec<(u64, StepKind)>;

/// A boot of these steps, each so many milliseconds after its start.
fn boot(steps: &[(u64, StepKind)]) -> Boot {
    boot_at(NOW, steps)
}

fn boot_at(start: u64, steps: &[(u64, StepKind)]) -> Boot {
    let step = |(after, kind): &(u64, StepKind)| {
        let detail = if kind.is_failure() { "as its step says" } else { "" };
        Step { at_ms: start + after, kind: kind.clone(), detail: detail.into() }
    };
    let scripted = steps.iter().any(|(_, kind)| *kind == StepKind::Script);
    let mut boot = Boot::new(start, start);
    boot.steps = steps.iter().map(step).collect();
    boot.scripted = scripted;
    boot
}

fn asks(stage: Stage, secs: u16) -> StepKind {
    StepKind::Discover { stage, firmware: Some(Firmware::UefiX64), secs }
}

fn offer() -> StepKind {
    StepKind::Offer { address: Some(ip(7)), shape: None }
}

fn proxy_offer() -> StepKind {
    StepKind::Offer { address: None, shape: Some(Shape::Binl) }
}

fn ack(stage: Stage) -> StepKind {
    StepKind::Ack { stage, address: Some(ip(7)) }
}

fn fetched(path: &str, bytes: u64, resent: u64, end: FetchEnd) -> StepKind {
    let (size, blksize) = (Some(100_000), Some(1468));
    StepKind::TftpFile(Fetch { path: path.into(), bytes, size, took_ms: 90, resent, blksize, end })
}

fn program(path: &str) -> StepKind {
    fetched(path, 100_000, 0, FetchEnd::Complete)
}

fn missing(path: &str) -> StepKind {
    StepKind::missing(path, ["snponly.efi", "ipxe.efi"])
}

/// A UEFI machine's boot as it should be, by as many of its steps as are wanted.
fn good(steps: usize) -> Steps {
    let all = [
        (0, asks(Stage::Firmware, 0)),
        (1, offer()),
        (4000, ack(Stage::Firmware)),
        (4400, program("snponly.efi")),
        (8000, asks(Stage::Ipxe, 4)),
        (8001, offer()),
        (9000, ack(Stage::Ipxe)),
        (9100, StepKind::Script),
        (9300, StepKind::Login(1)),
        (30_000, StepKind::Login(2)),
        (31_000, StepKind::FirstWrite),
    ];
    all.into_iter().take(steps).collect()
}

fn and_then(steps: usize, more: &[(u64, StepKind)]) -> Steps {
    [good(steps).as_slice(), more].concat()
}

fn causes(findings: &[Finding]) -> Vec<Cause> {
    findings.iter().map(|finding| finding.cause).collect()
}

#[test]
fn each_stall_has_its_cause() {
    let search = |step: &dyn Fn() -> StepKind| {
        let times = [0, 4000, 12_000, 28_000];
        times.iter().flat_map(|at| [(*at, asks(Stage::Firmware, 0)), (at + 1, step())]).collect::<Vec<_>>()
    };
    let other = || StepKind::ChoseOther { server: ip(2) };
    let table: &[(&str, Steps, Cause, &str)] = &[
        ("no address for it", search(&|| StepKind::Silence), Cause::NotAnswered, "as its step says"),
        ("no more after a NAK", and_then(2, &[(4000, StepKind::Nak)]), Cause::AddressRefused, "not to use"),
        (
            "offers that are not taken",
            search(&offer),
            Cause::OfferNotTaken,
            "or its firmware does not take them",
        ),
        (
            "offers that don't arrive",
            vec![
                (0, asks(Stage::Firmware, 0)),
                (1, offer()),
                (4000, asks(Stage::Firmware, 4)),
                (4001, offer()),
            ],
            Cause::OfferNotTaken,
            "2 times and goes on with the same search: the offers don't reach it",
        ),
        ("proxy offers and no DHCP server", search(&proxy_offer), Cause::OfferNotTaken, "no DHCP server's"),
        (
            "a shape that is not taken",
            [search(&proxy_offer), vec![(30_000, other())]].concat(),
            Cause::OfferNotTaken,
            "address from 10.77.0.2, and did not come for its boot program: its firmware does not take",
        ),
        (
            "another server won",
            and_then(2, &[(4000, other())]),
            Cause::OtherServer,
            "another DHCP server, 10.77.0.2",
        ),
        ("nothing fetched", good(3), Cause::NothingFetched, "asked for no file"),
        (
            "a file that is not there",
            and_then(3, &[(4300, missing("snponly.efl"))]),
            Cause::FileMissing,
            "the file snponly.efl, which there is not. There is snponly.efi.",
        ),
        (
            "no block arrives",
            and_then(
                3,
                &[
                    (20_000, fetched("snponly.efi", 0, 7, FetchEnd::Silent)),
                    (40_000, fetched("snponly.efi", 0, 7, FetchEnd::Silent)),
                ],
            ),
            Cause::TransferStalls,
            "begun 2 times, and not one block",
        ),
        (
            "begun anew again and again",
            and_then(
                3,
                &[
                    (6000, fetched("snponly.efi", 0, 0, FetchEnd::BegunAnew)),
                    (9000, fetched("snponly.efi", 0, 0, FetchEnd::BegunAnew)),
                ],
            ),
            Cause::TransferStalls,
            "not one block",
        ),
        (
            "silence after 90 KB",
            and_then(3, &[(20_000, fetched("snponly.efi", 90_000, 7, FetchEnd::Silent))]),
            Cause::TransferStalls,
            "after 90000 bytes",
        ),
        ("turned down", and_then(3, &[(4300, StepKind::Refused)]), Cause::Refused, "as its step says"),
        ("a program that hangs", good(4), Cause::ProgramHangs, "fetched snponly.efi, and that has not asked"),
        ("an iPXE that does not come", good(7), Cause::NoScript, "did not fetch its script"),
        ("no log-in", good(8), Cause::NoLogin, "did not log in"),
        (
            "no disk",
            and_then(8, &[(9101, StepKind::ScriptFailed)]),
            Cause::ScriptFailed,
            "could not be made: as its step says.",
        ),
        (
            "a disk that takes long",
            and_then(8, &[(13_100, StepKind::Waits), (19_200, StepKind::Waits)]),
            Cause::DiskSlow,
            "was not there when it last asked",
        ),
        (
            "no log-in to a disk that took long",
            and_then(8, &[(13_100, StepKind::Waits), (15_200, StepKind::Script)]),
            Cause::NoLogin,
            "did not log in",
        ),
        (
            "a wrong secret",
            and_then(8, &[(9200, StepKind::LoginRefused { chap: true })]),
            Cause::ChapRefused,
            "CHAP",
        ),
        (
            "a wrong name",
            and_then(8, &[(9200, StepKind::LoginRefused { chap: false })]),
            Cause::LoginRefused,
            "as its step says",
        ),
        (
            "a system without iSCSI",
            and_then(9, &[(20_000, StepKind::Lost)]),
            Cause::NoSecondLogin,
            "the operating system did not log in",
        ),
        ("a full disk", and_then(11, &[(90_000, StepKind::DiskFull)]), Cause::DiskFull, "no more writes"),
        (
            "a broken disk",
            and_then(11, &[(90_000, StepKind::DiskFailed)]),
            Cause::DiskFailed,
            "as its step says",
        ),
        ("who knows", vec![(0, StepKind::Failed)], Cause::Unknown, "nothing in its timeline"),
    ];
    for (name, steps, cause, words) in table {
        let found = diagnose(&boot(steps), &[], NOW + HOUR);
        assert_eq!(causes(&found), [*cause], "{name}: {found:#?}");
        assert!(found[0].what.contains(words), "{name}: {}", found[0].what);
        assert!(found[0].stops && !found[0].remedy.is_empty() && !found[0].evidence.is_empty(), "{name}");
        assert!(found[0].evidence.len() <= 3, "{name}");
    }
}

#[test]
fn a_transfer_of_which_no_block_arrived_may_have_the_wrong_port_and_one_that_stalled_later_has_not() {
    for (bytes, by_port) in [(0, true), (90_000, false)] {
        let steps = and_then(3, &[(20_000, fetched("snponly.efi", bytes, 7, FetchEnd::Silent))]);
        let found = diagnose(&boot(&steps), &[], NOW + HOUR);
        let remedy = &found[0].remedy;
        assert_eq!(remedy.contains("single_port"), by_port, "{remedy}");
        assert!(remedy.contains("bootd explain MAC --probe"), "{remedy}");
    }
}

#[test]
fn what_goes_well_has_no_findings_however_far_it_is() {
    for steps in 1..=11 {
        let steps = good(steps);
        let now = NOW + steps.last().unwrap().0 + SECOND;
        assert_eq!(diagnose(&boot(&steps), &[], now), [], "{steps:?}");
    }
    let runs = boot(&good(10));
    assert_eq!(diagnose(&runs, &[], NOW + 1000 * HOUR), []);
    assert_eq!(runs.progress(NOW + 1000 * HOUR), Progress::Running);
    let over = boot(&and_then(11, &[(40_000, StepKind::Logout), (40_001, StepKind::Lost)]));
    assert_eq!((over.progress(NOW + HOUR), diagnose(&over, &[], NOW + HOUR)), (Progress::Ended, vec![]));
}

#[test]
fn what_is_usual_is_no_failure() {
    let usual: &[(&str, Steps)] = &[
        (
            "a loader that tries names",
            and_then(
                3,
                &[
                    (4100, missing("pxelinux.cfg/01-52-54-00-77-00-01")),
                    (4200, missing("pxelinux.cfg/0A4D")),
                    (4300, program("pxelinux.cfg/default")),
                ],
            ),
        ),
        (
            "UEFI that aborts once it knows the length",
            and_then(
                3,
                &[(4100, fetched("snponly.efi", 0, 0, FetchEnd::Aborted)), (4300, program("snponly.efi"))],
            ),
        ),
        (
            "a NAK, and then an address",
            and_then(
                2,
                &[
                    (100, StepKind::Nak),
                    (4000, asks(Stage::Firmware, 4)),
                    (4001, offer()),
                    (4002, ack(Stage::Firmware)),
                ],
            ),
        ),
        ("a user at the menu", and_then(8, &[(9200, StepKind::Menu { name: "lab".into() })])),
        (
            "beside a DHCP server",
            vec![
                (0, asks(Stage::Firmware, 0)),
                (1, proxy_offer()),
                (4000, StepKind::ChoseOther { server: ip(2) }),
                (4001, StepKind::Told { stage: Stage::Firmware }),
                (4400, program("snponly.efi")),
            ],
        ),
        (
            "one lost transfer that was made good",
            and_then(
                3,
                &[(9000, fetched("snponly.efi", 20_000, 7, FetchEnd::Gone)), (9500, program("snponly.efi"))],
            ),
        ),
        ("bytes in the wrong order", vec![(0, asks(Stage::Firmware, 1024)), (1, offer())]),
    ];
    for (name, steps) in usual {
        let now = NOW + steps.last().unwrap().0 + 10 * SECOND;
        assert_eq!(diagnose(&boot(steps), &[], now), [], "{name}");
    }
}

#[test]
fn spanning_tree_is_told_whether_or_not_the_boot_goes_on() {
    let late =
        |stage| boot(&[(0, asks(stage, 31)), (1, offer()), (3000, ack(stage)), (3100, StepKind::Script)]);
    for stage in [Stage::Firmware, Stage::Ipxe] {
        let found = diagnose(&late(stage), &[], NOW + 4 * SECOND);
        assert_eq!(causes(&found), [Cause::SpanningTree], "{found:#?}");
        assert!(!found[0].stops && found[0].remedy.contains("portfast"), "{found:#?}");
    }
    // A machine whose earlier DISCOVERs were heard is a patient one.
    let patient = boot(&[(0, asks(Stage::Firmware, 4)), (1, offer()), (30_000, asks(Stage::Firmware, 34))]);
    assert_eq!(diagnose(&patient, &[], NOW + 31 * SECOND), []);
}

#[test]
fn a_program_that_is_fetched_again_and_again_is_a_loop() {
    let turn = |n: u64| boot_at(NOW + n * 10 * SECOND, &good(4));
    let turns: Vec<Boot> = (0..3).map(turn).collect();
    let now = NOW + 25 * SECOND;
    assert_eq!(diagnose(&turns[1], &[&turns[0]], now), [], "twice happens");
    let found = diagnose(&turns[2], &[&turns[1], &turns[0]], now);
    assert_eq!(causes(&found), [Cause::BootLoop]);
    assert!(found[0].what.contains("snponly.efi 3 times"), "{found:#?}");
    let day_before = boot_at(NOW - 24 * HOUR, &good(4));
    assert_eq!(diagnose(&turns[1], &[&turns[0], &day_before], now), [], "not of this round");
}

#[test]
fn what_is_slow_is_slower_than_it_was() {
    let usual: Vec<Boot> = (1..=5).map(|n| boot_at(NOW - n * HOUR, &good(11))).collect();
    let earlier: Vec<&Boot> = usual.iter().collect();
    let mut steps = good(11);
    for (at, _) in steps.iter_mut().skip(9) {
        *at += 60_000;
    }
    let slow = boot(&steps);
    let found = diagnose(&slow, &earlier, NOW + 100 * SECOND);
    assert_eq!(causes(&found), [Cause::Slow]);
    assert_eq!(
        found[0].what,
        "It took 80.7 s from its disk to its operating system, which used to take 20.7 s."
    );
    assert_eq!(diagnose(&slow, &earlier[..2], NOW + 100 * SECOND), [], "two boots are no habit");
    assert_eq!(diagnose(&boot(&good(11)), &earlier, NOW + 100 * SECOND), []);
}

#[test]
fn phases_are_what_lies_between_milestones() {
    let phases = boot(&good(11)).phases();
    let expected = [
        (Phase::Address, 4000),
        (Phase::Program, 400),
        (Phase::Script, 4700),
        (Phase::Disk, 200),
        (Phase::System, 20_700),
        (Phase::Write, 1000),
    ];
    assert_eq!(phases, expected);
}

#[test]
fn a_cause_is_a_word() {
    assert_eq!(Cause::ChapRefused.to_string(), "chap-refused");
    assert_eq!(serde_json::to_string(&Cause::ChapRefused).unwrap(), "\"chap-refused\"");
}
