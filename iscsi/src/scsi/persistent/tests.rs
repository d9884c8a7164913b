//! Both halves together: commands of three sessions, and what each may do and hears.

use super::super::limits::MAX_REGISTRATIONS;
use super::super::testing::{A, B, Bench, sense};
use super::super::{Completion, NexusId, Status};

const C: NexusId = NexusId::new(3);
/// Never registers: it only looks.
const OBSERVER: NexusId = NexusId::new(9);

const REGISTER: u8 = 0;
const RESERVE: u8 = 1;
const RELEASE: u8 = 2;
const CLEAR: u8 = 3;
const PREEMPT: u8 = 4;
const REGISTER_AND_IGNORE: u8 = 6;

const KINDS: [u8; 6] = [1, 3, 5, 6, 7, 8];

fn bench() -> Bench {
    let bench = Bench::new();
    [B, C, OBSERVER].into_iter().for_each(|it| bench.join(it));
    bench
}

fn out(bench: &mut Bench, nexus: NexusId, action: u8, kind: u8, key: u64, action_key: u64) -> Completion {
    let mut list = key.to_be_bytes().to_vec();
    list.extend(action_key.to_be_bytes());
    list.extend([0; 8]);
    bench.run_as(nexus, &[0x5f, action, kind, 0, 0, 0, 0, 0, 24, 0], &list)
}

fn good(bench: &mut Bench, nexus: NexusId, action: u8, kind: u8, key: u64, action_key: u64) {
    let completion = out(bench, nexus, action, kind, key, action_key);
    assert_eq!(completion.status, Status::Good, "{action} {kind} {key} {action_key}: {completion:?}");
}

fn conflict(bench: &mut Bench, nexus: NexusId, action: u8, kind: u8, key: u64, action_key: u64) {
    let completion = out(bench, nexus, action, kind, key, action_key);
    assert_eq!(completion.status, Status::ReservationConflict, "{action} {kind} {key} {action_key}");
}

fn read(bench: &mut Bench, action: u8) -> Vec<u8> {
    let completion = bench.run_as(OBSERVER, &[0x5e, action, 0, 0, 0, 0, 0, 1, 0, 0], &[]);
    assert_eq!(completion.status, Status::Good);
    completion.data_in.to_bytes().to_vec()
}

fn keys(bench: &mut Bench) -> (u32, Vec<u64>) {
    let data = read(bench, 0);
    let generation = u32::from_be_bytes(data[..4].try_into().unwrap());
    assert_eq!(u32::from_be_bytes(data[4..8].try_into().unwrap()) as usize, data.len() - 8);
    (generation, data[8..].chunks(8).map(|it| u64::from_be_bytes(it.try_into().unwrap())).collect())
}

fn reserved(bench: &mut Bench) -> Option<(u8, u64)> {
    let data = read(bench, 1);
    let body = &data[8..];
    (!body.is_empty()).then(|| (body[13], u64::from_be_bytes(body[..8].try_into().unwrap())))
}

/// The unit attentions that wait for a session.
fn told(bench: &mut Bench, nexus: NexusId) -> Vec<(u8, u8, u8)> {
    let mut all = Vec::new();
    loop {
        let completion = bench.run_as(nexus, &[0; 6], &[]);
        match completion.status {
            Status::CheckCondition => all.push(sense(&completion)),
            _ => return all,
        }
    }
}

#[test]
fn registering_wants_the_key_that_is_there() {
    let mut bench = bench();
    conflict(&mut bench, A, REGISTER, 0, 9, 1);
    good(&mut bench, A, REGISTER, 0, 0, 0);
    assert_eq!(keys(&mut bench), (0, vec![]));
    good(&mut bench, A, REGISTER, 0, 0, 1);
    assert_eq!(keys(&mut bench), (1, vec![1]));
    conflict(&mut bench, A, REGISTER, 0, 0, 2);
    good(&mut bench, A, REGISTER, 0, 1, 2);
    good(&mut bench, A, REGISTER_AND_IGNORE, 0, 77, 3);
    good(&mut bench, B, REGISTER_AND_IGNORE, 0, 0, 4);
    assert_eq!(keys(&mut bench), (4, vec![3, 4]));
    good(&mut bench, A, REGISTER, 0, 3, 0);
    assert_eq!(keys(&mut bench), (5, vec![4]));
}

