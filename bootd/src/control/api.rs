//! What the command line and the daemon say to each other: JSON over HTTP on the Unix socket. `--json` prints
//! these very types.

use std::collections::BTreeMap;
use std::net::Ipv4Addr;
use std::path::PathBuf;

use netboot::{Finding, PathReport, Phase, Progress};
use serde::{Deserialize, Serialize};
use site::entity::{EntityName, Expression};
use site::{Client, ClientName, Image, ImageName, MacAddr, StoreState, Version};

use super::entities::wire::EntityView;
use crate::whereabouts::{AddressSource, Sighting};

/// An error, as every failing request answers it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Problem {
    /// What is wrong.
    pub(crate) error: String,
    /// What to do about it, where that is not said already.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) hint: Option<String>,
}

/// What an edit did.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Edit<T> {
    /// False when all was so already.
    pub(crate) changed: bool,
    /// The site's revision now.
    pub(crate) revision: u64,
    /// The client or image as it is now, or as it was when it was removed.
    pub(crate) value: T,
}

/// An image with those who boot from it.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct ImageEntry {
    /// The image.
    #[serde(flatten)]
    pub(crate) image: Image,
    /// The clients whose entries name it.
    pub(crate) clients: Vec<ClientName>,
}

/// `POST /images`: takes in a disk image, or a new version of one.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct ImportRequest {
    /// The image's name.
    pub(crate) name: ImageName,
    /// The disk image, an absolute path.
    pub(crate) file: PathBuf,
    /// Whether the file is to be used where it is, instead of being copied.
    pub(crate) in_place: bool,
}

/// `POST /bootprograms`: takes in a boot program, and answers with its [`ProgramEntry`](crate::programs::ProgramEntry).
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct ProgramRequest {
    /// The program, an absolute path.
    pub(crate) file: PathBuf,
    /// What it is to be called; `None`: as its file.
    pub(crate) name: Option<String>,
    /// Which firmware it must be for; `None`: any.
    pub(crate) arch: Option<netboot::Firmware>,
}

/// One line of the answer to an [`ImportRequest`]. The last one is `Done` or `Failed`.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(tag = "is", rename_all = "snake_case")]
pub(crate) enum ImportLine {
    /// So far.
    Progress {
        /// Bytes read.
        done: u64,
        /// Bytes in all.
        total: u64,
    },
    /// The image is there.
    Done {
        /// As it is now.
        image: Image,
        /// The version that it had before, where it is a new version of an image.
        replaced: Option<Version>,
        /// False when that version was the current one already.
        changed: bool,
    },
    /// Nothing has changed.
    Failed(Problem),
}

/// `GET /clients` and `GET /clients/{name}`: a client, what it boots the next time only, and where it is.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct ClientView {
    /// The client.
    #[serde(flatten)]
    pub(crate) client: Client,
    /// What it boots the next time.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) boot_once: Option<EntityName>,
    /// The address that is leased to it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) leased: Option<Ipv4Addr>,
    /// Where it was seen last, where another DHCP server gives the addresses.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) seen: Option<Sighting>,
    /// Where it gets an address from if its entry names none.
    pub(crate) source: AddressSource,
}

/// `POST /boot-once`: what clients are to boot the next time, and only then.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct BootOnce {
    /// Which clients.
    #[serde(flatten)]
    pub(crate) whom: Whom,
    /// What; `None`: what they boot as usual.
    pub(crate) choice: Option<EntityName>,
}

/// Which clients.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Whom {
    /// This one.
    Client(ClientName),
    /// The members of this group.
    Group(EntityName),
    /// Those that an expression finds.
    Where(Expression),
}

/// `GET /mirrors`: the mirrors, and what they have stored.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct MirrorList {
    /// By name.
    pub(crate) mirrors: Vec<MirrorEntry>,
    /// What all of them have stored, in bytes.
    pub(crate) bytes: u64,
    /// How much that may be, in bytes.
    pub(crate) limit: u64,
}

/// One mirror.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct MirrorEntry {
    /// Its name.
    pub(crate) name: String,
    /// Where its files come from; `None`: the site has it no more, or what the site says makes no sense.
    pub(crate) url: Option<String>,
    /// How many files it has stored.
    pub(crate) files: usize,
    /// How long they are together, in bytes.
    pub(crate) bytes: u64,
}

/// A file that a mirror has stored.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct StoredFile {
    /// The mirror.
    pub(crate) mirror: String,
    /// The file's path there.
    pub(crate) path: String,
    /// Where it came from.
    pub(crate) url: String,
    /// Its length, in bytes.
    pub(crate) size: u64,
    /// Its SHA-256 sum.
    pub(crate) sha256: String,
    /// Whether that was compared with what it should be.
    pub(crate) verified: bool,
    /// When it came, in milliseconds since 1970.
    pub(crate) fetched: u64,
    /// When it was last known to be current, in milliseconds since 1970.
    pub(crate) checked: u64,
    /// When it was used last, in milliseconds since 1970.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) used: Option<u64>,
}

