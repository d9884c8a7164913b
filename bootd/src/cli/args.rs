//! What can be typed.

use std::fmt;
use std::net::Ipv4Addr;
use std::path::PathBuf;
use std::str::FromStr;

use clap::{Args, Parser, Subcommand};
use site::entity::{EntityName, Expression};
use site::{ClientName, ImageName, MacAddr};

use super::boots::BootsCommand;
use super::capture::Capture;
use super::explain::Explain;
use super::register::RegisterCommand;
use super::site::SiteCommand;
use crate::config::{Flags, size};

/// Boots diskless machines over the network, each from its own copy-on-write disk.
#[derive(Debug, Parser)]
#[command(
    name = "bootd",
    version,
    propagate_version = true,
    after_help = "Examples:\n  \
        bootd check --interface eth1                      is all there that serving needs?\n  \
        bootd serve --interface eth1                      serve the machines behind eth1\n  \
        bootd image add debian12 disk.raw                 take in a disk image\n  \
        bootd client add pc1 --mac 52:54:00:77:00:01 --image debian12\n  \
        bootd explain 52:54:00:77:00:01                   what would it get, and why?\n  \
        bootd boots pc1 --follow                          follow its boot\n  \
        bootd site log                                    who changed what?\n\n\
        Exit code: 0 done, 1 failed, 2 wrong usage."
)]
pub(super) struct Cli {
    #[command(subcommand)]
    pub(super) command: Command,
}

#[derive(Debug, Subcommand)]
pub(super) enum Command {
    /// Run the daemon
    Serve(Serve),
    /// See whether all is there that serving needs; needs no daemon
    Check(Check),
    /// Add, show, change and remove clients
    #[command(subcommand)]
    Client(ClientCommand),
    /// Add, show and remove disk images
    #[command(subcommand)]
    Image(ImageCommand),
    /// Add, list and remove what firmware loads from the network
    #[command(subcommand, name = "bootprogram")]
    BootProgram(BootProgramCommand),
    /// See, fetch and drop what mirrors keep of other servers' files
    #[command(subcommand)]
    Mirror(MirrorCommand),
    /// See, change, import and export all that is known of the site
    #[command(subcommand)]
    Site(Box<SiteCommand>),
    /// See, prepare and remove what the kernel engine's disks lie on; needs no daemon
    #[command(subcommand)]
    Storage(StorageCommand),
    /// Decide about machines at which somebody asked for them to be registered
    #[command(subcommand)]
    Register(RegisterCommand),
    /// Say what a machine would get now, and why, without booting it, and why its last boot went wrong
    Explain(Explain),
    /// List a machine's last boots, or tell one step by step
    Boots(BootsCommand),
    /// Write a machine's packets to a file for tcpdump or Wireshark
    Capture(Capture),
    /// Print what a client would get for a template's name, and say from which file
    Render(Render),
    /// Show each client's last boot, step by step, and its disk
    Status(Status),
    /// Write the manual's pages and what shells complete words by, for a package
    #[command(hide = true)]
    Documents {
        /// Where they go; it must be there
        directory: PathBuf,
    },
}

/// What `serve` and `check` run by.
#[derive(Debug, Args)]
pub(super) struct ServerFlags {
    /// Serve this interface; may be given several times [default: the file's]
    #[arg(short, long = "interface", value_name = "NAME")]
    interfaces: Vec<String>,
    #[command(flatten)]
    place: Place,
    /// Log at this level, or by these directives, for example "info,bootd=debug" [default: the file's, or info]
    #[arg(long, value_name = "LEVEL", env = "BOOTD_LOG")]
    log: Option<String>,
    /// Keep the clients' disks in memory only, for trying things out
    #[arg(long)]
    sim: bool,
}

impl ServerFlags {
    pub(super) fn flags(&self) -> Flags {
        Flags {
            interfaces: self.interfaces.clone(),
            log: self.log.clone(),
            sim: self.sim,
            ..self.place.flags()
        }
    }
}

