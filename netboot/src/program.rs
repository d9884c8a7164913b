//! What a boot program is, by its bytes: for which machines, and whether Secure Boot may take it.
//!
//! Only its head is looked at ([`HEAD_LEN`]), and whatever it says of itself is checked before it is used: it comes from
//! an admin's hand, but from wherever the admin got it.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::pxe::Firmware;

/// How much of a program has to be read to know what it is, in bytes. Headers and section tables end long before; a
/// program whose headers lie behind is refused.
pub const HEAD_LEN: usize = 64 << 10;

/// How many sections are looked at for `.sbat`; the PE format has at most so many.
const MAX_SECTIONS: usize = 96;

/// What kind of program it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum ProgramKind {
    /// An EFI application.
    Efi,
    /// A network boot program of BIOS's PXE: iPXE, PXELINUX.
    Pxe,
    /// A Linux kernel, or something that can be started as one, wimboot or `ipxe.lkrn` for instance: for iPXE or a boot
    /// loader, not for firmware.
    Kernel,
    /// A Raspberry Pi's.
    RaspberryPi,
}

/// A boot program, as far as its head tells.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Program {
    /// What kind it is.
    pub kind: ProgramKind,
    /// Which UEFI it runs on; `None`: none.
    pub firmware: Option<Firmware>,
    /// Whether it carries a signature. By whom, and whether a firmware trusts that, is not looked at.
    pub signed: bool,
    /// Whether it says which generation of its kind it is (section `.sbat`). shim refuses what does not.
    pub sbat: bool,
    /// What it is called, where it says so.
    pub known_as: Option<String>,
}

/// Why a file is no boot program.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum NoProgram {
    /// Too short for anything.
    #[error("it is empty, or too short to be a boot program")]
    TooShort,
    /// Something else altogether.
    #[error("it is {0}, not a boot program")]
    Else(&'static str),
    /// A Windows or EFI file that firmware can't start.
    #[error("it is a PE file that firmware can't start: {0}")]
    Subsystem(&'static str),
    /// For a machine that bootd knows nothing of.
    #[error("it is an EFI program for the machine type {0:#06x}, which bootd knows no firmware of")]
    Machine(u16),
    /// A PE file whose headers make no sense.
    #[error("it is a damaged or cut off EFI program: {0}")]
    Damaged(&'static str),
    /// Nothing that is recognised.
    #[error("nothing in it tells that it is a boot program")]
    Unrecognised,
}

/// What else people have at hand, by how it begins.
const ELSE: [(&[u8], &str); 9] = [
    (b"\x1f\x8b", "a gzip archive: unpack it first"),
    (b"\xfd7zXZ", "an xz archive: unpack it first"),
    (b"BZh", "a bzip2 archive: unpack it first"),
    (b"PK\x03\x04", "a zip archive: unpack it first"),
    (b"!<arch>", "a Debian package or an archive: unpack it first"),
    (b"\xed\xab\xee\xdb", "an RPM package: unpack it first"),
    (b"#!", "a script"),
    (b"<", "a web page or XML: was its download refused?"),
    (b"MSWIM\0\0\0", "a WIM image"),
];

impl Program {
    /// Looks at the first bytes of a file, [`HEAD_LEN`] of them or all, that is `len` bytes long and called `name`.
    ///
    /// # Errors
    /// When it is no boot program.
    pub fn inspect(name: &str, head: &[u8], len: u64) -> Result<Self, NoProgram> {
        if head.len() < 64 {
            return Err(NoProgram::TooShort);
        }
        if let Some((_, what)) = ELSE.iter().find(|(magic, _)| head.starts_with(magic)) {
            return Err(NoProgram::Else(what));
        }
        let plain = |kind, known_as: Option<&str>| Self {
            kind,
            firmware: None,
            signed: false,
            sbat: false,
            known_as: known_as.map(str::to_owned),
        };
        let is_kernel = head.get(0x202..0x206) == Some(b"HdrS");
        let known_as = known_as(head);
        if let Some(pe) = Pe::of(head)? {
            let firmware = match (pe.firmware(), is_kernel) {
                (Ok(firmware), _) => firmware,
                // wimboot of some versions and 32-bit kernels: what counts is the kernel's head.
                (Err(_), true) => return Ok(plain(ProgramKind::Kernel, known_as)),
                (Err(e), false) => return Err(e),
            };
            return Ok(Self {
                kind: if is_kernel { ProgramKind::Kernel } else { ProgramKind::Efi },
                firmware: Some(firmware),
                signed: pe.is_signed(len)?,
                sbat: pe.has_section(b".sbat\0\0\0"),
                known_as: known_as.map(str::to_owned),
            });
        }
        if is_kernel {
            return Ok(plain(ProgramKind::Kernel, known_as));
        }
        if head.starts_with(b"\x7fELF") || name.ends_with("bootcode.bin") {
            return if name.ends_with(".elf") || name.ends_with(".bin") {
                Ok(plain(ProgramKind::RaspberryPi, None))
            } else {
                Err(NoProgram::Else(
                    "an ELF file: a Linux program, or a loader that is not linked for the network",
                ))
            };
        }
        if has(head, b"CD001") || head.get(510..512) == Some(&[0x55, 0xaa]) {
            return Err(NoProgram::Else("a disk or a boot sector: take it in with `bootd image add`"));
        }
        // A BIOS jumps to its first byte, and that is all that there is of a format.
        let known = [".0", ".kpxe", ".kkpxe", ".pxe", ".bin"].iter().any(|suffix| name.ends_with(suffix));
        if known_as.is_some() || (known && matches!(head.first(), Some(0xea | 0xeb | 0xe9 | 0xfa | 0xfc))) {
            return Ok(plain(ProgramKind::Pxe, known_as));
        }
        Err(NoProgram::Unrecognised)
    }
}

/// The program's own name for itself. iPXE's is packed; what is not is its return address's mark and its ROM's texts.
fn known_as(head: &[u8]) -> Option<&'static str> {
    const NAMES: [(&[u8], &str); 8] = [
        (b"wimboot", "wimboot"),
        (b"PXELINUX", "PXELINUX"),
        (b"iPXE", "iPXE"),
        (b"UEFI SHIM", "shim"),
        (b"GRUB", "GRUB"),
        (b"Limine", "Limine"),
        (b"systemd-boot", "systemd-boot"),
        // `push $0x5445524c` and `UNDI` in the same prefix: iPXE's, however it was packed.
        (b"hLRET", "iPXE"),
    ];
    NAMES.iter().find(|(mark, _)| has(head, mark)).map(|(_, name)| *name)
}

fn has(bytes: &[u8], mark: &[u8]) -> bool {
    bytes.windows(mark.len()).any(|window| window == mark)
}

/// A PE file's head (Microsoft, "PE Format").
struct Pe<'a> {
    head: &'a [u8],
    /// Where the COFF header is.
    coff: usize,
}

