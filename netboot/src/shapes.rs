//! Which shape of answer each machine takes from a proxy: the first that got it as far as fetching the program that it names.
//!
//! Firmware that dislikes an offer says nothing: it starts its search again, or gives up. So a machine that begins anew
//! without having come further is offered the next shape, and the one that worked is kept.

use std::collections::{BTreeSet, HashMap};
use std::net::Ipv4Addr;

use site::MacAddr;

use crate::paths::FilePath;
use crate::proxy::Shape;
use crate::pxe::Firmware;

/// Machines that are remembered. Beyond, the one that was silent longest is forgotten.
const MAX_MACHINES: usize = 4096;

/// How long a search goes on, in seconds. DISCOVERs that come within that time of the first are the same search, in
/// which firmware hears all of our offers: PXE asks after 4, 8, 16 and 32 s, and EDK2 alike (PXE 2.1, §2.2.2).
const SEARCH: u64 = 40;

/// After this long without a sign, in seconds, a machine that has found its shape may have been given other firmware.
const FORGET_AFTER: u64 = 30 * 24 * 60 * 60;

#[derive(Debug, Clone)]
struct Machine {
    firmware: Option<Firmware>,
    /// Which of the firmware's shapes.
    tried: usize,
    /// When the search began in which that shape was first offered, in seconds.
    since: u64,
    /// What it was last told to fetch.
    program: String,
    /// Whether it has begun to fetch that after such an offer.
    works: bool,
    /// Whether the last of them has been offered, and the first may be again.
    all_tried: bool,
    seen: u64,
}

/// What is known of all machines. Times are seconds since 1970.
#[derive(Debug, Default)]
pub struct Shapes {
    machines: HashMap<MacAddr, Machine>,
    /// All machines in the order in which they are to be forgotten.
    idle: BTreeSet<(u64, MacAddr)>,
}

impl Shapes {
    /// Nothing known.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// The shape of the offer to a machine that is searching.
    pub fn offer(&mut self, mac: MacAddr, firmware: Option<Firmware>, now: u64) -> Shape {
        let shapes = Shape::of(firmware);
        // A BIOS that was switched to UEFI begins anew.
        let known = self
            .machines
            .get(&mac)
            .filter(|known| known.firmware == firmware && now.saturating_sub(known.seen) <= FORGET_AFTER);
        let mut machine = known.cloned().unwrap_or_else(|| Machine {
            firmware,
            tried: 0,
            since: now,
            program: String::new(),
            works: false,
            all_tried: false,
            seen: now,
        });
        if now.saturating_sub(machine.since) > SEARCH {
            if !machine.works {
                machine.tried = (machine.tried + 1) % shapes.len();
                machine.all_tried |= machine.tried + 1 == shapes.len();
            }
            machine.since = now;
        }
        let shape = shapes.get(machine.tried).copied().unwrap_or(Shape::Bypass);
        self.put(mac, Machine { seen: now, ..machine });
        shape
    }

    /// A machine's firmware was told to fetch `program`, in whichever shape.
    pub fn on_told(&mut self, mac: MacAddr, program: &str) {
        if let Some(machine) = self.machines.get_mut(&mac)
            && machine.program != program
        {
            program.clone_into(&mut machine.program);
        }
    }

    /// The shape that a machine was last offered, without offering one.
    #[must_use]
    pub fn last(&self, mac: MacAddr, firmware: Option<Firmware>) -> Shape {
        let tried = self.machines.get(&mac).filter(|known| known.firmware == firmware).map_or(0, |m| m.tried);
        Shape::of(firmware).get(tried).copied().unwrap_or(Shape::Bypass)
    }

    /// A machine fetched the file `name` by TFTP, or a part of it. If it is its boot program, the offer that it had was to
    /// its liking; anything else may come from an operating system on a disk of its own, to which its firmware went on
    /// because it disliked the offer.
    pub fn on_fetch(&mut self, mac: MacAddr, name: &str, now: u64) {
        let Some(machine) = self.machines.get(&mac) else { return };
        // A Raspberry Pi fetches what its ROM knows by itself, whatever it is told.
        let told = machine.firmware == Some(Firmware::RaspberryPi)
            || FilePath::parse(name).is_some_and(|name| name.as_str().eq_ignore_ascii_case(&machine.program));
        if told {
            let machine = machine.clone();
            self.put(mac, Machine { works: true, seen: now, ..machine });
        }
    }

    /// Whether a machine has been offered every shape and took none.
    #[must_use]
    pub fn has_refused_all(&self, mac: MacAddr) -> bool {
        self.machines.get(&mac).is_some_and(|machine| !machine.works && machine.all_tried)
    }

    /// What whoever runs the site should know of a machine beside another DHCP server, in sentences; `None`: nothing.
    /// `server` is the address that it would boot from.
    #[must_use]
    pub fn advice(&self, mac: MacAddr, server: Ipv4Addr) -> Option<String> {
        let machine = self.machines.get(&mac)?;
        let shape = self.last(mac, machine.firmware);
        if machine.works {
            return Some(format!("Beside the other DHCP server it takes its offer {shape}."));
        }
        if !self.has_refused_all(mac) {
            return Some(format!(
                "It was last offered its boot program {shape}, and has not fetched it yet; when it searches again it \
                 is offered it in another form."
            ));
        }
        Some(format!(
            "It was offered its boot program in every form and did not fetch it: its firmware takes no second DHCP \
             server's offer, or the offers don't reach it. Let bootd be the DHCP server (mode = \"server\" in \
             [dhcp] of bootd.toml), or name {server} as next-server (siaddr, option 66) and the boot program as file \
             name (option 67) in the other one."
        ))
    }