/// Where the daemon keeps its things, and so where its socket is.
#[derive(Debug, Args)]
pub(super) struct Place {
    /// The data directory [default: the file's, or /var/lib/bootd]
    #[arg(long, value_name = "DIR", env = "BOOTD_DATA")]
    data: Option<PathBuf>,
    /// The configuration file [default: /etc/bootd/bootd.toml if it exists]
    #[arg(long, value_name = "FILE", env = "BOOTD_CONFIG")]
    config: Option<PathBuf>,
}

impl Place {
    pub(super) fn flags(&self) -> Flags {
        Flags { file: self.config.clone(), data: self.data.clone(), ..Flags::default() }
    }
}

/// What every command has that talks to the daemon.
#[derive(Debug, Args)]
pub(super) struct Common {
    #[command(flatten)]
    pub(super) place: Place,
    /// Print JSON
    #[arg(long)]
    pub(super) json: bool,
}

#[derive(Debug, Args)]
#[command(after_help = "Examples:\n  \
    bootd serve --interface eth1\n  \
    bootd serve --interface eth1 --data /srv/bootd\n  \
    bootd serve --config /etc/bootd/lab2.toml\n  \
    bootd serve --interface eth1 --data /tmp/try --sim")]
pub(super) struct Serve {
    #[command(flatten)]
    pub(super) server: ServerFlags,
}

#[derive(Debug, Args)]
#[command(after_help = "Examples:\n  bootd check --interface eth1\n  bootd check --json")]
pub(super) struct Check {
    #[command(flatten)]
    pub(super) server: ServerFlags,
    /// Print JSON
    #[arg(long)]
    pub(super) json: bool,
}

#[derive(Debug, Subcommand)]
pub(super) enum StorageCommand {
    /// Say what apply would do, and what would be lost
    Plan(StoragePlan),
    /// Make the device of the overlays ready, and bring up what needs no client; a device that holds anything else is refused
    #[command(after_help = "Examples:\n  bootd storage plan\n  bootd storage apply --yes")]
    Apply(Storage),
    /// Show every device that the kernel holds for bootd, with its table, and every disk that is a file
    Status(StorageStatus),
    /// Remove all of them, with what clients have written
    Down(Storage),
}

#[derive(Debug, Args)]
pub(super) struct StoragePlan {
    #[command(flatten)]
    pub(super) place: Place,
    /// Print JSON
    #[arg(long)]
    pub(super) json: bool,
}

#[derive(Debug, Args)]
pub(super) struct StorageStatus {
    #[command(flatten)]
    pub(super) place: Place,
    /// Print JSON
    #[arg(long)]
    pub(super) json: bool,
}

#[derive(Debug, Args)]
pub(super) struct Storage {
    #[command(flatten)]
    pub(super) place: Place,
    /// Do it without asking
    #[arg(short, long)]
    pub(super) yes: bool,
}