#[test]
fn a_registration_is_the_ports_and_outlives_its_session() {
    let mut bench = bench();
    good(&mut bench, A, REGISTER, 0, 0, 1);
    good(&mut bench, A, RESERVE, 3, 1, 0);
    bench.lun.leave(A);
    assert_eq!(told(&mut bench, B), []);
    bench.lun.reset();
    bench.join(A);
    assert_eq!(told(&mut bench, OBSERVER), [(6, 0x29, 3)]);
    assert_eq!(reserved(&mut bench), Some((3, 1)));
    good(&mut bench, A, RELEASE, 3, 1, 0);
}

#[test]
fn each_type_lets_in_whom_it_says() {
    let (reading, writing) = ([0x28, 0, 0, 0, 0, 0, 0, 0, 1, 0], [0x2a, 0, 0, 0, 0, 0, 0, 0, 1, 0]);
    for (kind, registrant, [stranger_reads, stranger_writes]) in [
        (1, [true, false], [true, false]),
        (3, [false, false], [false, false]),
        (5, [true, true], [true, false]),
        (6, [true, true], [false, false]),
        (7, [true, true], [true, false]),
        (8, [true, true], [false, false]),
    ] {
        let mut bench = bench();
        good(&mut bench, A, REGISTER, 0, 0, 1);
        good(&mut bench, B, REGISTER, 0, 0, 2);
        good(&mut bench, A, RESERVE, kind, 1, 0);
        let holders_key = if kind >= 7 { 0 } else { 1 };
        assert_eq!(reserved(&mut bench), Some((kind, holders_key)));
        let all = [(A, [true, true]), (B, registrant), (C, [stranger_reads, stranger_writes])];
        for (nexus, [reads, writes]) in all {
            let status = |allowed| if allowed { Status::Good } else { Status::ReservationConflict };
            assert_eq!(bench.run_as(nexus, &reading, &[]).status, status(reads), "{kind} {nexus:?}");
            assert_eq!(bench.run_as(nexus, &writing, &[0; 512]).status, status(writes), "{kind} {nexus:?}");
            assert_eq!(bench.run_as(nexus, &[0; 6], &[]).status, Status::Good);
            let capacity = bench.run_as(nexus, &[0x25, 0, 0, 0, 0, 0, 0, 0, 0, 0], &[]);
            assert_eq!(capacity.status, Status::Good);
            let start = bench.run_as(nexus, &[0x1b, 0, 0, 0, 1, 0], &[]);
            assert_eq!(start.status, Status::Good);
            let stop = bench.run_as(nexus, &[0x1b, 0, 0, 0, 0, 0], &[]);
            assert_eq!(stop.status, status(writes));
        }
        assert_eq!(bench.run_as(C, &[0x16, 0, 0, 0, 0, 0], &[]).status, Status::ReservationConflict);
        assert_eq!(bench.run_as(A, &[0x17, 0, 0, 0, 0, 0], &[]).status, Status::ReservationConflict);
    }
}

#[test]
fn reserving_and_releasing_is_for_registrants_by_their_key() {
    for kind in KINDS {
        let mut bench = bench();
        conflict(&mut bench, A, RESERVE, kind, 0, 0);
        good(&mut bench, A, REGISTER, 0, 0, 1);
        good(&mut bench, B, REGISTER, 0, 0, 2);
        conflict(&mut bench, A, RESERVE, kind, 2, 0);
        good(&mut bench, A, RESERVE, kind, 1, 0);
        good(&mut bench, A, RESERVE, kind, 1, 0);
        let other = if kind == 1 { 3 } else { 1 };
        conflict(&mut bench, A, RESERVE, other, 1, 0);
        let completion = out(&mut bench, A, RELEASE, other, 1, 0);
        assert_eq!(sense(&completion), (5, 0x26, 4));
        conflict(&mut bench, A, RELEASE, kind, 2, 0);
        if kind < 7 {
            conflict(&mut bench, B, RESERVE, kind, 2, 0);
            good(&mut bench, B, RELEASE, kind, 2, 0);
            assert!(reserved(&mut bench).is_some(), "who doesn't hold it can't release it");
        } else {
            good(&mut bench, B, RESERVE, kind, 2, 0);
        }
        good(&mut bench, A, RELEASE, kind, 1, 0);
        assert_eq!(reserved(&mut bench), None);
        let expected = if kind >= 5 { vec![(6, 0x2a, 4)] } else { vec![] };
        assert_eq!(told(&mut bench, B), expected);
        assert_eq!([told(&mut bench, A), told(&mut bench, C)], [[], []]);
        good(&mut bench, A, RELEASE, kind, 1, 0);
    }
}

