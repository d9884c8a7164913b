//! Files that hold a disk, but not as it is. Served raw they would boot nothing, so they are refused by their marks,
//! with the command that makes a raw image of them.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::path::Path;

enum Remedy {
    /// A disk in a form that `qemu-img` knows by that name.
    Convert(&'static str),
    /// A compressed file, and the command that writes what is in it to its standard output.
    Unpack(&'static str),
}

struct Mark {
    format: &'static str,
    /// From the file's start.
    at: u64,
    bytes: &'static [u8],
    remedy: Remedy,
}

const MARKS: &[Mark] = &[
    Mark { format: "a qcow2 image", at: 0, bytes: b"QFI\xfb", remedy: Remedy::Convert("qcow2") },
    Mark { format: "a VMware disk", at: 0, bytes: b"KDMV", remedy: Remedy::Convert("vmdk") },
    Mark { format: "a VMware disk", at: 0, bytes: b"COWD", remedy: Remedy::Convert("vmdk") },
    Mark { format: "a VHDX disk", at: 0, bytes: b"vhdxfile", remedy: Remedy::Convert("vhdx") },
    Mark { format: "a VHD disk", at: 0, bytes: b"conectix", remedy: Remedy::Convert("vpc") },
    Mark { format: "a VirtualBox disk", at: 64, bytes: b"\x7f\x10\xda\xbe", remedy: Remedy::Convert("vdi") },
    Mark { format: "a QED image", at: 0, bytes: b"QED\0", remedy: Remedy::Convert("qed") },
    Mark {
        format: "a Parallels disk",
        at: 0,
        bytes: b"WithoutFreeSpace",
        remedy: Remedy::Convert("parallels"),
    },
    Mark {
        format: "a Parallels disk",
        at: 0,
        bytes: b"WithouFreSpacExt",
        remedy: Remedy::Convert("parallels"),
    },
    Mark { format: "compressed by gzip", at: 0, bytes: b"\x1f\x8b\x08", remedy: Remedy::Unpack("gzip -dc") },
    Mark { format: "compressed by xz", at: 0, bytes: b"\xfd7zXZ\0", remedy: Remedy::Unpack("xz -dc") },
    Mark {
        format: "compressed by zstd",
        at: 0,
        bytes: b"\x28\xb5\x2f\xfd",
        remedy: Remedy::Unpack("zstd -dc"),
    },
    Mark { format: "compressed by bzip2", at: 0, bytes: b"BZh", remedy: Remedy::Unpack("bzip2 -dc") },
    Mark { format: "a zip archive", at: 0, bytes: b"PK\x03\x04", remedy: Remedy::Unpack("unzip -p") },
];

/// A fixed VHD is a raw disk with these bytes at the start of one sector more at its end.
const VHD_FOOTER: &[u8] = b"conectix";

impl Remedy {
    fn text(&self, path: &Path) -> String {
        let raw = path.with_extension("raw");
        let (path, raw) = (path.display(), raw.display());
        match self {
            Self::Convert(format) => {
                format!("convert it with: qemu-img convert -f {format} -O raw {path} {raw}")
            }
            Self::Unpack(command) => format!("unpack it with: {command} {path} > {raw}"),
        }
    }
}

/// What the file is, if it is no raw disk, and what to do about that.
pub(super) fn recognise(path: &Path, file: &File, size: u64) -> io::Result<Option<(&'static str, String)>> {
    let begins = |at: u64, bytes: &[u8]| -> io::Result<bool> {
        if size < at + bytes.len() as u64 {
            return Ok(false);
        }
        let mut found = vec![0; bytes.len()];
        file.read_exact_at(&mut found, at)?;
        Ok(found == bytes)
    };
    for mark in MARKS {
        if begins(mark.at, mark.bytes)? {
            return Ok(Some((mark.format, mark.remedy.text(path))));
        }
    }
    if size >= 1024 && begins(size - 512, VHD_FOOTER)? {
        return Ok(Some(("a VHD disk", Remedy::Convert("vpc").text(path))));
    }
    Ok(None)
}