#[derive(Debug, Subcommand)]
pub(super) enum ClientCommand {
    /// Add a client
    #[command(after_help = "Examples:\n  \
        bootd client add pc1 --mac 52:54:00:77:00:01 --image debian12\n  \
        bootd client add pc2 --mac 52-54-00-77-00-02 --address 10.0.0.22")]
    Add {
        /// Its name: a DNS label
        name: ClientName,
        /// Its network card
        #[arg(long)]
        mac: MacAddr,
        /// The image that it boots [default: none, it gets an address only]
        #[arg(long)]
        image: Option<ImageName>,
        /// Its address [default: one from the pool]
        #[arg(long, value_name = "IP")]
        address: Option<Ipv4Addr>,
        /// The template of its boot script [default: the site's]
        #[arg(long, value_name = "TEMPLATE")]
        menu: Option<String>,
        /// The boot program for its firmware [default: the usual one]
        #[arg(long, value_name = "FILE")]
        boot_program: Option<String>,
        /// How much it may write [default: the site's]
        #[arg(long, value_name = "SIZE", value_parser = parse_size)]
        overlay_limit: Option<u64>,
        /// Do not let it boot yet
        #[arg(long)]
        disabled: bool,
        #[command(flatten)]
        common: Common,
    },
    /// List all clients
    List {
        #[command(flatten)]
        common: Common,
    },
    /// Show one client
    Show {
        /// Its name
        name: ClientName,
        #[command(flatten)]
        common: Common,
    },
    /// Change a client, from its next boot on
    #[command(after_help = "\"none\" takes a setting away.\n\nExamples:\n  \
        bootd client set pc1 --image debian13 --overlay-limit 8GiB\n  \
        bootd client set pc1 --address none --disable")]
    Set {
        /// Its name
        name: ClientName,
        #[command(flatten)]
        set: Changes,
        #[command(flatten)]
        common: Common,
    },
    /// Say what clients boot the next time, and only then
    #[command(after_help = "Examples:\n  \
        bootd client boot-once pc1 memtest\n  \
        bootd client boot-once --group en1018 reinstall\n  \
        bootd client boot-once --where 'type=client room=EN1018' reinstall\n  \
        bootd client boot-once pc1 --clear")]
    BootOnce {
        /// The client, unless a group or an expression is named; then the choice, unless it is cleared
        #[arg(value_name = "[CLIENT] CHOICE", num_args = 0..=2)]
        words: Vec<String>,
        /// All clients of this group
        #[arg(long, value_name = "NAME", conflicts_with = "filter")]
        group: Option<EntityName>,
        /// All clients for which this holds
        #[arg(long = "where", value_name = "EXPRESSION")]
        filter: Option<Expression>,
        /// Let them boot as usual
        #[arg(long)]
        clear: bool,
        #[command(flatten)]
        common: Common,
    },
    /// Remove a client
    Remove {
        /// Its name
        name: ClientName,
        #[command(flatten)]
        common: Common,
    },
}

/// The changes of `client set`; at least one.
#[derive(Debug, Args)]
#[group(required = true, multiple = true)]
pub(super) struct Changes {
    /// Another network card
    #[arg(long)]
    pub(super) mac: Option<MacAddr>,
    /// Another image, or "none"
    #[arg(long)]
    pub(super) image: Option<OrNone<ImageName>>,
    /// Another address, or "none" for one from the pool
    #[arg(long, value_name = "IP")]
    pub(super) address: Option<OrNone<Ipv4Addr>>,
    /// Another template, or "none" for the site's
    #[arg(long, value_name = "TEMPLATE")]
    pub(super) menu: Option<OrNone<String>>,
    /// Another boot program, or "none" for the usual one
    #[arg(long, value_name = "FILE")]
    pub(super) boot_program: Option<OrNone<String>>,
    /// Another limit to what it may write, or "none" for the site's
    #[arg(long, value_name = "SIZE", value_parser = parse_size_or_none)]
    pub(super) overlay_limit: Option<OrNone<u64>>,
    /// Let it boot
    #[arg(long, conflicts_with = "disable")]
    pub(super) enable: bool,
    /// Do not let it boot any more
    #[arg(long)]
    pub(super) disable: bool,
}

#[derive(Debug, Subcommand)]
pub(super) enum ImageCommand {
    /// Take in a raw disk image, or a new version of an image
    #[command(
        after_help = "Running clients keep the version that they booted; the new one is for the next boots.\n\n\
        Examples:\n  \
        bootd image add debian12 disk.raw\n  \
        bootd image add debian12 /srv/golden/debian12.raw --in-place"
    )]
    Add {
        /// Its name
        name: ImageName,
        /// The raw disk image, a file that the daemon can read
        file: PathBuf,
        /// Use the file where it is instead of copying it; it must then never change
        #[arg(long)]
        in_place: bool,
        #[command(flatten)]
        common: Common,
    },
    /// List all images
    List {
        #[command(flatten)]
        common: Common,
    },
    /// Show one image
    Show {
        /// Its name
        name: ImageName,
        #[command(flatten)]
        common: Common,
    },
    /// Remove an image
    Remove {
        /// Its name
        name: ImageName,
        /// Even if clients boot from it; they are then left without an image
        #[arg(long)]
        force: bool,
        #[command(flatten)]
        common: Common,
    },
}

