//! A network of its own: a switch, a server's place, and plugs for clients. Other labs and the machine's own network
//! never meet it.

use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};
use std::thread;

use crate::leftovers::{remove_scratch_dir, scratch_dir, sweep, unique_name};
use crate::{Context, Namespace, Result, check_machine};

/// The switch that everything is attached to.
const SWITCH: &str = "br0";
/// The server's interface in its namespace.
pub const SERVER_INTERFACE: &str = "srv0";
/// The server's address.
pub const SERVER: &str = "10.77.0.1";
/// The server's address with the length of its prefix.
const SERVER_PREFIX: &str = "10.77.0.1/24";
/// The interface of a namespace that is a client.
pub const CLIENT_INTERFACE: &str = "eth0";

/// Two network namespaces and a scratch directory, gone when dropped:
/// `switch` has a bridge, to which virtual machines' taps and clients' cables are attached; `server` is the other end
/// of one cable and has the address [`SERVER`].
#[derive(Debug)]
pub struct Lab {
    name: String,
    server: Namespace,
    switch: Namespace,
    dir: PathBuf,
    plugs: AtomicU32,
    tells: bool,
}

impl Lab {
    /// A new one, whose daemons and machines say at their end what they last did: a test's output is only shown when it
    /// fails.
    ///
    /// # Errors
    /// When this machine can't run one; the text says what it lacks.
    pub fn new() -> Result<Self> {
        Self::make(true)
    }

    /// A new one for a test; `None` where this machine can't run it, which is said on the terminal. Under `CI=true`
    /// that is a failure: there a test that does not run is one that nobody misses.
    ///
    /// # Errors
    /// When it can't be made.
    pub fn for_test() -> Result<Option<Self>> {
        match check_machine() {
            Ok(()) => Self::new().map(Some),
            Err(failure) if std::env::var("CI").is_ok_and(|ci| ci == "true") => Err(failure),
            Err(failure) => {
                // Straight to the terminal: what a passing test prints is not shown.
                let test = thread::current().name().unwrap_or("a test").to_owned();
                writeln!(std::io::stderr(), "skipped {test}: {failure}")?;
                Ok(None)
            }
        }
    }

    /// A new one where nothing is printed unasked.
    ///
    /// # Errors
    /// When this machine can't run one; the text says what it lacks.
    pub fn silent() -> Result<Self> {
        Self::make(false)
    }

    fn make(tells: bool) -> Result<Self> {
        check_machine()?;
        sweep();
        let name = unique_name()?;
        let dir = scratch_dir(&name);
        fs::create_dir(&dir).context(dir.display())?;
        // The lab exists before it is built, so that what is half built is removed as well.
        let lab = Self {
            server: Namespace::new(format!("{name}-server"))?,
            switch: Namespace::new(format!("{name}-switch"))?,
            plugs: AtomicU32::new(0),
            name,
            dir,
            tells,
        };
        lab.switch.ip(&["link", "add", SWITCH, "type", "bridge", "stp_state", "0", "forward_delay", "0"])?;
        lab.switch.ip(&["link", "set", SWITCH, "up"])?;
        lab.cable("server", &lab.server, SERVER_INTERFACE)?;
        lab.server.ip(&["addr", "add", SERVER_PREFIX, "dev", SERVER_INTERFACE])?;
        lab.server.ip(&["link", "set", SERVER_INTERFACE, "up"])?;
        Ok(lab)
    }

    /// Where the server lives.
    #[must_use]
    pub fn server(&self) -> &Namespace {
        &self.server
    }

    /// Where the bridge and the virtual machines live.
    #[must_use]
    pub fn switch(&self) -> &Namespace {
        &self.switch
    }

    /// A directory for files that go with the lab.
    #[must_use]
    pub fn dir(&self) -> &Path {
        &self.dir
    }

    /// Whether what runs in it says at its end what it last did.
    pub(crate) fn tells(&self) -> bool {
        self.tells
    }