impl<'a> Pe<'a> {
    /// `None`: it isn't one.
    fn of(head: &'a [u8]) -> Result<Option<Self>, NoProgram> {
        if !head.starts_with(b"MZ") {
            return Ok(None);
        }
        let at = u32_at(head, 0x3c).and_then(|at| usize::try_from(at).ok());
        let at = at.ok_or(NoProgram::Damaged("it ends within its first header"))?;
        match head.get(at..).and_then(|rest| rest.get(..4)) {
            Some(b"PE\0\0") => Ok(Some(Self { head, coff: at + 4 })),
            // Kernels without an EFI stub may begin like this, too.
            _ if head.get(0x202..0x206) == Some(b"HdrS") => Ok(None),
            _ => Err(NoProgram::Damaged("its header is not where it says")),
        }
    }

    fn optional(&self) -> usize {
        self.coff + 20
    }

    fn firmware(&self) -> Result<Firmware, NoProgram> {
        let short = NoProgram::Damaged("it ends within its headers");
        let machine = u16_at(self.head, self.coff).ok_or(short.clone())?;
        let subsystem = u16_at(self.head, self.optional() + 68).ok_or(short)?;
        match subsystem {
            10 => {}
            11 | 12 => {
                return Err(NoProgram::Subsystem(
                    "an EFI driver; it is loaded from the EFI shell or by a boot loader",
                ));
            }
            1..=3 => return Err(NoProgram::Subsystem("a Windows program")),
            _ => {
                return Err(NoProgram::Subsystem(
                    "neither an EFI application nor anything else that is started",
                ));
            }
        }
        match machine {
            0x014c => Ok(Firmware::UefiIa32),
            0x8664 => Ok(Firmware::UefiX64),
            0x01c0 | 0x01c2 | 0x01c4 => Ok(Firmware::UefiArm32),
            0xaa64 => Ok(Firmware::UefiArm64),
            other => Err(NoProgram::Machine(other)),
        }
    }

    /// Whether there is an attribute certificate table: entry 4 of the data directories, which names a place in the file.
    fn is_signed(&self, len: u64) -> Result<bool, NoProgram> {
        let (count, directories) = match u16_at(self.head, self.optional()) {
            Some(0x10b) => (92, 96),
            Some(0x20b) => (108, 112),
            _ => return Err(NoProgram::Damaged("it is neither of 32 nor of 64 bits")),
        };
        if u32_at(self.head, self.optional() + count).is_none_or(|count| count < 5) {
            return Ok(false);
        }
        let entry = self.optional() + directories + 4 * 8;
        let (Some(at), Some(size)) = (u32_at(self.head, entry), u32_at(self.head, entry + 4)) else {
            return Err(NoProgram::Damaged("it ends within its headers"));
        };
        if size == 0 {
            return Ok(false);
        }
        if u64::from(at) + u64::from(size) > len {
            return Err(NoProgram::Damaged("its signature lies behind its end"));
        }
        Ok(true)
    }

    fn has_section(&self, name: &[u8; 8]) -> bool {
        let (Some(count), Some(optional_len)) =
            (u16_at(self.head, self.coff + 2), u16_at(self.head, self.coff + 16))
        else {
            return false;
        };
        let first = self.optional() + usize::from(optional_len);
        (0..usize::from(count).min(MAX_SECTIONS))
            .any(|n| self.head.get(first + n * 40..).is_some_and(|at| at.starts_with(name)))
    }
}

fn u16_at(bytes: &[u8], at: usize) -> Option<u16> {
    bytes.get(at..)?.first_chunk().map(|chunk| u16::from_le_bytes(*chunk))
}

fn u32_at(bytes: &[u8], at: usize) -> Option<u32> {
    bytes.get(at..)?.first_chunk().map(|chunk| u32::from_le_bytes(*chunk))
}

impl fmt::Display for ProgramKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Efi => "EFI application",
            Self::Pxe => "PXE boot program",
            Self::Kernel => "kernel",
            Self::RaspberryPi => "Raspberry Pi's",
        })
    }
}
