//! `bootd documents`: what a package has beside the program, made from the command line itself, so that neither says what
//! the other does not know.

use std::path::Path;

use clap::{Command, CommandFactory as _};
use clap_complete::{Shell, generate_to};
use clap_mangen::Man;

use super::Failure;
use super::args::Cli;

/// The manual's section for what an administrator runs.
const SECTION: &str = "8";

/// The shells that Debian has.
const SHELLS: [Shell; 3] = [Shell::Bash, Shell::Zsh, Shell::Fish];

pub(super) fn run(directory: &Path) -> Result<(), Failure> {
    let wrong = |e| Failure::new(format!("{}: {e}", directory.display()));
    for shell in SHELLS {
        generate_to(shell, &mut Cli::command(), "bootd", directory).map_err(wrong)?;
    }
    let mut command = Cli::command().disable_help_subcommand(true);
    command.build();
    pages(&command, directory).map_err(wrong)
}

/// A page for the command, and one for each of those below it.
fn pages(command: &Command, directory: &Path) -> std::io::Result<()> {
    for below in command.get_subcommands().filter(|below| !below.is_hide_set()) {
        pages(below, directory)?;
    }
    let source = concat!("bootd ", env!("CARGO_PKG_VERSION"));
    Man::new(command.clone()).section(SECTION).source(source).manual("bootd").generate_to(directory)?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    #[test]
    fn every_command_has_a_page_and_every_shell_its_words() {
        let directory = tempfile::tempdir().unwrap();
        run(directory.path()).unwrap();
        let page = |name: &str| fs::read_to_string(directory.path().join(name)).unwrap();
        assert!(page("bootd.8").contains("bootd\\-client\\-add(8)") || page("bootd.8").contains("client"));
        assert!(page("bootd-client-boot-once.8").contains("boot\\-once"));
        assert!(page("bootd-storage-plan.8").starts_with(".ie"), "{}", page("bootd-storage-plan.8"));
        for words in ["bootd.bash", "_bootd", "bootd.fish"] {
            assert!(page(words).contains("boot-once"), "{words}");
        }
        assert!(!directory.path().join("bootd-documents.8").exists(), "it is for packages only");
    }
}
