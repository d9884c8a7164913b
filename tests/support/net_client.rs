//! A diskless client without the machine: a namespace with a network card, in which stock tools do what firmware and
//! iPXE would do, one step at a time.

use std::collections::HashMap;
use std::fs;
use std::path::PathBuf;

use crate::{CLIENT_INTERFACE, Context, Lab, Namespace, Ran, Result, SERVER, ensure};

/// What `udhcpc` runs when it has an answer: takes the address, and writes down everything that it was told.
const SCRIPT: &str = r#"#!/bin/sh
[ "$1" = bound ] || exit 0
ip addr flush dev "$interface"
ip addr add "$ip/$mask" dev "$interface"
env > "$LEASE_FILE"
"#;

/// Who a client says that it is when it asks for an address.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Asks {
    /// An operating system.
    System,
    /// A BIOS's PXE.
    BiosPxe,
    /// UEFI x64's PXE.
    UefiPxe,
    /// UEFI x64's HTTP boot.
    UefiHttp,
    /// iPXE on a BIOS.
    Ipxe,
}

impl Asks {
    /// Vendor class, and other options by number in `udhcpc`'s hexadecimal notation.
    fn options(self) -> (&'static str, &'static [&'static str]) {
        match self {
            Self::System => ("udhcp", &[]),
            Self::BiosPxe => ("PXEClient:Arch:00000:UNDI:002001", &["0x5d:0000"]),
            Self::UefiPxe => ("PXEClient:Arch:00007:UNDI:003016", &["0x5d:0007"]),
            Self::UefiHttp => ("HTTPClient:Arch:00016:UNDI:003016", &["0x5d:0010"]),
            // User class "iPXE"; iSCSI, HTTP and menus among iPXE's features.
            Self::Ipxe => (
                "PXEClient:Arch:00000:UNDI:002001",
                &["0x5d:0000", "0x4d:69505845", "0xaf:110101130101270101"],
            ),
        }
    }
}

/// What a client was given.
#[derive(Debug, Clone)]
pub struct Lease {
    values: HashMap<String, String>,
}

impl Lease {
    /// The address.
    #[must_use]
    pub fn address(&self) -> &str {
        self.get("ip")
    }

    /// A value by `udhcpc`'s name for it; empty if it was not given.
    #[must_use]
    pub fn get(&self, name: &str) -> &str {
        self.values.get(name).map_or("", String::as_str)
    }
}

/// The disk that a boot script offers, and the account for it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OfferedDisk {
    /// Where: address and port.
    pub portal: String,
    /// The target's name.
    pub target: String,
    /// The disk's number.
    pub lun: String,
    /// The account.
    pub user: String,
    /// Its secret.
    pub secret: String,
    /// The name to log in by.
    pub initiator: String,
}

impl OfferedDisk {
    /// Reads a boot script.
    ///
    /// # Errors
    /// When it has no `sanboot` or no account.
    pub fn in_script(script: &str) -> Result<Self> {
        let value = |name: &str| {
            let line = script.lines().find_map(|line| line.strip_prefix(&format!("set {name} ")));
            line.map(|value| value.trim().to_owned()).context(format!("the script sets no {name}:\n{script}"))
        };
        let uri = script
            .lines()
            .find_map(|line| line.strip_prefix("sanboot "))
            .and_then(|rest| rest.split_whitespace().find_map(|word| word.strip_prefix("iscsi:")));
        let uri = uri.context(format!("the script has no sanboot:\n{script}"))?;
        // iscsi:SERVER:PROTOCOL:PORT:LUN:TARGET, and the target's name has colons of its own (RFC 4173).
        let parts: Vec<_> = uri.splitn(5, ':').collect();
        let [server, _, port, lun, target] = parts.as_slice() else { crate::fail!("no iSCSI URI: {uri}") };
        let or = |text: &str, default: &str| (if text.is_empty() { default } else { text }).to_owned();
        Ok(Self {
            portal: format!("{server}:{}", or(port, "3260")),
            lun: or(lun, "0"),
            target: (*target).to_owned(),
            user: value("username")?,
            secret: value("password")?,
            initiator: value("initiator-iqn")?,
        })
    }

    /// As libiscsi's tools want it. The initiator's name goes beside it: `-i`.
    #[must_use]
    pub fn url(&self) -> String {
        let Self { portal, target, lun, user, secret, .. } = self;
        format!("iscsi://{user}%{secret}@{portal}/{target}/{lun}")
    }

    /// As QEMU's tools want it, behind `--image-opts`.
    #[must_use]
    pub fn image_options(&self) -> String {
        let Self { portal, target, lun, user, secret, initiator } = self;
        format!(
            "driver=iscsi,transport=tcp,portal={portal},target={target},lun={lun},user={user},password={secret},\
             initiator-name={initiator}"
        )
    }
}

/// A client in a namespace.
#[derive(Debug)]
pub struct NetClient {
    namespace: Namespace,
    mac: String,
    files: PathBuf,
}

