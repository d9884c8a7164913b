//! What a template may say of the client, the server and this boot.

use std::fmt;
use std::net::Ipv4Addr;

use serde::Serialize;
use serde::ser::{SerializeMap, Serializer};
use site::{ClientName, ImageName, MacAddr};

/// The port that an iSCSI URI may leave out.
const ISCSI_PORT: u16 = 3260;

/// Everything that one rendering knows. A field that is `None` is not defined in the template: to print it is an
/// error, `{% if boot.target is defined %}` asks.
#[derive(Debug, Clone, Serialize)]
pub struct Context {
    /// The client, as `client`.
    pub client: ClientFacts,
    /// The appserver, as `server`.
    pub server: ServerFacts,
    /// This boot, as `boot`.
    pub boot: BootFacts,
    /// Why the client gets what it gets, one sentence each, as `why`.
    pub why: Vec<String>,
    /// What the client may choose among, as `menu`; `None`: nothing.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub menu: Option<MenuFacts>,
    /// What is being booted, as `choice`, where it is one of the site's choices. Beside these fields it has the
    /// variables of its entity.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub choice: Option<ChoiceFacts>,
}

/// A menu, made for one client.
#[derive(Debug, Clone, Serialize)]
pub struct MenuFacts {
    /// `menu.title`.
    pub title: String,
    /// `menu.items`: what can be chosen, in its order; what no menu shows is left out.
    pub items: Vec<ChoiceFacts>,
    /// `menu.default`: the name of what is booted when nobody chooses.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub default: Option<String>,
    /// `menu.timeout`: for how many milliseconds it waits; 0: until somebody chooses.
    pub timeout: u64,
    /// `menu.hidden`: whether it shows only if a key is pressed.
    pub hidden: bool,
    /// `menu.url`: where the client's outermost menu is.
    pub url: String,
    /// `menu.choices_url`: what the choices' URLs begin with; a name and `.ipxe` complete one.
    pub choices_url: String,
    /// `menu.inner`: whether it is a sub-menu.
    pub inner: bool,
}

/// One of the site's choices.
#[derive(Debug, Clone, Serialize)]
pub struct ChoiceFacts {
    /// `choice.name`.
    pub name: String,
    /// `choice.title`.
    pub title: String,
    /// `choice.kind`: `disk`, `linux`, `installer`, `wim`, `program`, `local` or `menu`.
    pub kind: String,
    /// `choice.key`: the key that chooses it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub key: Option<char>,
    /// `choice.url`: where its script is for this client.
    pub url: String,
}

/// Who is booting.
#[derive(Debug, Clone, Serialize)]
pub struct ClientFacts {
    /// `client.name`; `None`: the site does not know it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub name: Option<ClientName>,
    /// `client.mac`, with colons.
    pub mac: MacAddr,
    /// `client.address`: the one it has now.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub address: Option<Ipv4Addr>,
    /// `client.image`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub image: Option<ImageName>,
}

/// Who serves it.
#[derive(Debug, Clone)]
pub struct ServerFacts {
    /// `server.name`.
    pub name: String,
    /// `server.address`: the one that this client talks to.
    pub address: Ipv4Addr,
    /// `server.http_port`. From it and the address comes `server.url`, which does not end in a slash.
    pub http_port: u16,
}

/// Which boot it is.
#[derive(Debug, Clone, Serialize)]
pub struct BootFacts {
    /// `boot.address`: the one that the client has in this boot.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub address: Option<Ipv4Addr>,
    /// `boot.firmware`: `bios` or `uefi`.
    pub firmware: String,
    /// `boot.arch`: `x86_64`, `arm64`, ...
    pub arch: String,
    /// `boot.script_url`: where this client's boot script is.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub script_url: Option<String>,
    /// The client's disk, its fields beside the others in `boot`. `None`: it gets none.
    #[serde(flatten)]
    pub disk: Option<DiskFacts>,
}

/// The disk of this boot, and how to log in to it.
#[derive(Debug, Clone)]
pub struct DiskFacts {
    /// `boot.epoch`: which boot of this client it is; the later the larger.
    pub epoch: u64,
    /// The address that the target is reached at.
    pub portal: Ipv4Addr,
    /// The port that the target is reached at.
    pub port: u16,
    /// `boot.target`: the target's IQN.
    pub target: String,
    /// `boot.initiator`: the client's IQN.
    pub initiator: String,
    /// `boot.user`: the CHAP account's name.
    pub user: String,
    /// `boot.secret`: the CHAP account's secret. `None`: this text may not have it.
    pub secret: Option<Secret>,
    /// `boot.lun`. From it, the target and the portal comes `boot.sanuri`, as iPXE wants it.
    pub lun: u64,
    /// `boot.on_link`: whether the target is on the client's own subnet.
    pub on_link: bool,
}

/// Text that no log shows.
#[derive(Clone, PartialEq, Eq, Serialize)]
#[serde(transparent)]
pub struct Secret(String);

impl Secret {
    /// Hides `text` from `Debug`.
    #[must_use]
    pub fn new(text: impl Into<String>) -> Self {
        Self(text.into())
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("***")
    }
}

impl ServerFacts {
    /// The base of its HTTP URLs, without a slash at the end.
    #[must_use]
    pub fn url(&self) -> String {
        match self.http_port {
            80 => format!("http://{}", self.address),
            port => format!("http://{}:{port}", self.address),
        }
    }
}

impl DiskFacts {
    /// The disk as iPXE's `sanboot` takes it: `iscsi:SERVER:PROTOCOL:PORT:LUN:TARGET`, where the protocol stays empty
    /// and the LUN is hexadecimal (RFC 4173, section 5).
    #[must_use]
    pub fn sanuri(&self) -> String {
        let port = if self.port == ISCSI_PORT { String::new() } else { self.port.to_string() };
        format!("iscsi:{}::{port}:{:x}:{}", self.portal, self.lun, self.target)
    }
}

impl Serialize for ServerFacts {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(None)?;
        map.serialize_entry("name", &self.name)?;
        map.serialize_entry("address", &self.address)?;
        map.serialize_entry("http_port", &self.http_port)?;
        map.serialize_entry("url", &self.url())?;
        map.end()
    }
}

impl Serialize for DiskFacts {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(None)?;
        map.serialize_entry("epoch", &self.epoch)?;
        map.serialize_entry("target", &self.target)?;
        map.serialize_entry("initiator", &self.initiator)?;
        map.serialize_entry("user", &self.user)?;
        if let Some(secret) = &self.secret {
            map.serialize_entry("secret", secret)?;
        }
        map.serialize_entry("lun", &self.lun)?;
        map.serialize_entry("sanuri", &self.sanuri())?;
        map.serialize_entry("on_link", &self.on_link)?;
        map.end()
    }
}

impl ClientFacts {
    /// How errors name it.
    pub(crate) fn label(&self) -> String {
        match &self.name {
            Some(name) => name.to_string(),
            None => self.mac.to_string(),
        }
    }
}