#[test]
fn a_holder_that_unregisters_gives_its_reservation_up() {
    for kind in KINDS {
        let mut bench = bench();
        good(&mut bench, A, REGISTER, 0, 0, 1);
        good(&mut bench, B, REGISTER, 0, 0, 2);
        good(&mut bench, A, RESERVE, kind, 1, 0);
        good(&mut bench, A, REGISTER, 0, 1, 0);
        let stays = kind >= 7;
        assert_eq!(reserved(&mut bench), stays.then_some((kind, 0)));
        let expected = if matches!(kind, 5 | 6) { vec![(6, 0x2a, 4)] } else { vec![] };
        assert_eq!(told(&mut bench, B), expected);
        good(&mut bench, B, REGISTER, 0, 2, 0);
        assert_eq!(reserved(&mut bench), None);
    }
}

#[test]
fn clearing_ends_everything() {
    let mut bench = bench();
    good(&mut bench, A, REGISTER, 0, 0, 1);
    good(&mut bench, B, REGISTER, 0, 0, 2);
    good(&mut bench, A, RESERVE, 3, 1, 0);
    conflict(&mut bench, C, CLEAR, 0, 0, 0);
    good(&mut bench, B, CLEAR, 0, 2, 0);
    assert_eq!((keys(&mut bench), reserved(&mut bench)), ((3, vec![]), None));
    assert_eq!(told(&mut bench, A), [(6, 0x2a, 3)]);
    assert_eq!(told(&mut bench, B), []);
}

#[test]
fn preempting_ends_registrations_and_takes_the_holders_place() {
    for kind in KINDS {
        let mut bench = bench();
        for (nexus, key) in [(A, 1), (B, 2), (C, 3)] {
            good(&mut bench, nexus, REGISTER, 0, 0, key);
        }
        good(&mut bench, B, PREEMPT, 3, 2, 1);
        assert_eq!(keys(&mut bench), (4, vec![2, 3]), "without a reservation only registrations end");
        assert_eq!(reserved(&mut bench), None);
        assert_eq!(told(&mut bench, A), [(6, 0x2a, 5)]);
        conflict(&mut bench, B, PREEMPT, kind, 2, 1);
        good(&mut bench, A, REGISTER, 0, 0, 1);
        good(&mut bench, A, RESERVE, kind, 1, 0);
        conflict(&mut bench, A, PREEMPT, kind, 2, 2);
        let victim = if kind >= 7 { 0 } else { 1 };
        good(&mut bench, B, PREEMPT, 1, 2, victim);
        assert_eq!(reserved(&mut bench), Some((1, 2)));
        let (left, c_is_told) = match kind {
            1 | 3 => (vec![2, 3], vec![]),
            5 | 6 => (vec![2, 3], vec![(6, 0x2a, 4)]),
            _ => (vec![2], vec![(6, 0x2a, 5)]),
        };
        assert_eq!(keys(&mut bench).1, left, "{kind}");
        assert_eq!(told(&mut bench, A), [(6, 0x2a, 5)]);
        assert_eq!(told(&mut bench, B), []);
        assert_eq!(told(&mut bench, C), c_is_told, "{kind}");
    }
}

#[test]
fn a_preemptor_that_keeps_the_type_releases_nobody() {
    for kind in [5, 6] {
        let mut bench = bench();
        for (nexus, key) in [(A, 1), (B, 2), (C, 3)] {
            good(&mut bench, nexus, REGISTER, 0, 0, key);
        }
        good(&mut bench, A, RESERVE, kind, 1, 0);
        good(&mut bench, B, PREEMPT, kind, 2, 1);
        assert_eq!(reserved(&mut bench), Some((kind, 2)));
        assert_eq!([told(&mut bench, B), told(&mut bench, C)], [[], []]);
    }
}

