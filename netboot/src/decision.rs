//! What a DHCP request led to, and why, in sentences.

use std::fmt;
use std::net::Ipv4Addr;

use dhcproto::v4::MessageType;

#[cfg(doc)]
use crate::leases::Leases;
use crate::leases::{LeaseChange, NoAddress};
use crate::plan::BootPlan;
use crate::proxy::Shape;
use crate::pxe::Asker;
use crate::reply::Reply;

/// What a request leads to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Outcome {
    /// The answer; `None`: silence.
    pub reply: Option<Reply>,
    /// What must be on disk before the answer is sent (RFC 2131 §3.1, step 4).
    pub changes: Vec<LeaseChange>,
    /// The address that is offered, if this machine never had it: another may use it of its own accord, which is to be
    /// found out before the answer is sent. If one does, say so by [`Leases::on_conflict`] and answer anew. Without an
    /// answer: the address that the machine says another uses. It keeps it unless one is found, and that is said so.
    pub untried: Option<Ipv4Addr>,
    /// Whether the address is a stranger's, which keeps it if it uses it: where that can't be found out, nothing is sent
    /// and [`Leases::withdraw`] called.
    pub displaces: bool,
    /// The options that the answer had no room for, by number.
    pub left_out: Vec<u8>,
    /// What happened, for the log, the counters and the timeline.
    pub event: DhcpEvent,
}

/// One exchange, told.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DhcpEvent {
    /// Who asked.
    pub asker: Asker,
    /// What it asked; `None`: it was BOOTP.
    pub asked: Option<MessageType>,
    /// What it was answered; `None`: nothing.
    pub answered: Option<MessageType>,
    /// The address that it is about.
    pub address: Option<Ipv4Addr>,
    /// The server that it speaks to, if it says so.
    pub server: Option<Ipv4Addr>,
    /// For how long it has been asking, as it says, in seconds.
    pub secs: u16,
    /// Why so.
    pub decision: Decision,
    /// What the policy says of the machine.
    pub plan: BootPlan,
}

/// Why a request got the answer that it got; a whole sentence when printed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Decision {
    /// An address is offered.
    Offered(Ipv4Addr),
    /// The offered address is leased.
    Leased(Ipv4Addr),
    /// The machine came back to the address that it had.
    Confirmed(Ipv4Addr),
    /// The lease is prolonged.
    Renewed(Ipv4Addr),
    /// The machine has an address and is told the rest.
    Informed(Ipv4Addr),
    /// The address is free again.
    Released(Ipv4Addr),
    /// The address is in use by a stranger, and out of use with us for a while.
    Quarantined(Ipv4Addr),
    /// It said something of an address that isn't its, or more often than can be true.
    NotBelieved(Ipv4Addr),
    /// Somebody gave the address back in its name, from elsewhere.
    NotFromIt(Ipv4Addr),
    /// It is said to have given up the address that it boots or runs with.
    Kept(Ipv4Addr),
    /// It says that another uses its address, which is looked into.
    Doubted(Ipv4Addr),
    /// It is a stranger, and says that it has an address that it was not offered.
    NoRecord(Ipv4Addr),
    /// There is no address for it.
    NoAddress(NoAddress),
    /// It must not use that address.
    Refused(Ipv4Addr),
    /// It must not use that address on this subnet.
    WrongSubnet(Ipv4Addr),
    /// The address is not ours to speak of.
    NotOurs(Ipv4Addr),
    /// It took another server's offer.
    ChoseOtherServer(Ipv4Addr),
    /// It is told what to boot, and gets its address elsewhere.
    ProxyOffered(Shape),
    /// It has its address and is told what to boot.
    ToldFile(Ipv4Addr),
    /// It speaks to the DHCP server, which is another.
    LeftToServer,
    /// There is nothing for it to boot.
    NothingToBoot,
    /// The site's policy is not to answer it.
    Ignored,
    /// It came through a relay from a subnet that is not served, which has that address.
    RelayNotServed(Ipv4Addr),
    /// It lacks what such a request must have.
    Incomplete,
    /// No request to a server, or one of an extension that is not spoken.
    NotSpoken,
}

impl Decision {
    /// The address that it is about.
    #[must_use]
    pub fn address(&self) -> Option<Ipv4Addr> {
        match *self {
            Self::Offered(a)
            | Self::Leased(a)
            | Self::Confirmed(a)
            | Self::Renewed(a)
            | Self::Informed(a)
            | Self::Released(a)
            | Self::Quarantined(a)
            | Self::NotBelieved(a)
            | Self::NotFromIt(a)
            | Self::Kept(a)
            | Self::Doubted(a)
            | Self::NoRecord(a)
            | Self::Refused(a)
            | Self::WrongSubnet(a)
            | Self::NotOurs(a)
            | Self::ToldFile(a) => Some(a),
            Self::NoAddress(_)
            | Self::ChoseOtherServer(_)
            | Self::ProxyOffered(_)
            | Self::LeftToServer
            | Self::NothingToBoot
            | Self::Ignored
            | Self::RelayNotServed(_)
            | Self::Incomplete
            | Self::NotSpoken => None,
        }
    }
}

impl fmt::Display for Decision {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Offered(a) => write!(f, "It is offered {a}."),
            Self::Leased(a) => write!(f, "{a} is leased to it."),
            Self::Confirmed(a) => write!(f, "It came back to its address {a}."),
            Self::Renewed(a) => write!(f, "Its lease of {a} is prolonged."),
            Self::Informed(a) => write!(f, "It has the address {a} and is told the rest."),
            Self::Released(a) => write!(f, "It gave {a} back."),
            Self::Quarantined(a) => {
                write!(f, "It found {a} in use by another machine; nobody is given it for ten minutes.")
            }
            Self::NotBelieved(a) => write!(f, "What it says of {a} is not believed: it is not its address."),
            Self::NotFromIt(a) => {
                write!(f, "Somebody gave {a} back in its name, from another address, which is not believed.")
            }
            Self::Kept(a) => {
                write!(f, "It is said to give {a} up, while it boots or runs from here, so it keeps it.")
            }
            Self::Doubted(a) => write!(f, "It says that another machine uses {a}, which is looked into."),
            Self::NoRecord(a) => {
                write!(f, "It was not offered {a} here, and has to ask for an address first.")
            }
            Self::NoAddress(why) => why.fmt(f),
            Self::Refused(a) => write!(f, "It may not use {a}: another machine has it, or it has another."),
            Self::WrongSubnet(a) => write!(f, "It may not use {a} on this subnet."),
            Self::NotOurs(a) => write!(f, "{a} is none of the addresses given here, so it is not answered."),
            Self::ChoseOtherServer(server) => {
                write!(f, "It took the offer of another DHCP server, {server}.")
            }
            Self::ProxyOffered(shape) => write!(f, "It is told what to boot, {shape}."),
            Self::ToldFile(a) => write!(f, "It has the address {a} and is told what to boot."),
            Self::LeftToServer => f.write_str("It speaks to the DHCP server, which is another."),
            Self::NothingToBoot => {
                f.write_str("There is nothing here for it to boot, so it is not answered.")
            }
            Self::Ignored => f.write_str("Machines that the site doesn't know are not answered."),
            Self::RelayNotServed(relay) => {
                write!(
                    f,
                    "It came through a relay from the subnet of {relay}, which is not served: give it a table \
                     [dhcp.subnet.\"NETWORK/BITS\"] in bootd.toml."
                )
            }
            Self::Incomplete => f.write_str("Its request lacks an address, so there is no answer to it."),
            Self::NotSpoken => f.write_str("It is no request that a DHCP server answers."),
        }
    }
}