/// `POST /mirrors`: fetches a file, if it is not stored.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct FetchRequest {
    /// The mirror.
    pub(crate) mirror: String,
    /// The file's path there.
    pub(crate) path: String,
}

/// One line of the answer to a [`FetchRequest`]. The last one is `Done` or `Failed`.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(tag = "is", rename_all = "snake_case")]
pub(crate) enum FetchLine {
    /// So far.
    Progress {
        /// Bytes that came.
        done: u64,
        /// Bytes in all.
        total: u64,
    },
    /// It is stored.
    Done {
        /// The file.
        file: StoredFile,
        /// False when it was stored already.
        fetched: bool,
    },
    /// It can't be had.
    Failed(Problem),
}

/// `POST /registrations/{mac}/approve`: what an admin says otherwise than was asked.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub(crate) struct Approval {
    /// Another name.
    pub(crate) name: Option<ClientName>,
    /// Another group.
    pub(crate) group: Option<EntityName>,
    /// The image that it boots; `None`: what it inherits.
    pub(crate) image: Option<ImageName>,
}

/// `POST /registrations/{mac}/reject`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Rejection {
    /// What the machine shows.
    pub(crate) why: String,
}

/// `GET /explain/{machine}`, a MAC or a client's name: what a machine would get now, and why.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Explanation {
    /// Whose; `None`: a client that has none yet.
    pub(crate) mac: Option<MacAddr>,
    /// Its entry, if it has one that is served.
    pub(crate) client: Option<Client>,
    /// Its entity, with each value and where that comes from; also one that is not served.
    pub(crate) entity: Option<EntityView>,
    /// What it would get on each interface with each firmware.
    pub(crate) cases: Vec<Case>,
    /// The disk that it would boot from; `None`: none, the cases say why.
    pub(crate) disk: Option<ExplainedDisk>,
    /// The boot script, its secret masked, or why there can be none.
    pub(crate) script: Option<ExplainedScript>,
    /// Its last boot, and what went wrong with it; `None`: none is remembered.
    pub(crate) boot: Option<BootStatus>,
    /// Which packets reach it; `None`: that was not asked for.
    pub(crate) path: Option<ExplainedPath>,
}

/// What is asked for beside, in the query of `GET /explain/{machine}`.
#[derive(Debug, Clone, Copy, Default, Serialize, Deserialize)]
#[serde(default)]
pub(crate) struct ExplainOptions {
    /// Whether to find out which packets reach the machine. It is sent some, and that takes seconds.
    pub(crate) probe: bool,
}

/// Which packets reach a machine.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct ExplainedPath {
    /// Where it was asked; `None`: its address is not known.
    pub(crate) address: Option<Ipv4Addr>,
    /// What was found; `None`: nothing could be.
    pub(crate) report: Option<PathReport>,
    /// What that means and what to do, or why nothing was found.
    pub(crate) text: String,
}

/// What a machine with that firmware would get on that interface.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Case {
    /// The interface, or the subnet behind a relay.
    pub(crate) interface: String,
    /// The firmware, or iPXE.
    pub(crate) asks: String,
    /// The address; `None`: it is not known, or there is none.
    pub(crate) address: Option<Ipv4Addr>,
    /// Where it gets its address from; `None`: from its entry, or it gets none.
    pub(crate) source: Option<AddressSource>,
    /// The boot program.
    pub(crate) boot_program: Option<String>,
    /// The script's URL.
    pub(crate) script_url: Option<String>,
    /// Why, sentence by sentence.
    pub(crate) why: Vec<String>,
}

/// The disk that a machine would boot from.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct ExplainedDisk {
    /// The image.
    pub(crate) image: ImageName,
    /// Its version.
    pub(crate) version: Version,
    /// The image's file.
    pub(crate) path: PathBuf,
    /// The target's name, with `<next>` for the epoch of the boot to come.
    pub(crate) target: String,
    /// The initiator's name.
    pub(crate) initiator: String,
    /// How much may be written, in bytes.
    pub(crate) overlay_limit: u64,
}

/// The boot script that would be rendered.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct ExplainedScript {
    /// The template.
    pub(crate) template: String,
    /// The script, or `None` with the error below.
    pub(crate) text: Option<String>,
    /// Why it can't be rendered.
    pub(crate) error: Option<String>,
}

