//! Whole exchanges against what bootd answers to them. What the machines send is captured from real firmware and clients (BIOS
//! ROMs, UEFI x64 with PXE and HTTP, dhclient, udhcpc), or made where none is at hand: UEFI on ia32 and arm64 after the sources
//! of EDK2, the Raspberry Pi after requests that others show, the rest of these. The head of a file says what is captured.
//!
//! Each file of `tests/golden` is one boot: `#` comments, `>` what the machine sends, `!` what else happens (`wait`
//! so many seconds, `script`: its script is rendered, `proxy`: from now on another server gives the addresses, `4011`: what
//! is sent next goes to that port, `fetched`: it fetched its boot program). The rest is written by the test: `<` what it is answered and
//! where that goes, `=` why, and at the end, after `@`, its timeline. `BOOTD_BLESS=1` writes them anew.

use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};

use dhcproto::{Decodable, Decoder, Encodable};
use netboot::{Boots, Destination, Door, Mode, Packet, Reply, Shapes, respond_as_proxy};

use crate::lab::Lab;
use crate::text::{dump, read};
use crate::wire::Message;

#[test]
fn exchanges_are_answered_as_before() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden");
    let mut files: Vec<PathBuf> = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    files.sort();
    assert!(files.len() >= 8, "golden files are missing");
    let bless = std::env::var_os("BOOTD_BLESS").is_some();
    let mut wrong = Vec::new();
    for file in files {
        let before = fs::read_to_string(&file).unwrap();
        let after = replay(&before);
        if bless {
            fs::write(&file, after).unwrap();
        } else if before != after {
            wrong.push(format!("{}:\n{}", file.display(), difference(&before, &after)));
        }
    }
    assert!(wrong.is_empty(), "{}\nIf this is right, run with BOOTD_BLESS=1.", wrong.join("\n"));
}

/// Plays a file's exchange and writes the file as it should be.
fn replay(text: &str) -> String {
    let mut lab = Lab::new();
    let mut boots = Boots::new();
    let mut machine = None;
    let mut shapes = Shapes::new();
    let mut program = String::new();
    let mut door = Door::Dhcp;
    let mut out = String::new();
    let mut lines = text.lines().peekable();
    while let Some(line) = lines.next() {
        if let Some(first) = line.strip_prefix("> ") {
            writeln!(out, "{line}").unwrap();
            let mut sent = vec![first];
            while let Some(more) = lines.peek().and_then(|line| line.strip_prefix("> ")) {
                writeln!(out, "> {more}").unwrap();
                sent.push(more);
                lines.next();
            }
            let request = read(&sent);
            machine = Some(request.mac);
            lab.now += 1;
            let outcome = match (lab.settings.mode, std::mem::take(&mut door)) {
                (Mode::Server, Door::Dhcp) => lab.send(&request.encode()),
                (_, door) => {
                    let packet = Packet::parse(&request.encode()).unwrap();
                    let Lab { iface, site, settings, now, .. } = &lab;
                    respond_as_proxy(door, &packet, iface, site, settings, &mut shapes, *now)
                }
            };
            program = outcome
                .event
                .plan
                .boot_program
                .as_ref()
                .map_or_else(String::new, |program| program.name.clone());
            // Who says that another has its address is right here.
            if let Some(address) = outcome.untried.filter(|_| outcome.reply.is_none()) {
                lab.leases.on_conflict(request.mac, address, None, lab.settings.pool, lab.now);
            }
            boots.on_dhcp(&outcome.event, lab.now * 1000);
            if let Some(reply) = &outcome.reply {
                peer_agrees(&reply.bytes);
                tell_reply(&mut out, reply);
            }
            writeln!(out, "= {}", outcome.event.decision).unwrap();
            for reason in &outcome.event.plan.why {
                writeln!(out, "= {reason}").unwrap();
            }
        } else if let Some(what) = line.strip_prefix("! ") {
            writeln!(out, "{line}").unwrap();
            match what.split_once(' ') {
                Some(("wait", seconds)) => lab.now += seconds.parse::<u64>().unwrap(),
                None if what == "proxy" => lab.settings.mode = Mode::Proxy,
                None if what == "4011" => door = Door::Binl,
                None if what == "fetched" => {
                    lab.now += 1;
                    shapes.on_fetch(machine.unwrap(), &program, lab.now);
                }
                None if what == "script" => {
                    lab.now += 1;
                    boots.on_script(machine.unwrap(), lab.now * 1000);
                }
                _ => panic!("what is {line:?}?"),
            }
        } else if line.is_empty() || line.starts_with('#') {
            writeln!(out, "{line}").unwrap();
        }
    }
    tell_boots(&mut out, &boots, &lab, machine.unwrap());
    out
}

fn tell_reply(out: &mut String, reply: &Reply) {
    match reply.to {
        Destination::Broadcast => writeln!(out, "< to everyone"),
        Destination::Unicast { ip, mac } => writeln!(out, "< to {ip}, which is at {mac}"),
        Destination::Relay(relay) => writeln!(out, "< to the relay {relay}"),
        Destination::Client(address) => writeln!(out, "< to {address}"),
    }
    .unwrap();
    for line in dump(&Message::decode(&reply.bytes)).lines() {
        writeln!(out, "< {line}").unwrap();
    }
}

fn tell_boots(out: &mut String, boots: &Boots, lab: &Lab, machine: site::MacAddr) {
    let start = crate::lab::START * 1000;
    let boots: Vec<_> = boots.history(machine).collect();
    for boot in boots.iter().rev() {
        let script = if boot.scripted { "with its script" } else { "without a script" };
        writeln!(out, "@ boot {} ms after the start, {script}", boot.epoch - start).unwrap();
        for step in &boot.steps {
            let line = format!("@ {:>6} {} {}", step.at_ms - start, step.kind, step.detail);
            writeln!(out, "{}", line.trim_end()).unwrap();
        }
    }
    for lease in lab.leases.entries() {
        let Some(left) = lease.expires.checked_sub(lab.now) else { continue };
        writeln!(out, "@ {} is {:?} to {} for {left} s", lease.address, lease.state, lease.mac).unwrap();
    }
}

/// dhcproto reads of our answer what we meant: the same fields, and each option once with the same bytes.
fn peer_agrees(bytes: &[u8]) {
    let ours = Message::decode(bytes);
    let theirs = dhcproto::v4::Message::decode(&mut Decoder::new(bytes)).unwrap();
    assert_eq!(theirs.xid(), ours.xid);
    assert_eq!((theirs.ciaddr(), theirs.yiaddr()), (ours.ciaddr, ours.yiaddr));
    assert_eq!((theirs.siaddr(), theirs.giaddr()), (ours.siaddr, ours.giaddr));
    assert_eq!(theirs.chaddr(), ours.mac.octets());
    let file = theirs.fname().unwrap_or_default();
    assert_eq!(String::from_utf8_lossy(file).trim_end_matches('\0'), ours.file);
    assert_eq!(theirs.opts().len(), ours.options.len());
    for (code, option) in theirs.opts().iter() {
        let encoded = option.to_vec().unwrap();
        assert_eq!(ours.get((*code).into()), Some(&encoded[2..]), "option {code:?}");
    }
}

fn difference(before: &str, after: &str) -> String {
    let at = before.lines().zip(after.lines()).take_while(|(b, a)| b == a).count();
    let show = |text: &str| text.lines().skip(at).take(5).map(|l| format!("    {l}\n")).collect::<String>();
    format!("  line {}, was\n{}  is\n{}", at + 1, show(before), show(after))
}