    fn put(&mut self, mac: MacAddr, machine: Machine) {
        self.idle.insert((machine.seen, mac));
        let seen = machine.seen;
        if let Some(old) = self.machines.insert(mac, machine)
            && old.seen != seen
        {
            self.idle.remove(&(old.seen, mac));
        }
        if self.machines.len() > MAX_MACHINES
            && let Some((_, idlest)) = self.idle.pop_first()
        {
            self.machines.remove(&idlest);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MAC: MacAddr = MacAddr::new([2, 0, 0, 0, 0, 1]);
    const PROGRAM: &str = "snponly.efi";
    const UEFI: Option<Firmware> = Some(Firmware::UefiX64);

    #[test]
    fn one_search_has_one_shape_and_the_next_another() {
        let mut shapes = Shapes::new();
        for at in [0, 4, 12, 28] {
            assert_eq!(shapes.offer(MAC, UEFI, 1000 + at), Shape::Binl);
        }
        assert_eq!(shapes.offer(MAC, UEFI, 1060), Shape::Bypass);
        assert_eq!(shapes.offer(MAC, UEFI, 1064), Shape::Bypass);
        assert!(!shapes.has_refused_all(MAC));
        assert_eq!(shapes.offer(MAC, UEFI, 1120), Shape::Plain);
        assert!(shapes.has_refused_all(MAC));
        assert_eq!(shapes.offer(MAC, UEFI, 1180), Shape::Binl, "round again");
        assert!(shapes.has_refused_all(MAC), "still so");
        assert!(shapes.advice(MAC, Ipv4Addr::LOCALHOST).is_some_and(|text| text.contains("in every form")));
        shapes.on_told(MAC, PROGRAM);
        shapes.on_fetch(MAC, PROGRAM, 1181);
        assert!(!shapes.has_refused_all(MAC));
        assert!(
            shapes.advice(MAC, Ipv4Addr::LOCALHOST).is_some_and(|text| text.contains("to ask on port 4011"))
        );
    }

    #[test]
    fn what_worked_is_kept_until_the_firmware_is_another() {
        let mut shapes = Shapes::new();
        shapes.offer(MAC, UEFI, 1000);
        assert_eq!(shapes.offer(MAC, UEFI, 1060), Shape::Bypass);
        shapes.on_told(MAC, PROGRAM);
        shapes.on_fetch(MAC, PROGRAM, 1062);
        for at in [2000, 3000, 90_000] {
            assert_eq!(shapes.offer(MAC, UEFI, at), Shape::Bypass);
            assert_eq!(shapes.last(MAC, UEFI), Shape::Bypass);
        }
        assert_eq!(shapes.offer(MAC, Some(Firmware::Bios), 90_100), Shape::Bypass, "its first");
        assert_eq!(shapes.offer(MAC, UEFI, 90_200), Shape::Binl, "and back: forgotten");
        assert_eq!(shapes.last(MAC, Some(Firmware::Bios)), Shape::Bypass);
    }

    #[test]
    fn a_flood_pushes_out_the_idlest_only() {
        let mut shapes = Shapes::new();
        let mac = |n: u32| {
            let [a, b, c, d] = n.to_be_bytes();
            MacAddr::new([2, 0, a, b, c, d])
        };
        for n in 0..10_000u32 {
            shapes.offer(mac(n), UEFI, u64::from(n));
            shapes.offer(MAC, UEFI, u64::from(n));
            shapes.on_told(MAC, PROGRAM);
            shapes.on_fetch(MAC, PROGRAM, u64::from(n));
        }
        assert_eq!((shapes.machines.len(), shapes.idle.len()), (MAX_MACHINES, MAX_MACHINES));
        assert_eq!(shapes.offer(MAC, UEFI, 10_100), Shape::Binl);
        assert!(shapes.machines[&MAC].works);
    }

    #[test]
    fn only_the_program_that_was_offered_shows_that_the_offer_was_taken() {
        let mut shapes = Shapes::new();
        assert_eq!(shapes.offer(MAC, UEFI, 1000), Shape::Binl);
        shapes.on_told(MAC, "efi/x64/snponly.efi");
        // Its firmware went on to its own disk, and the system there fetches something.
        for name in ["wallpaper/one.png", "snponly.efi", "efi/x64", "", "../efi/x64/snponly.efi"] {
            shapes.on_fetch(MAC, name, 1100);
        }
        assert_eq!(shapes.offer(MAC, UEFI, 2000), Shape::Bypass);
        // As firmware may write it.
        shapes.on_fetch(MAC, "/EFI\\x64\\snponly.efi", 2010);
        assert_eq!(shapes.offer(MAC, UEFI, 3000), Shape::Bypass);
        // A Raspberry Pi asks for names of its own.
        let pi = Some(Firmware::RaspberryPi);
        shapes.offer(MAC, pi, 4000);
        shapes.on_told(MAC, "bootcode.bin");
        shapes.on_fetch(MAC, "8f1d22c0/start4.elf", 4010);
        assert_eq!(shapes.offer(MAC, pi, 5000), Shape::Bypass);
    }
}
