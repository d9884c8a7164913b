//! Sans-I/O boot decisions: who asks, what it gets and why, in which address, file and boot of its life.
//!
//! Bytes and time come in as parameters; bytes and facts go out. No socket, file or clock is in this crate.
//!
//! - [`Packet::parse`] is the guard at the door: whatever arrives, it yields a packet or an error, never a panic.
//! - [`Asker`] is who asks; [`plan`] is the one policy behind DHCP, TFTP, HTTP and `bootd explain`.
//! - [`respond`] answers DHCP, with [`Leases`] as its memory.
//! - [`tftp`] serves one file to one client; [`parse_http_path`] and [`parse_tftp_path`] say what a name means, and
//!   [`search()`] what a boot loader would ask for next.
//! - [`Program`] is what a boot program's bytes say of it, [`Programs`] which there are.
//! - [`Boots`] keeps each boot's epoch and timeline; [`diagnose()`] says why one did not come further.

mod decision;
mod dhcp;
mod diagnose;
mod leases;
mod offer;
mod options;
mod others;
mod packet;
mod path;
mod paths;
mod plan;
mod pool;
mod program;
mod programs;
mod progress;
mod proxy;
mod pxe;
mod reason;
mod registration;
mod reloads;
mod reply;
mod search;
mod session;
mod settings;
mod shapes;
mod site_options;
mod step;
mod subnet;
pub mod tftp;

pub use decision::{Decision, DhcpEvent, Outcome};
pub use dhcp::respond;
pub use dhcproto::v4::MessageType;
pub use diagnose::{Cause, Finding, diagnose};
pub use leases::{Lease, LeaseChange, LeaseState, Leases, NoAddress};
pub use offer::{MAX_OFFERED, Offer, Start, image_of};
pub use options::Options;
pub use others::{OtherAnswer, OtherServer, Others, discover, other_answer};
pub use packet::{Packet, PacketError};
pub use path::{PathAnswer, PathReport, PathSearch};
pub use paths::{Asked, FilePath, choices_url, menu_url, parse_http_path, parse_tftp_path, script_url};
pub use plan::{BootPlan, BootProgram, plan, plan_as_usual};
pub use pool::{MAX_POOL, PoolError, PoolRange};
pub use program::{HEAD_LEN, NoProgram, Program, ProgramKind};
pub use programs::{EFI_DIRECTORY, Programs, efi_directory, other_places, raspberry_pi_place};
pub use progress::{Phase, Progress};
pub use proxy::{Door, Shape, respond_as_proxy};
pub use pxe::{Asker, Firmware, IpxeFeatures, Method, Stage};
pub use reason::Reason;
pub use registration::{Registration, RegistrationError, RegistrationForm, Registrations};
pub use reloads::Reloads;
pub use reply::{Destination, Reply};
pub use search::search;
pub use session::{Boot, BootEntry, Boots, Step};
pub use settings::{Interface, Mode, Settings, Unknown};
pub use shapes::Shapes;
pub use site_options::{SiteOption, SiteOptionError};
pub use step::{Fetch, FetchEnd, StepKind};
pub use subnet::{Subnet, SubnetError, settings_at, settings_for};
