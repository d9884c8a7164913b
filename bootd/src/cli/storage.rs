//! `bootd storage`: what the kernel engine's disks lie on. Needs no daemon, and no network.

#[cfg(not(feature = "kernel"))]
pub(super) fn run(_command: &super::args::StorageCommand) -> Result<(), super::Failure> {
    Err(super::Failure {
        error: "this bootd was built without the kernel engine, and the embedded one needs no storage".into(),
        hint: Some("build it with the feature \"kernel\"".into()),
    })
}

#[cfg(feature = "kernel")]
pub(super) use with_kernel::run;

#[cfg(feature = "kernel")]
mod with_kernel {
    use std::io::{BufRead as _, IsTerminal as _, stdin, stdout};

    use crate::cli::args::{Place, StorageCommand};
    use crate::cli::table::table;
    use crate::cli::{Failure, print, show};
    use crate::config::{EngineKind, StorageConfig, show_size};
    use crate::data;
    use crate::engine::storage::{self, Held, Plan, Problem, Write};
    use crate::machine::Machine;

    impl From<Problem> for Failure {
        fn from(Problem { error, hint }: Problem) -> Self {
            Self { error, hint: Some(hint) }
        }
    }

    pub(in crate::cli) fn run(command: &StorageCommand) -> Result<(), Failure> {
        match command {
            StorageCommand::Plan(shown) => plan(&config(&shown.place)?, shown.json),
            StorageCommand::Apply(storage) => apply(&config(&storage.place)?, storage.yes),
            StorageCommand::Status(shown) => status(&shown.place, shown.json),
            // What an engine has left that is no longer in use is there to be removed, too.
            StorageCommand::Down(storage) => down(&load(&storage.place)?, storage.yes),
        }
    }

    fn load(place: &Place) -> Result<StorageConfig, Failure> {
        StorageConfig::load(&place.flags(), &Machine::look()).map_err(Failure::new)
    }

    fn config(place: &Place) -> Result<StorageConfig, Failure> {
        let config = load(place)?;
        match config.engine {
            EngineKind::Kernel(_) => Ok(config),
            EngineKind::Embedded | EngineKind::Sim => Err(Failure {
                error: "the kernel engine is not in use, and the embedded one needs no storage".into(),
                hint: Some("write kind = \"kernel\" in [engine]".into()),
            }),
        }
    }

    /// What `apply` would do. It fails where `apply` would refuse.
    fn plan(config: &StorageConfig, json: bool) -> Result<(), Failure> {
        let plan = storage::plan(config, &storage::site(config)?)?;
        show(json, &plan, describe)?;
        refuse(&plan)
    }

    fn refuse(plan: &Plan) -> Result<(), Failure> {
        plan.problems.first().map_or(Ok(()), |problem| Err(problem.clone().into()))
    }

    fn describe(plan: &Plan) -> String {
        let settings = plan.settings.iter();
        let settings: Vec<_> =
            settings.map(|row| [row.setting.to_owned(), row.value.clone(), row.source.to_string()]).collect();
        let mut text = table(["SETTING", "VALUE", "SOURCE"], &settings);
        let head = ["DEVICE", "SIZE", "NOW", "TABLE"];
        let rows = |devices: &[lvm::kernel::Planned]| devices.iter().map(storage::row_of).collect::<Vec<_>>();
        for (heading, devices) in [
            ("At the start:", &plan.devices.fixed),
            ("For the first client of each image, which nobody can write to:", &plan.devices.images),
            ("For each boot of a client, as of the first image:", &plan.devices.for_each_boot),
        ] {
            if !devices.is_empty() {
                text.push_str(&format!("\n{heading}\n{}", table(head, &rows(devices))));
            }
        }
        text.push('\n');
        if let Some(Write { device, what, loses }) = &plan.writes {
            text.push_str(&format!("{}: would be written {what}; it holds {loses}\n", device.display()));
        }
        plan.notes.iter().for_each(|note| text.push_str(&format!("{note}\n")));
        text
    }

    /// Makes the device ready and brings the stack up. What is so already stays as it is.
    fn apply(config: &StorageConfig, yes: bool) -> Result<(), Failure> {
        let site = storage::site(config)?;
        let plan = storage::plan(config, &site)?;
        refuse(&plan)?;
        let Some(hold) = storage::hold(config)? else {
            return unchanged(config, storage::differences(config, &site)?, &plan);
        };
        if let Some(Write { device, .. }) = &plan.writes {
            print(&describe(&plan))?;
            confirm(&format!("Write to {}?", device.display()), yes)?;
            storage::label(device)?;
            print(&format!("{} is ready for overlays\n", device.display()))?;
        }
        match storage::prepare(config, &site, &hold)?.as_slice() {
            [] => print("nothing to do before bootd starts\n"),
            made => print(&format!("made: {}\n", made.join(", "))),
        }
    }

    /// What is in use is left as it is: bootd knows it by its devices' numbers, and would serve what another has by then.
    fn unchanged(config: &StorageConfig, mut differences: Vec<String>, plan: &Plan) -> Result<(), Failure> {
        if let Some(Write { device, what, .. }) = &plan.writes {
            differences.push(format!("{} lacks {what}", device.display()));
        }
        let pid = data::running(&config.data).map(|pid| format!(" (process {pid})")).unwrap_or_default();
        if differences.is_empty() {
            return print(&format!("bootd runs{pid}, and all is as it is asked for: nothing to do\n"));
        }
        Err(Failure {
            error: format!("bootd runs{pid}, so nothing was changed: {}", differences.join("; ")),
            hint: Some(
                "stop bootd, run this again, and start bootd; a restart of the machine does all of that, too"
                    .into(),
            ),
        })
    }

    /// What the kernel has is shown without a configuration, too.
    fn status(place: &Place, json: bool) -> Result<(), Failure> {
        let config = load(place).ok();
        let held = storage::status(config.as_ref()).map_err(Failure::new)?;
        show(json, &held, |held| {
            if held.is_empty() {
                let files = config.is_some_and(|config| config.engine.is_files());
                let none = if files { "no client has a disk" } else { "bootd has no devices in the kernel" };
                return format!("{none}\n");
            }
            let line = |held: &Held| match held {
                Held::Device(device) => format!("{device}    size   {}\n", show_size(device.bytes)),
                Held::File(file) => {
                    format!("{file}    size   {}, own {}\n", show_size(file.bytes), show_size(file.own))
                }
            };
            held.iter().map(line).collect()
        })
    }

    fn down(config: &StorageConfig, yes: bool) -> Result<(), Failure> {
        if let Some(pid) = data::running(&config.data) {
            return Err(Failure {
                error: format!("bootd runs (process {pid}) and uses what would be removed"),
                hint: Some("stop it first".into()),
            });
        }
        confirm("Remove all clients' disks from the kernel? Clients that run lose theirs.", yes)?;
        let busy = storage::down(config)?;
        if busy.is_empty() {
            return print("the kernel has no disks of bootd's any more\n");
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
        if answer.trim().eq_ignore_ascii_case("y") {
            Ok(())
        } else {
            Err(Failure::new("nothing was changed"))
        }
    }
}
