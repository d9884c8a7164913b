//! `bootd storage`: what the kernel engine's disks lie on. Needs no daemon.

use std::io::{BufRead as _, IsTerminal as _, stdin, stdout};

use super::args::{Storage, StorageCommand};
use super::{Failure, print};
use crate::config::{Config, EngineKind, KernelSettings, show_size};
use crate::data;
use crate::engine::storage::{self, Space};
use crate::machine::Machine;

pub(super) fn run(command: &StorageCommand) -> Result<(), Failure> {
    let (StorageCommand::Plan(storage)
    | StorageCommand::Apply(storage)
    | StorageCommand::Status(storage)
    | StorageCommand::Down(storage)) = command;
    let config = Config::load(&storage.server.flags(), &Machine::look()).map_err(Failure::new)?;
    let EngineKind::Kernel(settings) = &config.engine else {
        return Err(Failure {
            error: "the kernel engine is not in use, and the embedded one needs no storage".into(),
            hint: Some("write kind = \"kernel\" in [engine]".into()),
        });
    };
    match command {
        StorageCommand::Plan(_) => print(&plan(&config, settings)?.0),
        StorageCommand::Apply(_) => apply(&config, settings, storage),
        StorageCommand::Status(_) => status(),
        StorageCommand::Down(_) => down(&config, storage),
    }
}

/// What `apply` would do, and whether there is something to write.
fn plan(config: &Config, settings: &KernelSettings) -> Result<(String, Option<std::path::PathBuf>), Failure> {
    let space = storage::space(config, settings).map_err(Failure::new)?;
    let mut text = match settings.cache {
        None => "images    read through the page cache, by a read-only loop device each\n".to_owned(),
        Some(size) => {
            format!("images    read through a cache in RAM of {}, for all together\n", show_size(size.0))
        }
    };
    let (line, write) = match space {
        Space::File { path, size } => {
            (format!("file {}, up to {size}: made when bootd starts; nothing to do", path.display()), None)
        }
        Space::Ram { size } => {
            (format!("RAM, up to {size}, which they take as clients write; nothing to do"), None)
        }
        Space::Ready(path) => (format!("device {}: ready; nothing to do", path.display()), None),
        Space::Blank(path) => {
            (format!("device {}: empty; would be made ready for overlays", path.display()), Some(path))
        }
        Space::Foreign(path, what) => {
            return Err(Failure {
                error: format!("{} holds {what}, which bootd did not make", path.display()),
                hint: Some(format!(
                    "if nothing on it is needed, empty it yourself, for example: wipefs --all {}",
                    path.display()
                )),
            });
        }
    };
    text.push_str(&format!("overlays  {line}\n"));
    if let Some(size) = settings.write_cache {
        text.push_str(&format!("          written through a cache in RAM of {}\n", show_size(size.0)));
    }
    text.push_str("          all that clients have written is lost with the power, and only that\n");
    Ok((text, write))
}

fn apply(config: &Config, settings: &KernelSettings, asked: &Storage) -> Result<(), Failure> {
    let (text, write) = plan(config, settings)?;
    print(&text)?;
    let Some(path) = write else { return Ok(()) };
    confirm(&format!("Write to {}?", path.display()), asked.yes)?;
    storage::label(&path).map_err(Failure::new)?;
    print(&format!("{} is ready for overlays\n", path.display()))
}

fn status() -> Result<(), Failure> {
    let text = storage::status().map_err(Failure::new)?;
    print(if text.is_empty() { "bootd has no devices in the kernel\n" } else { &text })
}

fn down(config: &Config, asked: &Storage) -> Result<(), Failure> {
    if let Some(pid) = data::running(&config.data) {
        return Err(Failure {
            error: format!("bootd runs (process {pid}) and uses what would be removed"),
            hint: Some("stop it first".into()),
        });
    }
    confirm("Remove all clients' disks from the kernel? Clients that run lose theirs.", asked.yes)?;
    let busy = storage::down(config).map_err(Failure::new)?;
    if busy.is_empty() {
        return print("the kernel has no devices of bootd's any more\n");
    }
    Err(Failure {
        error: format!("still in use: {}", busy.join(", ")),
        hint: Some("close what has them open, and say it again".into()),
    })
}

/// Asks, where there is somebody to ask.
fn confirm(question: &str, yes: bool) -> Result<(), Failure> {
    if yes {
        return Ok(());
    }
    if !stdin().is_terminal() || !stdout().is_terminal() {
        let hint = Some("look at it with: bootd storage plan, then say --yes".into());
        return Err(Failure { error: "nobody is there to be asked".into(), hint });
    }
    print(&format!("{question} [y/N] "))?;
    let mut answer = String::new();
    stdin().lock().read_line(&mut answer).map_err(Failure::new)?;
    if answer.trim().eq_ignore_ascii_case("y") { Ok(()) } else { Err(Failure::new("nothing was changed")) }
}
