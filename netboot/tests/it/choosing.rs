//! How firmware chooses among the offers that it gets: judges of ours, written after what the sources of EDK2
//! (`NetworkPkg/UefiPxeBcDxe/PxeBcDhcp4.c`) and iPXE (`src/net/udp/dhcp.c`) do, and after the PXE specification 2.1.

use std::net::Ipv4Addr;

use crate::wire::Message;

/// What firmware fetches in the end, and from whom.
pub(crate) type Boots = Option<(Ipv4Addr, String)>;

/// The offers that came in, in their order, and whom to ask on port 4011.
pub(crate) struct Heard<'a> {
    pub(crate) offers: &'a [Message],
    pub(crate) ask_4011: &'a mut dyn FnMut(Ipv4Addr) -> Option<Message>,
}

#[derive(Clone, Copy, PartialEq)]
enum Kind {
    /// A file at once: option 43 says how to look for servers.
    Pxe10,
    /// A file on request.
    Binl,
    Plain,
}

fn is_pxe(offer: &Message) -> bool {
    offer.get(60).is_some_and(|class| class.starts_with(b"PXEClient"))
}

/// Sub-option 6 of option 43.
fn discovery_control(offer: &Message) -> Option<u8> {
    let mut rest = offer.get(43)?;
    while let [code, len, tail @ ..] = rest {
        let (value, tail) = tail.split_at(usize::from(*len));
        if *code == 6 {
            return value.first().copied();
        }
        rest = tail;
    }
    None
}

fn kind(offer: &Message) -> Kind {
    match (is_pxe(offer), discovery_control(offer)) {
        (true, Some(_)) => Kind::Pxe10,
        (true, None) => Kind::Binl,
        (false, _) => Kind::Plain,
    }
}

fn file(offer: &Message) -> Option<String> {
    let option = offer.get(67).map(|name| String::from_utf8(name.to_vec()).unwrap());
    option.or_else(|| Some(offer.file.clone())).filter(|file| !file.is_empty())
}

fn server(offer: &Message) -> Ipv4Addr {
    if offer.siaddr.is_unspecified() {
        <[u8; 4]>::try_from(offer.get(54).expect("neither siaddr nor option 54")).unwrap().into()
    } else {
        offer.siaddr
    }
}

/// EDK2's PXE. `forgets` is the version that keeps a proxy's offer with option 43 only if it has one already, which is
/// never (tianocore/edk2#6944).
pub(crate) fn edk2(heard: Heard<'_>, forgets: bool) -> Boots {
    let Heard { offers, ask_4011 } = heard;
    let (proxies, servers): (Vec<_>, Vec<_>) = offers.iter().partition(|offer| offer.yiaddr.is_unspecified());
    let kept: Vec<_> = proxies
        .iter()
        .filter(|offer| kind(offer) == Kind::Binl || (!forgets && kind(offer) == Kind::Pxe10))
        .collect();
    let of_server = |wanted| servers.iter().find(|offer| kind(offer) == wanted);
    if let Some(offer) = of_server(Kind::Pxe10) {
        return Some((server(offer), file(offer)?));
    }
    let plain = of_server(Kind::Plain);
    if let Some(offer) = kept.iter().find(|offer| kind(offer) == Kind::Pxe10).filter(|_| plain.is_some()) {
        let bypasses = discovery_control(offer).is_some_and(|control| control & 8 != 0);
        return bypasses.then(|| Some((server(offer), file(offer)?))).flatten();
    }
    let asked = of_server(Kind::Binl).map(|offer| vec![*offer]);
    let asked = asked.unwrap_or_else(|| kept.iter().map(|offer| **offer).collect());
    for offer in asked.into_iter().filter(|_| !servers.is_empty()) {
        if let Some(answer) = ask_4011(server(offer))
            && let Some(file) = file(&answer)
        {
            return Some((server(&answer), file));
        }
    }
    // Once any proxy was heard, a plain offer's own file counts for nothing.
    let offer = plain.filter(|_| proxies.is_empty())?;
    Some((server(offer), file(offer)?))
}

/// A ROM after the specification: it takes a proxy's file if it is told to look no further, and asks it otherwise.
pub(crate) fn bios(heard: Heard<'_>) -> Boots {
    let Heard { offers, ask_4011 } = heard;
    let leased = offers.iter().find(|offer| !offer.yiaddr.is_unspecified())?;
    match offers.iter().find(|offer| is_pxe(offer)) {
        Some(proxy) if discovery_control(proxy).is_some_and(|control| control & 8 != 0) => {
            Some((server(proxy), file(proxy)?))
        }
        Some(proxy) => {
            let answer = ask_4011(server(proxy))?;
            Some((server(&answer), file(&answer)?))
        }
        None => Some((server(leased), file(leased)?)),
    }
}

/// UEFI HTTP boot (`NetworkPkg/HttpBootDxe/HttpBootDhcp4.c`): an offer counts if it is marked as meant for it and its file is a
/// URL, whose server it can find by its address, or by a name if it is told a name server.
pub(crate) fn edk2_http(offers: &[Message]) -> Option<String> {
    offers.iter().filter(|offer| !offer.yiaddr.is_unspecified()).find_map(|offer| {
        let marked = offer.get(60).is_some_and(|class| class.starts_with(b"HTTPClient"));
        let url = file(offer).filter(|_| marked)?;
        let host = url.strip_prefix("http://")?.split(['/', ':']).next()?;
        (host.parse::<Ipv4Addr>().is_ok() || offer.get(6).is_some()).then_some(url)
    })
}

/// Sub-option 1 of option 175, by which iPXE ranks offers; 0 without.
fn priority(offer: &Message) -> i8 {
    match offer.get(175) {
        Some([1, 1, priority, ..]) => priority.cast_signed(),
        _ => 0,
    }
}

/// iPXE. The settings of a proxy's offer come before the server's. Of servers the one with the highest priority wins, and of
/// equals the last.
pub(crate) fn ipxe(heard: Heard<'_>) -> Boots {
    let Heard { offers, ask_4011 } = heard;
    let leased =
        offers.iter().filter(|offer| !offer.yiaddr.is_unspecified()).max_by_key(|offer| priority(offer))?;
    let Some(proxy) = offers.iter().rev().find(|offer| is_pxe(offer)) else {
        return Some((server(leased), file(leased)?));
    };
    if !proxy.siaddr.is_unspecified() && !proxy.file.is_empty() {
        return Some((proxy.siaddr, proxy.file.clone()));
    }
    let answer = ask_4011(server(proxy))?;
    Some((server(&answer), file(&answer)?))
}