impl NetClient {
    /// Plugs a client with that Ethernet address into the lab.
    ///
    /// # Errors
    /// When that can't be done.
    pub fn new(lab: &Lab, mac: &str) -> Result<Self> {
        Self::in_namespace(lab, lab.plug(mac)?, mac)
    }

    /// The same in a namespace that is plugged in already.
    ///
    /// # Errors
    /// When its files can't be written.
    pub fn in_namespace(lab: &Lab, namespace: Namespace, mac: &str) -> Result<Self> {
        let files = lab.dir().join(namespace.name());
        fs::create_dir(&files)?;
        let script = files.join("udhcpc.script");
        fs::write(&script, SCRIPT)?;
        crate::sh(&["chmod", "755", &script.to_string_lossy()])?;
        Ok(Self { namespace, mac: mac.to_owned(), files })
    }

    /// The namespace.
    #[must_use]
    pub fn namespace(&self) -> &Namespace {
        &self.namespace
    }

    /// Its Ethernet address as names of files have it.
    #[must_use]
    pub fn hyphenated_mac(&self) -> String {
        self.mac.replace(':', "-")
    }

    /// A path for a file of this client.
    #[must_use]
    pub fn file(&self, name: &str) -> String {
        self.files.join(name).to_string_lossy().into_owned()
    }

    /// Asks for an address and takes it. With `more` words for `udhcpc`.
    ///
    /// # Errors
    /// When none is given.
    pub fn ask(&self, asks: Asks, more: &[&str]) -> Result<Lease> {
        let ran = self.try_ask(asks, more)?;
        ran.success().context(format!("{} got no address", self.mac))?;
        let told = fs::read_to_string(self.file("lease"))?;
        let values = told.lines().filter_map(|line| line.split_once('='));
        Ok(Lease { values: values.map(|(name, value)| (name.to_owned(), value.to_owned())).collect() })
    }

    /// The same, where a refusal may be what is wanted.
    ///
    /// # Errors
    /// When `udhcpc` can't be started.
    pub fn try_ask(&self, asks: Asks, more: &[&str]) -> Result<Ran> {
        let (class, options) = asks.options();
        let mut command = self.namespace.command("busybox");
        command.args(["udhcpc", "-f", "-n", "-q", "-t", "4", "-T", "1", "-i", CLIENT_INTERFACE]);
        command.args(["-s", &self.file("udhcpc.script"), "-V", class]);
        for wanted in ["bootfile", "tftp", "router", "hostname", "vendor"] {
            command.args(["-O", wanted]);
        }
        for option in options {
            command.args(["-x", option]);
        }
        let _ = fs::remove_file(self.file("lease"));
        crate::run(command.args(more).env("LEASE_FILE", self.file("lease")))
    }

    /// Runs `words` in its namespace to success and returns what was printed.
    ///
    /// # Errors
    /// When it fails.
    pub fn sh(&self, words: &[&str]) -> Result<String> {
        self.namespace.sh(words)
    }

    /// The URL of its boot script.
    #[must_use]
    pub fn script_url(&self) -> String {
        format!("http://{SERVER}/boot/{}/script.ipxe", self.hyphenated_mac())
    }

    /// Fetches its boot script, which begins a boot, and reads what disk it offers.
    ///
    /// # Errors
    /// When it gets no script, or one without a disk.
    pub fn fetch_script(&self) -> Result<OfferedDisk> {
        let script = self.sh(&["curl", "-sS", "--fail-with-body", "--max-time", "20", &self.script_url()])?;
        ensure!(script.starts_with("#!ipxe\n"), "no iPXE script:\n{script}");
        OfferedDisk::in_script(&script)
    }

    /// Boots as far as a machine without processor and memory can: firmware asks, iPXE asks, the script is fetched.
    ///
    /// # Errors
    /// When one of these fails.
    pub fn boot(&self) -> Result<OfferedDisk> {
        self.ask(Asks::BiosPxe, &[])?;
        self.ask(Asks::Ipxe, &[])?;
        self.fetch_script()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_script_is_read_as_ipxe_reads_it() {
        let script = "#!ipxe\nset initiator-iqn iqn.2026-01.internal.lab.pc1:system-disk\n\
                      set username user\nset password secret\n\
                      sanboot iscsi:10.77.0.1::3260:0:iqn.2026-01.internal.lab.server:image:pc1:1f || goto bad\n";
        let disk = OfferedDisk::in_script(script).unwrap();
        assert_eq!(disk.target, "iqn.2026-01.internal.lab.server:image:pc1:1f");
        let url = "iscsi://user%secret@10.77.0.1:3260/iqn.2026-01.internal.lab.server:image:pc1:1f/0";
        assert_eq!(disk.url(), url);
        assert!(OfferedDisk::in_script("#!ipxe\nexit\n").is_err());
    }
}
