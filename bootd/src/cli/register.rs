//! `bootd register`.

use clap::Subcommand;
use hyper::Method;
use netboot::Registration;
use site::entity::EntityName;
use site::{Client, ClientName, ImageName, MacAddr};

use super::args::Common;
use super::daemon::{Daemon, NOTHING};
use super::table::table;
use super::{Failure, or_dash, print, show};
use crate::control::api::{Approval, Edit, Rejection};

/// What can be done about them.
#[derive(Debug, Subcommand)]
pub(super) enum RegisterCommand {
    /// List who waits, and who was rejected
    List {
        #[command(flatten)]
        common: Common,
    },
    /// Make a machine a client; it boots as soon as it asks again
    #[command(after_help = "Examples:\n  \
        bootd register approve 52:54:00:77:00:09\n  \
        bootd register approve 52:54:00:77:00:09 --name pc9 --group en1018")]
    Approve {
        /// The machine
        mac: MacAddr,
        /// Another name than was asked for
        #[arg(long)]
        name: Option<ClientName>,
        /// Another group than was asked for
        #[arg(long)]
        group: Option<EntityName>,
        /// The image that it boots [default: what it inherits]
        #[arg(long)]
        image: Option<ImageName>,
        #[command(flatten)]
        common: Common,
    },
    /// Say no; the machine shows why
    Reject {
        /// The machine
        mac: MacAddr,
        /// What it shows
        #[arg(long, default_value = "it is not to be registered")]
        why: String,
        #[command(flatten)]
        common: Common,
    },
    /// Forget a machine, as if nobody had typed anything there
    Forget {
        /// The machine
        mac: MacAddr,
        #[command(flatten)]
        common: Common,
    },
}

pub(super) async fn run(command: RegisterCommand) -> Result<(), Failure> {
    match command {
        RegisterCommand::List { common } => {
            let all: Vec<Registration> = daemon(&common)?.get("/registrations").await?;
            show(common.json, &all, |all| list(all))
        }
        RegisterCommand::Approve { mac, name, group, image, common } => {
            let path = format!("/registrations/{mac}/approve");
            let approval = Approval { name, group, image };
            let edit: Edit<Client> = daemon(&common)?.call(Method::POST, &path, Some(&approval)).await?;
            show(common.json, &edit, |edit| {
                let Client { name, image, .. } = &edit.value;
                let boots = or_dash(image.as_ref());
                format!("{mac} is client {name} now; its image is {boots}\n")
            })
        }
        RegisterCommand::Reject { mac, why, common } => {
            let path = format!("/registrations/{mac}/reject");
            let () = daemon(&common)?.call(Method::POST, &path, Some(&Rejection { why })).await?;
            done(&common, &format!("{mac} is told so, and may ask again\n"))
        }
        RegisterCommand::Forget { mac, common } => {
            let () = daemon(&common)?.call(Method::DELETE, &format!("/registrations/{mac}"), NOTHING).await?;
            done(&common, &format!("{mac} is forgotten\n"))
        }
    }
}

fn daemon(common: &Common) -> Result<Daemon, Failure> {
    Daemon::of(&common.place.flags())
}

fn done(common: &Common, text: &str) -> Result<(), Failure> {
    if common.json { show(true, &(), |()| String::new()) } else { print(text) }
}

fn list(all: &[Registration]) -> String {
    if all.is_empty() {
        return "nobody waits to be registered\n".to_owned();
    }
    let row = |one: &Registration| {
        [
            one.mac.to_string(),
            one.form.name.to_string(),
            or_dash(one.form.group.as_ref()),
            one.address.to_string(),
            format!("{} {}", one.form.manufacturer, one.form.product).trim().to_owned(),
            or_dash(Some(&one.form.serial).filter(|serial| !serial.is_empty())),
            one.rejected.as_ref().map_or_else(|| "waits".to_owned(), |why| format!("rejected: {why}")),
        ]
    };
    let head = ["MAC", "NAME", "GROUP", "ADDRESS", "MACHINE", "SERIAL", "STATE"];
    table(head, &all.iter().map(row).collect::<Vec<_>>())
}