#[derive(Debug, Subcommand)]
pub(super) enum BootProgramCommand {
    /// Take in a boot program, after a look at what it is
    #[command(
        after_help = "An EFI program goes to efi/ARCH/NAME, beside what it loads and what loads it; any other to NAME.\n\n\
        Examples:\n  \
        bootd bootprogram add /usr/lib/shim/shimx64.efi.signed\n  \
        bootd bootprogram add /usr/lib/grub/x86_64-efi-signed/grubnetx64.efi.signed --name grubx64.efi\n  \
        bootd bootprogram add snponly.efi --arch arm64"
    )]
    Add {
        /// The program, a file that the daemon can read
        file: PathBuf,
        /// What it is called [default: its file's name, without .signed]
        #[arg(long)]
        name: Option<String>,
        /// Refuse it if it is for another architecture
        #[arg(long)]
        arch: Option<Architecture>,
        #[command(flatten)]
        common: Common,
    },
    /// List all boot programs, those of the system's packages too
    List {
        #[command(flatten)]
        common: Common,
    },
    /// Remove a boot program that was added
    Remove {
        /// Its name, as the list has it
        name: String,
        #[command(flatten)]
        common: Common,
    },
}

/// An architecture that UEFI runs on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub(super) enum Architecture {
    /// x86, 32 bits
    Ia32,
    /// x86, 64 bits
    X64,
    /// ARM, 32 bits
    Arm32,
    /// ARM, 64 bits
    Arm64,
}

#[derive(Debug, Subcommand)]
pub(super) enum MirrorCommand {
    /// List all mirrors, or the files that one has stored
    List {
        /// Its name
        name: Option<EntityName>,
        #[command(flatten)]
        common: Common,
    },
    /// Have files stored before a client asks for them
    #[command(
        after_help = "What is stored already is looked at: whether it is still what the upstream has.\n\n\
        Examples:\n  \
        bootd mirror fetch debian dists/bookworm/Release\n  \
        bootd mirror fetch debian some/linux some/initrd.gz --json"
    )]
    Fetch {
        /// The mirror's name
        name: EntityName,
        /// The files' paths there
        #[arg(required = true, value_name = "PATH")]
        paths: Vec<String>,
        #[command(flatten)]
        common: Common,
    },
    /// Drop what a mirror has stored, or of that one file; it is fetched again when somebody asks for it
    #[command(after_help = "Examples:\n  bootd mirror drop debian\n  bootd mirror drop debian some/linux")]
    Drop {
        /// The mirror's name
        name: EntityName,
        /// The file's path there
        path: Option<String>,
        #[command(flatten)]
        common: Common,
    },
}

#[derive(Debug, Args)]
#[command(after_help = "Examples:\n  \
    bootd render script.ipxe pc1              its boot script, whatever the template; secrets are masked\n  \
    bootd render pxelinux.cfg/default pc1     what it would get by that name\n  \
    bootd render lab.ipxe pc1 --json")]
pub(super) struct Render {
    /// The name that the client would ask for, "script.ipxe" for its boot script
    #[arg(value_name = "FILE")]
    pub(super) file: String,
    /// The client
    #[arg(value_name = "CLIENT")]
    pub(super) client: ClientName,
    #[command(flatten)]
    pub(super) common: Common,
}

#[derive(Debug, Args)]
#[command(after_help = "Examples:\n  bootd status\n  bootd status pc1\n  bootd status --watch")]
pub(super) struct Status {
    /// Only this client
    pub(super) client: Option<ClientName>,
    /// Go on, and print what changes
    #[arg(long)]
    pub(super) watch: bool,
    #[command(flatten)]
    pub(super) common: Common,
}

/// A machine by its network card or by its client's name.
#[derive(Debug, Clone)]
pub(super) enum Machine {
    Mac(MacAddr),
    Client(ClientName),
}

impl fmt::Display for Machine {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Mac(mac) => mac.fmt(f),
            Self::Client(name) => name.fmt(f),
        }
    }
}

