//! `[dhcp]`: what holds on each interface that is served, and for each subnet behind a relay.
//!
//! What a table of an interface or a subnet leaves away is as `[dhcp]` itself says; what that leaves away has a default.

use std::net::Ipv4Addr;
use std::time::Duration;

use netboot::{Mode, PoolRange, Subnet, Unknown};
use toml::Spanned;

use super::link::{has_host, hosts};
use super::load::Source;
use super::wire::{DhcpOn, Names};
use super::{ConfigError, ServedInterface, amounts};

/// Shortest and longest lease. Shorter ones make clients ask all the time; longer ones never come back.
const LEASES: (Duration, Duration) = (Duration::from_secs(60), Duration::from_secs(30 * 86_400));

/// What is written for a lease that never ends (RFC 2131 §3.3).
const FOR_EVER: &str = "infinite";

/// How the machines of one subnet are given addresses.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Dhcp {
    /// Whether bootd gives them, or what it does beside the server that does.
    pub(crate) mode: Mode,
    /// Addresses for machines whose entry names none; `None`: there are none.
    pub(crate) pool: Option<PoolRange>,
    /// The router that clients are told of; `None`: none.
    pub(crate) router: Option<Ipv4Addr>,
    /// The name servers clients are told of.
    pub(crate) dns: Vec<Ipv4Addr>,
    /// How long a lease lasts.
    pub(crate) lease: Duration,
    /// What a machine gets that is no client.
    pub(crate) unknown: Unknown,
}

impl Default for Dhcp {
    fn default() -> Self {
        Self {
            mode: Mode::Server,
            pool: None,
            router: None,
            dns: Vec::new(),
            lease: Duration::from_secs(12 * 3600),
            unknown: Unknown::Lease,
        }
    }
}

/// A subnet behind a relay. Its requests are answered as the interface's mode has it that they come by.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Relayed {
    /// Which.
    pub(crate) subnet: Subnet,
    /// How its machines are given addresses.
    pub(crate) dhcp: Dhcp,
}

/// Settles what holds on each of `interfaces`, and returns the subnets behind relays.
pub(super) fn settle(
    source: &Source,
    interfaces: &mut [ServedInterface],
) -> Result<Vec<Relayed>, ConfigError> {
    let wire = &source.wire.dhcp;
    let general = Dhcp {
        mode: or(wire.mode.as_ref(), Mode::Server, |text| mode(source, text))?,
        pool: None,
        router: None,
        dns: or(wire.dns.as_ref(), Vec::new(), |servers| dns(source, servers))?,
        lease: or(wire.lease.as_ref(), Dhcp::default().lease, |text| lease_time(source, text))?,
        unknown: or(wire.unknown.as_ref(), Unknown::Lease, |text| unknown(source, text))?,
    };
    let router = or(wire.router.as_ref(), None, |text| address(source, text, "router").map(Some))?;
    for link in interfaces.iter_mut() {
        link.dhcp = Dhcp { pool: link.default_pool(), ..general.clone() };
        link.dhcp.router = router.filter(|router| link.has_host(*router));
    }
    if let (Some(text), Some(address)) = (&wire.router, router)
        && interfaces.iter().all(|link| link.dhcp.router.is_none())
    {
        let what = format!("no client can reach a router at {address}");
        return Err(source.wrong(text, what, format!("stay within {}", subnets(interfaces))));
    }
    general_pool(source, interfaces)?;
    for (name, own) in &wire.interface {
        own_interface(source, interfaces, name, own)?;
    }
    wire.subnet.iter().map(|(name, own)| relayed(source, interfaces, &general, name, own)).collect()
}

/// Puts the pool that `[dhcp]` names in the place of the default ones.
fn general_pool(source: &Source, interfaces: &mut [ServedInterface]) -> Result<(), ConfigError> {
    let Some(text) = &source.wire.dhcp.pool else { return Ok(()) };
    let Some((first, last)) = ends(source, text)? else {
        interfaces.iter_mut().for_each(|link| link.dhcp.pool = None);
        return Ok(());
    };
    let Some(link) = interfaces.iter_mut().find(|link| link.has_host(first) && link.has_host(last)) else {
        let what = format!("{:?} does not lie in the subnet of an interface that is served", text.get_ref());
        return Err(source.wrong(text, what, format!("stay within {}", subnets(interfaces))));
    };
    link.dhcp.pool = Some(pool(source, text, first, last, link.address)?);
    Ok(())
}