    /// A new tap on the switch, for a virtual machine that runs in [`Lab::switch`]. Returns its name.
    ///
    /// # Errors
    /// When it can't be made.
    pub fn tap(&self) -> Result<String> {
        self.tap_on(SWITCH)
    }

    /// The same on a switch that is behind a router.
    ///
    /// # Errors
    /// When it can't be made.
    pub(crate) fn tap_on(&self, bridge: &str) -> Result<String> {
        let tap = format!("tap{}", self.next_plug());
        self.switch.ip(&["tuntap", "add", "dev", &tap, "mode", "tap"])?;
        self.switch.ip(&["link", "set", &tap, "master", bridge, "up"])?;
        Ok(tap)
    }

    /// A second switch, at which nothing is but that new interface of `router`. Returns its name, for
    /// [`VirtualClient::start_on`](crate::VirtualClient::start_on).
    ///
    /// # Errors
    /// When it can't be made.
    pub fn switch_behind(&self, router: &Namespace, interface: &str) -> Result<String> {
        let number = self.next_plug();
        let bridge = format!("br{}", number + 1);
        self.switch.ip(&[
            "link",
            "add",
            &bridge,
            "type",
            "bridge",
            "stp_state",
            "0",
            "forward_delay",
            "0",
        ])?;
        self.switch.ip(&["link", "set", &bridge, "up"])?;
        self.cable_on(&bridge, &format!("port{number}"), router, interface)?;
        router.ip(&["link", "set", interface, "up"])?;
        Ok(bridge)
    }

    /// A new namespace whose [`CLIENT_INTERFACE`] is on the switch, with that Ethernet address and no IP address.
    ///
    /// # Errors
    /// When it can't be made.
    pub fn plug(&self, mac: &str) -> Result<Namespace> {
        let number = self.next_plug();
        let client = Namespace::new(format!("{}-client{number}", self.name))?;
        self.cable(&format!("port{number}"), &client, CLIENT_INTERFACE)?;
        client.ip(&["link", "set", CLIENT_INTERFACE, "address", mac])?;
        client.ip(&["link", "set", CLIENT_INTERFACE, "up"])?;
        Ok(client)
    }

    /// A new namespace whose [`CLIENT_INTERFACE`] is the other end of a cable to that interface of `router`, with that
    /// Ethernet address and no IP address.
    ///
    /// # Errors
    /// When it can't be made.
    pub fn plug_behind(&self, router: &Namespace, interface: &str, mac: &str) -> Result<Namespace> {
        let client = Namespace::new(format!("{}-client{}", self.name, self.next_plug()))?;
        let (here, there) = (router.name(), client.name());
        let peer = ["peer", "name", CLIENT_INTERFACE, "netns", there];
        router.ip(&[&["link", "add", interface, "netns", here, "type", "veth"], &peer[..]].concat())?;
        router.ip(&["link", "set", interface, "up"])?;
        client.ip(&["link", "set", CLIENT_INTERFACE, "address", mac])?;
        client.ip(&["link", "set", CLIENT_INTERFACE, "up"])?;
        Ok(client)
    }

    fn cable(&self, port: &str, to: &Namespace, interface: &str) -> Result {
        self.cable_on(SWITCH, port, to, interface)
    }

    fn cable_on(&self, bridge: &str, port: &str, to: &Namespace, interface: &str) -> Result {
        let (here, there) = (self.switch.name(), to.name());
        let peer = ["peer", "name", interface, "netns", there];
        self.switch.ip(&[&["link", "add", port, "netns", here, "type", "veth"], &peer[..]].concat())?;
        self.switch.ip(&["link", "set", port, "master", bridge, "up"])?;
        Ok(())
    }

    fn next_plug(&self) -> u32 {
        self.plugs.fetch_add(1, Ordering::Relaxed)
    }
}

impl Drop for Lab {
    fn drop(&mut self) {
        // Files outlive the failure that they explain, as long as somebody asks for it.
        if thread::panicking() && std::env::var_os("BOOTD_KEEP").is_some() {
            eprintln!("kept for you: {}", self.dir.display());
        } else {
            remove_scratch_dir(&self.dir);
        }
    }
}