impl FromStr for Machine {
    type Err = site::NameError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        // A MAC first: without separators it could be a name too. What looks like neither is told the rule of MACs.
        text.parse().map(Self::Mac).or_else(|e| text.parse().map(Self::Client).map_err(|_| e))
    }
}

/// A value, or the word "none" that takes a setting away.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct OrNone<T>(pub(super) Option<T>);

impl<T: FromStr> FromStr for OrNone<T> {
    type Err = T::Err;

    fn from_str(text: &str) -> Result<Self, T::Err> {
        if text == "none" { Ok(Self(None)) } else { text.parse().map(|value| Self(Some(value))) }
    }
}

pub(super) fn parse_size(text: &str) -> Result<u64, String> {
    size(text, None).ok_or_else(|| "not a size; write, for example, 8GiB".to_owned())
}

fn parse_size_or_none(text: &str) -> Result<OrNone<u64>, String> {
    if text == "none" { Ok(OrNone(None)) } else { parse_size(text).map(|bytes| OrNone(Some(bytes))) }
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;
    use clap::error::ErrorKind;

    use super::*;

    /// Parses a line as a shell hands it over: what stands between single quotes is one word.
    fn parse(line: &str) -> Result<Command, clap::Error> {
        let mut words = vec![String::new()];
        for (at, part) in line.split('\'').enumerate() {
            let mut pieces = if at % 2 == 1 { vec![part] } else { part.split(' ').collect() }.into_iter();
            words.last_mut().unwrap().push_str(pieces.next().unwrap_or_default());
            words.extend(pieces.map(str::to_owned));
        }
        words.retain(|word| !word.is_empty());
        Cli::try_parse_from(words).map(|cli| cli.command)
    }

    #[test]
    fn the_command_line_is_sound() {
        Cli::command().debug_assert();
    }

    #[test]
    fn every_documented_example_parses() {
        let mut help = Cli::command().render_long_help().to_string();
        let mut commands = vec![Cli::command()];
        while let Some(mut command) = commands.pop() {
            help.push_str(&command.render_long_help().to_string());
            commands.extend(command.get_subcommands().cloned());
        }
        let examples: Vec<&str> = help.lines().filter_map(|line| line.strip_prefix("  bootd ")).collect();
        assert!(examples.len() > 15, "{examples:?}");
        for example in examples {
            let line = example.split("   ").next().unwrap();
            parse(&format!("bootd {line}")).unwrap_or_else(|e| panic!("{line}: {e}"));
        }
    }

    #[test]
    fn wrong_values_teach_the_rule() {
        for (line, rule) in [
            ("bootd client add Lab_PC --mac 52:54:00:77:00:01", "en1018-07"),
            ("bootd client add pc1 --mac 52:54", "52:54:00:77:00:01"),
            ("bootd client add pc1 --mac 52:54:00:77:00:01 --image a_b", "for example"),
            ("bootd client add pc1 --mac 52:54:00:77:00:01 --overlay-limit lots", "8GiB"),
            ("bootd explain 52:54:00", "six pairs"),
        ] {
            let error = parse(line).unwrap_err();
            assert_eq!(error.exit_code(), 2);
            assert!(error.to_string().contains(rule), "{line}: {error}");
        }
    }

    #[test]
    fn set_wants_a_change_and_takes_settings_away() {
        let kind = |line| parse(line).map(|_| ()).map_err(|e| e.kind());
        assert_eq!(kind("bootd client set pc1"), Err(ErrorKind::MissingRequiredArgument));
        assert_eq!(kind("bootd client set pc1 --enable --disable"), Err(ErrorKind::ArgumentConflict));
        let Command::Client(ClientCommand::Set { set, .. }) =
            parse("bootd client set pc1 --image none --overlay-limit none --address 10.0.0.7").unwrap()
        else {
            panic!("not client set");
        };
        assert_eq!(set.image, Some(OrNone(None)));
        assert_eq!(set.overlay_limit, Some(OrNone(None)));
        assert_eq!(set.address, Some(OrNone(Some(Ipv4Addr::new(10, 0, 0, 7)))));
        assert_eq!(set.menu, None);
    }
}