/// What `[dhcp.interface.NAME]` says.
fn own_interface(
    source: &Source,
    interfaces: &mut [ServedInterface],
    name: &Spanned<String>,
    own: &DhcpOn,
) -> Result<(), ConfigError> {
    let Some(link) = interfaces.iter_mut().find(|link| link.name == *name.get_ref()) else {
        let served: Vec<_> = interfaces.iter().map(|link| link.name.as_str()).collect();
        let what = format!("{:?} is no interface that is served", name.get_ref());
        let remedy =
            format!("name it in `interface` at the top, too, or write one of: {}", served.join(", "));
        return Err(source.wrong(name, what, remedy));
    };
    let subnet = link.subnet();
    let (address, mut dhcp) = (link.address, link.dhcp.clone());
    if let Some(text) = &own.mode {
        dhcp.mode = mode(source, text)?;
    }
    adopt(source, own, subnet, Some(address), &mut dhcp)?;
    link.dhcp = dhcp;
    Ok(())
}

/// What `[dhcp.subnet."NETWORK/BITS"]` says.
fn relayed(
    source: &Source,
    interfaces: &[ServedInterface],
    general: &Dhcp,
    name: &Spanned<String>,
    own: &DhcpOn,
) -> Result<Relayed, ConfigError> {
    let example =
        "write its first address and the bits of its mask, for example: [dhcp.subnet.\"10.9.0.0/24\"]";
    let subnet: Subnet = name
        .get_ref()
        .parse()
        .map_err(|e| source.wrong(name, format!("{:?}: {e}", name.get_ref()), example))?;
    if let Some(link) = interfaces.iter().find(|link| {
        let theirs = link.subnet();
        theirs.contains(subnet.network()) || subnet.contains(theirs.network())
    }) {
        let what = format!("{subnet} is the subnet of {} itself, not one behind a relay", link.name);
        return Err(source.wrong(name, what, format!("write [dhcp.interface.{}]", link.name)));
    }
    if let Some(mode) = &own.mode {
        let remedy =
            "leave it away: requests of a relay are answered by the mode of the interface that they come by";
        return Err(source.wrong(mode, "a subnet behind a relay has no mode of its own", remedy));
    }
    let mut dhcp = general.clone();
    adopt(source, own, subnet, None, &mut dhcp)?;
    Ok(Relayed { subnet, dhcp })
}

/// Takes over what a table of its own says for a subnet in which `ours` is our address.
fn adopt(
    source: &Source,
    own: &DhcpOn,
    subnet: Subnet,
    ours: Option<Ipv4Addr>,
    dhcp: &mut Dhcp,
) -> Result<(), ConfigError> {
    let within = || match hosts(subnet) {
        Some((first, last)) => format!("stay within {first}-{last}"),
        None => "it has no room for clients".to_owned(),
    };
    if let Some(text) = &own.pool {
        dhcp.pool = match ends(source, text)? {
            None => None,
            Some((first, last)) if has_host(subnet, first) && has_host(subnet, last) => {
                Some(pool(source, text, first, last, ours.unwrap_or(Ipv4Addr::UNSPECIFIED))?)
            }
            Some(_) => {
                let what = format!("{:?} does not lie in the subnet {subnet}", text.get_ref());
                return Err(source.wrong(text, what, within()));
            }
        };
    }
    if let Some(text) = &own.router {
        let router = address(source, text, "router")?;
        if !has_host(subnet, router) {
            let what = format!("no client in {subnet} can reach a router at {router}");
            return Err(source.wrong(text, what, within()));
        }
        dhcp.router = Some(router);
    }
    if let Some(servers) = &own.dns {
        dhcp.dns = dns(source, servers)?;
    }
    if let Some(text) = &own.lease {
        dhcp.lease = lease_time(source, text)?;
    }
    if let Some(text) = &own.unknown {
        dhcp.unknown = unknown(source, text)?;
    }
    Ok(())
}

fn or<T, V>(
    value: Option<&V>,
    default: T,
    read: impl FnOnce(&V) -> Result<T, ConfigError>,
) -> Result<T, ConfigError> {
    value.map_or(Ok(default), read)
}

