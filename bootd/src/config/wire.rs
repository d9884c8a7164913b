//! `bootd.toml` as it is written: every key optional, every value as typed, with its place in the file. What the
//! values mean and which are allowed is [`Config`](super::Config)'s.

use std::collections::BTreeMap;
use std::fmt;
use std::path::PathBuf;

use serde::Deserialize;
use serde::de::{SeqAccess, Visitor};
use toml::Spanned;

/// The whole file.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct Wire {
    pub(super) interface: Option<Spanned<Names>>,
    pub(super) data: Option<Spanned<PathBuf>>,
    pub(super) site: Option<Spanned<String>>,
    pub(super) server: Option<Spanned<String>>,
    pub(super) domain: Option<Spanned<String>>,
    pub(super) iqn_date: Option<Spanned<String>>,
    pub(super) router_advertisement: Option<bool>,
    pub(super) boot_programs: Option<Spanned<Vec<PathBuf>>>,
    pub(super) log: Option<Spanned<String>>,
    pub(super) dhcp: Dhcp,
    pub(super) tftp: Tftp,
    pub(super) http: Port,
    pub(super) iscsi: Port,
    pub(super) cache: Cache,
    pub(super) overlay: Overlay,
    pub(super) engine: Engine,
    pub(super) mirror: Mirror,
}

/// The keys that may stand in `[dhcp]` itself and, where it differs, in a table of an interface or a subnet. (serde's `flatten`,
/// by which one struct would hold the other, can't deny unknown keys and loses the places of values.)
macro_rules! dhcp_tables {
    ($($(#[$about:meta])* $name:ident { $($more:ident: $kind:ty,)* })*) => {
        $(
            $(#[$about])*
            #[derive(Debug, Default, Deserialize)]
            #[serde(deny_unknown_fields, default)]
            pub(super) struct $name {
                pub(super) mode: Option<Spanned<String>>,
                pub(super) pool: Option<Spanned<String>>,
                pub(super) router: Option<Spanned<String>>,
                pub(super) dns: Option<Spanned<Names>>,
                pub(super) lease: Option<Spanned<String>>,
                pub(super) unknown: Option<Spanned<String>>,
                $(pub(super) $more: $kind,)*
            }
        )*
    };
}

dhcp_tables! {
    /// `[dhcp]`
    Dhcp {
        interface: BTreeMap<Spanned<String>, DhcpOn>,
        subnet: BTreeMap<Spanned<String>, DhcpOn>,
    }

    /// `[dhcp.interface.NAME]` and `[dhcp.subnet."NETWORK/BITS"]`: what differs there.
    DhcpOn {}
}

/// `[tftp]`
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct Tftp {
    pub(super) enabled: Option<bool>,
    pub(super) single_port: Option<Spanned<Names>>,
}

/// `[http]` and `[iscsi]`
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct Port {
    pub(super) port: Option<Spanned<i64>>,
}

/// `[cache]`
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct Cache {
    pub(super) size: Option<Spanned<String>>,
}

/// `[overlay]`
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct Overlay {
    pub(super) limit: Option<Spanned<String>>,
    pub(super) directory: Option<Spanned<PathBuf>>,
}

/// `[engine]`
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct Engine {
    pub(super) kind: Option<Spanned<String>>,
    pub(super) fallback: Option<Spanned<String>>,
    pub(super) target: Option<Spanned<String>>,
    pub(super) overlays: Option<Spanned<String>>,
    pub(super) space: Option<Spanned<PathBuf>>,
    pub(super) space_size: Option<Spanned<String>>,
    pub(super) cache: Option<Spanned<String>>,
    pub(super) write_cache: Option<Spanned<String>>,
}

/// `[mirror]`
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct Mirror {
    pub(super) limit: Option<Spanned<String>>,
    pub(super) directory: Option<Spanned<PathBuf>>,
}

/// One name, or a list of them: `"eth1"` or `["eth1", "eth2"]`.
#[derive(Debug)]
pub(super) struct Names(pub(super) Vec<String>);

impl<'de> Deserialize<'de> for Names {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct OneOrMany;
        impl<'de> Visitor<'de> for OneOrMany {
            type Value = Names;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a string or a list of strings")
            }

            fn visit_str<E>(self, name: &str) -> Result<Names, E> {
                Ok(Names(vec![name.to_owned()]))
            }

            fn visit_seq<A: SeqAccess<'de>>(self, mut names: A) -> Result<Names, A::Error> {
                let mut all = Vec::new();
                while let Some(name) = names.next_element()? {
                    all.push(name);
                }
                Ok(Names(all))
            }
        }
        deserializer.deserialize_any(OneOrMany)
    }
}

/// Keys of earlier builds, and what took their place.
pub(super) const SUCCEEDED: &[(&str, &str)] = &[(
    "dhcp.enabled",
    "`mode` took its place: write mode = \"off\" for enabled = false, and mode = \"server\" (or nothing, it is the default) for \
     enabled = true",
)];

/// Every key with a line that is right, for error messages.
pub(super) const EXAMPLES: &[(&str, &str)] = &[
    ("interface", "interface = \"eth1\""),
    ("data", "data = \"/var/lib/bootd\""),
    ("site", "site = \"postgres://bootd:PASSWORD@db.example.org/bootd\""),
    ("server", "server = \"appserver1\""),
    ("domain", "domain = \"lab.example.org\""),
    ("iqn_date", "iqn_date = \"2026-01\""),
    ("router_advertisement", "router_advertisement = true"),
    ("boot_programs", "boot_programs = [\"/usr/lib/ipxe\"]"),
    ("log", "log = \"info\""),
    ("dhcp.mode", "mode = \"server\""),
    ("dhcp.pool", "pool = \"10.0.0.100-10.0.0.200\""),
    ("dhcp.router", "router = \"10.0.0.254\""),
    ("dhcp.dns", "dns = [\"10.0.0.53\"]"),
    ("dhcp.lease", "lease = \"12h\""),
    ("dhcp.unknown", "unknown = \"lease\""),
    ("tftp.enabled", "enabled = true"),
    ("tftp.single_port", "single_port = [\"10.9.0.0/24\"]"),
    ("http.port", "port = 80"),
    ("iscsi.port", "port = 3260"),
    ("cache.size", "size = \"4GiB\""),
    ("overlay.limit", "limit = \"20GiB\""),
    ("overlay.directory", "directory = \"/srv/overlays\""),
    ("engine.kind", "kind = \"embedded\""),
    ("engine.fallback", "fallback = \"embedded\""),
    ("engine.target", "target = \"lio\""),
    ("engine.overlays", "overlays = \"thin\""),
    ("engine.space", "space = \"/dev/disk/by-id/OVERLAYS\""),
    ("engine.space_size", "space_size = \"100GiB\""),
    ("engine.cache", "cache = \"4GiB\""),
    ("engine.write_cache", "write_cache = \"4GiB\""),
    ("mirror.limit", "limit = \"20GiB\""),
    ("mirror.directory", "directory = \"/srv/mirror\""),
];