#[test]
fn nobody_can_be_preempted_by_key_0_unless_all_hold_the_reservation() {
    let mut bench = bench();
    good(&mut bench, A, REGISTER, 0, 0, 1);
    assert_eq!(sense(&out(&mut bench, A, PREEMPT, 1, 1, 0)), (5, 0x26, 0));
    good(&mut bench, A, RESERVE, 1, 1, 0);
    assert_eq!(sense(&out(&mut bench, A, PREEMPT, 1, 1, 0)), (5, 0x26, 0));
    good(&mut bench, A, PREEMPT, 3, 1, 1);
    assert_eq!((keys(&mut bench).1, reserved(&mut bench)), (vec![1], Some((3, 1))));
}

#[test]
fn lists_that_cannot_be_taken_are_refused() {
    let mut bench = bench();
    let cdb = [0x5f, 0, 0, 0, 0, 0, 0, 0, 24, 0];
    assert_eq!(bench.bad(&[0x5f, 0, 0, 0, 0, 0, 0, 0, 25, 0], &[0; 25]), (5, 0x1a, 0));
    assert_eq!(bench.bad(&cdb, &[0; 23]), (5, 0x1a, 0));
    for flag in [0x08, 0x01] {
        let mut list = [0; 24];
        list[20] = flag;
        assert_eq!(bench.bad(&cdb, &list), (5, 0x26, 0));
    }
    for scope_and_type in [0x00, 0x02, 0x04, 0x09, 0x11] {
        let completion = out(&mut bench, A, RESERVE, scope_and_type, 0, 0);
        assert_eq!(sense(&completion), (5, 0x24, 0));
    }
    for action in [5, 7, 8, 0x1f] {
        assert_eq!(sense(&out(&mut bench, A, action, 0, 0, 0)), (5, 0x24, 0));
        assert_eq!(bench.bad(&[0x5e, action, 0, 0, 0, 0, 0, 1, 0, 0], &[]), (5, 0x24, 0));
    }
}

#[test]
fn registrations_are_bounded() {
    let mut bench = Bench::new();
    let most = MAX_REGISTRATIONS as u64;
    for number in 10..10 + most {
        bench.join(NexusId::new(number));
        good(&mut bench, NexusId::new(number), REGISTER, 0, 0, number);
    }
    assert_eq!(sense(&out(&mut bench, A, REGISTER, 0, 0, 1)), (5, 0x55, 4));
    good(&mut bench, NexusId::new(10), REGISTER, 0, 10, 0);
    good(&mut bench, A, REGISTER, 0, 0, 1);
}

#[test]
fn full_status_names_the_ports() {
    let mut bench = bench();
    good(&mut bench, A, REGISTER, 0, 0, 0x0102_0304_0506_0708);
    good(&mut bench, B, REGISTER, 0, 0, 2);
    good(&mut bench, A, RESERVE, 3, 0x0102_0304_0506_0708, 0);
    let data = read(&mut bench, 3);
    let first = &data[8..];
    assert_eq!(first[..8], [1, 2, 3, 4, 5, 6, 7, 8]);
    assert_eq!(first[12..14], [0x03, 3]);
    assert_eq!(first[18..20], [0, 1], "the target port that it is registered at");
    let length = u32::from_be_bytes(first[20..24].try_into().unwrap()) as usize;
    let id = &first[24..24 + length];
    assert_eq!((id[0], usize::from(id[3])), (0x45, length - 4));
    let name = b"iqn.2026-01.internal.lab.client:system-disk,i,0x400000000001\0";
    assert_eq!(&id[4..4 + name.len()], name);
    assert_eq!(first[24 + length + 12..][..2], [0x02, 0]);
}

#[test]
fn keys_are_cut_to_the_room_but_their_length_is_told() {
    let mut bench = bench();
    good(&mut bench, A, REGISTER, 0, 0, 1);
    assert_eq!(bench.good(&[0x5e, 0, 0, 0, 0, 0, 0, 0, 8, 0], &[]), [0, 0, 0, 1, 0, 0, 0, 8]);
    assert_eq!(read(&mut bench, 2), [0, 8, 4, 0x80, 0xea, 1, 0, 0]);
}