/// The ends of a pool; `None`: "none".
fn ends(source: &Source, text: &Spanned<String>) -> Result<Option<(Ipv4Addr, Ipv4Addr)>, ConfigError> {
    if text.get_ref() == "none" {
        return Ok(None);
    }
    amounts::address_range(text.get_ref()).map(Some).ok_or_else(|| {
        let what = format!("{:?} is no range of addresses", text.get_ref());
        let remedy =
            "write the first and the last, for example: pool = \"10.0.0.100-10.0.0.200\", or \"none\"";
        source.wrong(text, what, remedy)
    })
}

fn pool(
    source: &Source,
    text: &Spanned<String>,
    first: Ipv4Addr,
    last: Ipv4Addr,
    ours: Ipv4Addr,
) -> Result<PoolRange, ConfigError> {
    if (first..=last).contains(&ours) {
        let what = format!("the pool holds this server's own address {ours}");
        return Err(source.wrong(text, what, "end the pool before it, or begin behind it"));
    }
    PoolRange::new(first, last).map_err(|e| source.wrong(text, e.to_string(), "choose a smaller one"))
}

/// The addresses that machines can have, for messages.
fn subnets(interfaces: &[ServedInterface]) -> String {
    let shown = interfaces.iter().filter_map(|link| {
        let (first, last) = link.hosts()?;
        Some(format!("{first}-{last} (on {})", link.name))
    });
    shown.collect::<Vec<_>>().join(" or ")
}

fn mode(source: &Source, text: &Spanned<String>) -> Result<Mode, ConfigError> {
    match text.get_ref().as_str() {
        "server" => Ok(Mode::Server),
        "proxy" => Ok(Mode::Proxy),
        "off" => Ok(Mode::Off),
        other => {
            let remedy = "write \"server\" (bootd gives the addresses), \"proxy\" (another server does, and bootd says \
                          what to boot) or \"off\" (another server does both)";
            Err(source.wrong(text, format!("{other:?} is no mode of DHCP"), remedy))
        }
    }
}

fn unknown(source: &Source, text: &Spanned<String>) -> Result<Unknown, ConfigError> {
    match text.get_ref().as_str() {
        "lease" => Ok(Unknown::Lease),
        "ignore" => Ok(Unknown::Ignore),
        "register" => Ok(Unknown::Register),
        "guest" => Ok(Unknown::Guest),
        other => {
            let remedy = "write \"lease\" (an address, nothing to boot), \"ignore\" (no answer), \"register\" (a form to ask for a name) or \
                          \"guest\" (the site's guest_choice)";
            Err(source.wrong(text, format!("{other:?} is no way to treat unknown machines"), remedy))
        }
    }
}

fn address(source: &Source, text: &Spanned<String>, key: &str) -> Result<Ipv4Addr, ConfigError> {
    text.get_ref().parse().map_err(|_| {
        let what = format!("{:?} is no IPv4 address", text.get_ref());
        source.wrong(text, what, format!("write, for example: {key} = \"10.0.0.254\""))
    })
}

fn dns(source: &Source, servers: &Spanned<Names>) -> Result<Vec<Ipv4Addr>, ConfigError> {
    let read = |text: &String| {
        text.parse().map_err(|_| {
            let what = format!("{text:?} is no IPv4 address");
            source.wrong(servers, what, "write, for example: dns = [\"10.0.0.53\"]")
        })
    };
    servers.get_ref().0.iter().map(read).collect()
}

fn lease_time(source: &Source, lease: &Spanned<String>) -> Result<Duration, ConfigError> {
    if lease.get_ref() == FOR_EVER {
        return Ok(Duration::MAX);
    }
    let remedy = "write a time from 60s to 30d, for example: lease = \"12h\"; or \"infinite\"";
    match amounts::duration(lease.get_ref()) {
        Some(time) if (LEASES.0..=LEASES.1).contains(&time) => Ok(time),
        Some(_) => {
            Err(source.wrong(lease, format!("{:?} is too short or too long", lease.get_ref()), remedy))
        }
        None => Err(source.wrong(lease, format!("{:?} is no length of time", lease.get_ref()), remedy)),
    }
}
