//! `bootd bootprogram`.

use hyper::Method;
use netboot::{Firmware, Program};

use super::args::{Architecture, BootProgramCommand, Common};
use super::daemon::{Daemon, NOTHING};
use super::table::table;
use super::{Failure, show};
use crate::config::show_size;
use crate::control::api::ProgramRequest;
use crate::programs::ProgramEntry;

pub(super) async fn run(command: BootProgramCommand) -> Result<(), Failure> {
    match command {
        BootProgramCommand::Add { file, name, arch, common } => {
            // The daemon has a working directory of its own.
            let file =
                std::path::absolute(&file).map_err(|e| Failure::new(format!("{}: {e}", file.display())))?;
            let request = ProgramRequest { file, name, arch: arch.map(firmware) };
            let added: ProgramEntry =
                daemon(&common)?.call(Method::POST, "/bootprograms", Some(&request)).await?;
            show(common.json, &added, |added| {
                let notes: String = added.notes.iter().map(|note| format!("  {note}\n")).collect();
                format!("boot program {} added: {}\n{notes}", added.name, what(added.program.as_ref()))
            })
        }
        BootProgramCommand::List { common } => {
            let all: Vec<ProgramEntry> = daemon(&common)?.get("/bootprograms").await?;
            show(common.json, &all, |all| list(all))
        }
        BootProgramCommand::Remove { name, common } => {
            let path = format!("/bootprograms/{name}");
            let removed: ProgramEntry = daemon(&common)?.call(Method::DELETE, &path, NOTHING).await?;
            show(common.json, &removed, |removed| format!("boot program {} removed\n", removed.name))
        }
    }
}

fn daemon(common: &Common) -> Result<Daemon, Failure> {
    Daemon::of(&common.place.flags())
}

fn firmware(arch: Architecture) -> Firmware {
    match arch {
        Architecture::Ia32 => Firmware::UefiIa32,
        Architecture::X64 => Firmware::UefiX64,
        Architecture::Arm32 => Firmware::UefiArm32,
        Architecture::Arm64 => Firmware::UefiArm64,
    }
}

/// What it is, in a few words.
fn what(program: Option<&Program>) -> String {
    let Some(program) = program else { return "unknown".to_owned() };
    let mut text = program.known_as.as_ref().map_or_else(String::new, |name| format!("{name}, "));
    text += &program.kind.to_string();
    if let Some(firmware) = program.firmware {
        text += &format!(" for {firmware}");
    }
    text
}

fn list(all: &[ProgramEntry]) -> String {
    if all.is_empty() {
        return "no boot programs; install Debian's package ipxe, or add one with: bootd bootprogram add FILE\n".to_owned();
    }
    let row = |entry: &ProgramEntry| {
        let yes = |is: bool| if is { "yes" } else { "no" }.to_owned();
        let efi = entry.program.as_ref().filter(|program| program.firmware.is_some());
        [
            entry.name.clone(),
            what(entry.program.as_ref()),
            efi.map_or_else(|| "-".to_owned(), |program| yes(program.signed)),
            efi.map_or_else(|| "-".to_owned(), |program| yes(program.sbat)),
            show_size(entry.len),
            if entry.own { "own" } else { "package" }.to_owned(),
        ]
    };
    let mut text =
        table(["NAME", "WHAT", "SIGNED", "SBAT", "SIZE", "FROM"], &all.iter().map(row).collect::<Vec<_>>());
    for entry in all.iter().filter(|entry| entry.own) {
        entry.notes.iter().for_each(|note| text += &format!("{}: {note}\n", entry.name));
    }
    text
}