/// `GET /render?file=NAME&client=NAME`: what a client would get for a name.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Rendering {
    /// For whom.
    pub(crate) client: ClientName,
    /// The template's name.
    pub(crate) name: String,
    /// The template's file, relative to the folder of templates.
    pub(crate) file: String,
    /// Which instance it is: a group, `mun@site_client`, `all`.
    pub(crate) instance: String,
    /// Whether it is one that bootd brings along; else it is the site's own.
    pub(crate) shipped: bool,
    /// Whether the text has a mask where the boot's secret will be.
    pub(crate) masked: bool,
    /// What the client would get.
    pub(crate) text: String,
}

/// `GET /status`: what the daemon serves and how it goes.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Status {
    /// The daemon.
    pub(crate) server: ServerStatus,
    /// The clients, by name, or the one that was asked for.
    pub(crate) clients: Vec<ClientStatus>,
    /// The images' caches.
    pub(crate) caches: Vec<lvm::CacheStatus>,
    /// The latest events, oldest first.
    pub(crate) events: Vec<LoggedEvent>,
}

/// The daemon.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct ServerStatus {
    /// Its name in target names.
    pub(crate) name: String,
    /// Its version.
    pub(crate) version: String,
    /// Its process id.
    pub(crate) pid: u32,
    /// When it started, in milliseconds since 1970.
    pub(crate) started: u64,
    /// Who makes the disks.
    pub(crate) engine: String,
    /// The site's revision in force.
    pub(crate) revision: u64,
    /// How the site's database is.
    pub(crate) store: StoreState,
    /// How many entities are stored but not served.
    pub(crate) inactive: usize,
    /// What is served where.
    pub(crate) serves: Vec<String>,
    /// What fills up, or is wrong in the network, and should be seen to.
    #[serde(default)]
    pub(crate) warnings: Vec<String>,
    /// How often what happened.
    pub(crate) counters: BTreeMap<String, u64>,
}

/// An event of the log.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct LoggedEvent {
    /// When, in milliseconds since 1970.
    pub(crate) at: u64,
    /// What, as in the log.
    pub(crate) text: String,
}

/// One client.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct ClientStatus {
    /// Its name.
    pub(crate) name: ClientName,
    /// Its network card.
    pub(crate) mac: MacAddr,
    /// The address that it has leased.
    pub(crate) address: Option<Ipv4Addr>,
    /// Where it was seen last, where another DHCP server gives the addresses.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) seen: Option<Sighting>,
    /// The address that its entry names.
    pub(crate) reserved: Option<Ipv4Addr>,
    /// Where it gets one from if its entry names none.
    pub(crate) source: AddressSource,
    /// Its last boot.
    pub(crate) boot: Option<BootStatus>,
    /// Its disk.
    pub(crate) disk: Option<DiskState>,
}

/// One boot.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct BootStatus {
    /// Its epoch, as in the target's name.
    pub(crate) epoch: String,
    /// When it began, in milliseconds since 1970.
    pub(crate) started: u64,
    /// How it stands.
    pub(crate) progress: Progress,
    /// How long each part took that is over.
    pub(crate) phases: Vec<PhaseTime>,
    /// Its steps, in their order.
    pub(crate) steps: Vec<BootStep>,
    /// How many more steps there were than are kept.
    pub(crate) left_out: u64,
    /// What is wrong with it, what stops it first.
    pub(crate) findings: Vec<Finding>,
}

/// How long a part of a boot took.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct PhaseTime {
    /// Which.
    pub(crate) phase: Phase,
    /// In milliseconds.
    pub(crate) took: u64,
}

/// `GET /boots/{machine}?last=N`: the boots of a machine that are remembered.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct BootHistory {
    /// Whose.
    pub(crate) mac: MacAddr,
    /// Its client's name, if it is a client.
    pub(crate) client: Option<ClientName>,
    /// The newest first.
    pub(crate) boots: Vec<BootStatus>,
}

/// One step of a boot.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct BootStep {
    /// When, in milliseconds after the boot's start.
    pub(crate) after: u64,
    /// What.
    pub(crate) what: String,
    /// What of it.
    pub(crate) detail: String,
    /// Whether it is what went wrong.
    #[serde(default)]
    pub(crate) failed: bool,
}

/// `GET /capture/{machine}`: when a capture is over, which is when the first of these is reached.
#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
pub(crate) struct CaptureLimits {
    /// How long it lasts, in seconds.
    pub(crate) seconds: u64,
    /// How many packets are captured.
    pub(crate) packets: u64,
    /// How long the file may become, in bytes.
    pub(crate) bytes: u64,
    /// Whether what disks send is kept whole.
    pub(crate) full: bool,
}

/// A client's disk.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct DiskState {
    /// The image that it is a copy of.
    pub(crate) image: String,
    /// The image's version.
    pub(crate) version: String,
    /// Space that the client's writes take, in bytes.
    pub(crate) used: u64,
    /// How much that may be, in bytes.
    pub(crate) limit: u64,
}
