//! One DHCP request answered: RFC 2131 §4.3, as the authoritative server of a subnet.
//!
//! A full DHCP answer here carries neither option 60 nor option 43 for PXE firmware, or (to a Raspberry Pi) both. An offer with 60 "PXEClient" but
//! without 43 sends firmware to port 4011 although it was told its file (tianocore/edk2#8149); with both, or with
//! neither, it takes the file at once. Neither is what every other DHCP server sends, so it is what firmware is
//! tested with.

use std::net::Ipv4Addr;

use dhcproto::v4::{DhcpOption, MessageType, OptionCode};
use site::Site;

use crate::decision::{Decision, DhcpEvent, Outcome};
use crate::leases::{Chosen, LeaseChange, LeaseState, Leases, Standing, Wish};
use crate::options::{IPXE_ENCAPSULATED, VENDOR_ENCAPSULATED};
use crate::packet::Packet;
use crate::plan::{BootPlan, plan};
use crate::pool::PoolRange;
use crate::pxe::{Asker, Method, Stage};
use crate::reply::{Destination, Header, Reply, Writer};
use crate::settings::{Interface, Settings};
use crate::subnet::Subnet;

/// The longest lease of a machine that the site doesn't know, in seconds. A flood of made-up machines that take the
/// whole pool gives it back within this time.
const STRANGER_LEASE_TIME: u32 = 3600;

/// One in so many addresses of a pool is kept for clients without an address of their own, if there are that many of them.
/// Machines that the site doesn't know get the others.
const CLIENTS_SHARE: u32 = 4;

/// How many servers of one kind are told; the rest of the list is left out, so that the answer stays small.
const MAX_SERVERS: usize = 8;

/// iPXE sub-option 176, `no-pxedhcp`: saves the 2 s in which it would wait for a proxy DHCP server
/// (iPXE, `src/config/dhcp.h`).
pub(crate) const NO_PXEDHCP: [u8; 3] = [176, 1, 1];

/// Answers one request that came in by `iface`, at `now` seconds since 1970.
#[must_use]
pub fn respond(
    packet: &Packet,
    iface: &Interface,
    site: &Site,
    settings: &Settings,
    leases: &mut Leases,
    now: u64,
) -> Outcome {
    let asker = Asker::of(packet);
    let plan = plan(&asker, iface, site, settings);
    let usable = |address: Ipv4Addr| {
        settings.can_give(address, iface)
            && packet.giaddr != address
            && packet.server_override() != Some(address)
            && site.client_by_address(address).is_none_or(|client| client.mac == packet.mac)
    };
    let knows = |mac| site.client_by_mac(mac).is_some();
    let kept = |pool: PoolRange| {
        let clients = u32::try_from(site.clients_without_address()).unwrap_or(u32::MAX);
        (pool.len() / CLIENTS_SHARE).min(clients)
    };
    let wish = Wish {
        mac: packet.mac,
        reserved: plan.address.filter(|address| usable(*address)),
        requested: packet.options.requested_address(),
        pool: settings.pool,
        kept: settings.pool.filter(|_| plan.client.is_none()).map_or(0, kept),
        link: settings.subnet_of(iface),
        can_try: settings.subnet_of(iface) == iface.subnet(),
        knows: &knows,
        usable: &usable,
    };
    let subnet = settings.subnet_of(iface);
    let exchange = Exchange { packet, iface, subnet, settings, asker: &asker, plan: &plan, wish, now };
    let Answer { decision, reply, changes, untried, displaces, left_out } = exchange.answer(leases);
    let answered = reply.as_ref().map(|(kind, _)| *kind);
    let event = DhcpEvent {
        asked: packet.options.message_type(),
        answered,
        address: decision.address(),
        server: packet.options.server_identifier(),
        secs: packet.secs,
        decision,
        asker,
        plan,
    };
    let untried = decision.address().filter(|_| untried);
    Outcome { reply: reply.map(|(_, reply)| reply), changes, untried, displaces, left_out, event }
}

/// One request and all that bears on its answer.
struct Exchange<'a> {
    packet: &'a Packet,
    iface: &'a Interface,
    subnet: Subnet,
    settings: &'a Settings,
    asker: &'a Asker,
    plan: &'a BootPlan,
    wish: Wish<'a>,
    now: u64,
}

struct Answer {
    decision: Decision,
    reply: Option<(MessageType, Reply)>,
    changes: Vec<LeaseChange>,
    untried: bool,
    displaces: bool,
    left_out: Vec<u8>,
}

impl Answer {
    fn silence(decision: Decision) -> Self {
        Self {
            decision,
            reply: None,
            changes: Vec::new(),
            untried: false,
            displaces: false,
            left_out: Vec::new(),
        }
    }
}

/// In what state a client sends a REQUEST (RFC 2131 §4.3.2).
#[derive(Clone, Copy, PartialEq, Eq)]
enum State {
    Selecting,
    InitReboot,
    /// Or rebinding, which differs only in that it is broadcast.
    Renewing,
}

impl Exchange<'_> {
    fn answer(&self, leases: &mut Leases) -> Answer {
        let options = &self.packet.options;
        if let Some(link) = self.packet.relayed_from()
            && !self.subnet.contains(link)
        {
            return Answer::silence(Decision::RelayNotServed(link));
        }
        if !self.plan.lease {
            return Answer::silence(Decision::Ignored);
        }
        let other = options.server_identifier().filter(|server| !self.is_us(*server));
        match (options.message_type(), other) {
            (Some(MessageType::Discover), _) => self.discover(leases),
            (Some(MessageType::Inform), _) => self.inform(),
            (Some(MessageType::Request), Some(server)) => {
                leases.forget_offer(self.packet.mac, self.now);
                Answer::silence(Decision::ChoseOtherServer(server))
            }
            (Some(MessageType::Release | MessageType::Decline), Some(server)) => {
                Answer::silence(Decision::NotOurs(server))
            }
            (Some(MessageType::Request), None) => self.request(leases),
            (Some(MessageType::Release), None) => self.release(leases),
            (Some(MessageType::Decline), None) => self.decline(leases),
            _ => Answer::silence(Decision::NotSpoken),
        }
    }

    /// Who we are to the client: the relay, where it wants to be taken for us (RFC 5107 §4).
    fn server_identifier(&self) -> Ipv4Addr {
        self.packet.server_override().unwrap_or(self.iface.address)
    }

    fn is_us(&self, server: Ipv4Addr) -> bool {
        server == self.iface.address || server == self.server_identifier()
    }

    fn discover(&self, leases: &mut Leases) -> Answer {
        match leases.offer(&self.wish, self.now) {
            Ok(Chosen { address, untried, displaces }) => {
                let answer = self.lease(MessageType::Offer, address, Decision::Offered(address), Vec::new());
                Answer { untried, displaces, ..answer }
            }
            Err(why) => Answer::silence(Decision::NoAddress(why)),
        }
    }

    /// RFC 2131 §4.3.2. A client without a record with us may keep what it asks for if that is free: an
    /// authoritative server that lost its leases must not take addresses away from machines that run. A machine that the
    /// site doesn't know needs a record, which an offer makes: a request alone can be made up, one for each address, and
    /// no offer means that nobody has looked who uses the address.
    fn request(&self, leases: &mut Leases) -> Answer {
        let options = &self.packet.options;
        let (state, address) = match (options.server_identifier(), self.packet.ciaddr) {
            (Some(_), ciaddr) if ciaddr.is_unspecified() => (State::Selecting, options.requested_address()),
            (None, ciaddr) if ciaddr.is_unspecified() => (State::InitReboot, options.requested_address()),
            (_, ciaddr) => (State::Renewing, Some(ciaddr)),
        };
        let Some(address) = address else { return Answer::silence(Decision::Incomplete) };
        if !self.subnet.contains(address) {
            return match state {
                // It may be another subnet's client whose unicast was routed here.
                State::Renewing => Answer::silence(Decision::NotOurs(address)),
                _ => self.refuse(state, Decision::WrongSubnet(address)),
            };
        }
        let granted = match leases.standing(&self.wish, address, self.now) {
            Standing::Its => true,
            Standing::Old => state == State::Renewing && self.settings.can_have(address, self.iface),
            Standing::Free if self.plan.client.is_none() => return self.unrecorded(state, address),
            Standing::Free if state == State::Selecting || self.settings.authoritative => true,
            Standing::Free => return Answer::silence(Decision::NotOurs(address)),
            Standing::Not => false,
        };
        if !granted {
            return self.refuse(state, Decision::Refused(address));
        }
        let decision = match state {
            State::Selecting => Decision::Leased(address),
            State::InitReboot => Decision::Confirmed(address),
            State::Renewing => Decision::Renewed(address),
        };
        let changes = leases.bind(&self.wish, address, self.expires());
        self.lease(MessageType::Ack, address, decision, changes)
    }

    /// A stranger speaks of a lease that there is no record of. One that runs keeps its address to the end of its lease,
    /// whoever gave it that; one that starts asks anew at once if it is told, which is faster than silence.
    fn unrecorded(&self, state: State, address: Ipv4Addr) -> Answer {
        match state {
            State::Renewing => Answer::silence(Decision::NoRecord(address)),
            State::Selecting | State::InitReboot => self.refuse(state, Decision::NoRecord(address)),
        }
    }

    /// A NAK, where we may speak for the subnet.
    fn refuse(&self, state: State, decision: Decision) -> Answer {
        if state != State::Selecting && !self.settings.authoritative {
            return Answer::silence(decision);
        }
        let header = Header::new(MessageType::Nak);
        let mut writer = Writer::new(self.packet, &header, self.server_identifier());
        self.client_identifier(&mut writer);
        let to = match self.packet.giaddr {
            relay if relay.is_unspecified() => Destination::Broadcast,
            relay => Destination::Relay(relay),
        };
        let reply = Reply { bytes: writer.finish().0, to };
        Answer { reply: Some((MessageType::Nak, reply)), ..Answer::silence(decision) }
    }

    fn release(&self, leases: &mut Leases) -> Answer {
        let address = self.packet.ciaddr;
        if !self.may_be_from(address) {
            return Answer::silence(Decision::NotFromIt(address));
        }
        if self.packet.busy && leases.is_its(self.packet.mac, address, self.now) {
            return Answer::silence(Decision::Kept(address));
        }
        match leases.release(self.packet.mac, address, self.now) {
            Some(change) => Answer { changes: vec![change], ..Answer::silence(Decision::Released(address)) },
            None => Answer::silence(Decision::NotBelieved(address)),
        }
    }

    /// Whether a message is from the machine that has that address, as far as can be seen: it gives its address back by
    /// unicast from there (RFC 2131 §4.4.6). On our link no relay is between us; behind one, its word is taken.
    fn may_be_from(&self, address: Ipv4Addr) -> bool {
        if self.packet.giaddr.is_unspecified() {
            return self.packet.source.is_none_or(|source| source == address);
        }
        !self.iface.contains(address) && self.subnet.contains(address)
    }

    /// A DECLINE is broadcast from no address, so anyone can send it in another's name. On our link whoever else uses the
    /// address can be asked; elsewhere it is believed of a machine that does not boot or run from here just now.
    fn decline(&self, leases: &mut Leases) -> Answer {
        let Some(address) = self.packet.options.requested_address() else {
            return Answer::silence(Decision::Incomplete);
        };
        if leases.is_its(self.packet.mac, address, self.now) {
            if self.iface.contains(address) {
                return Answer { untried: true, ..Answer::silence(Decision::Doubted(address)) };
            }
            if self.packet.busy {
                return Answer::silence(Decision::Kept(address));
            }
        }
        let change = leases.decline(self.packet.mac, address, self.settings.pool, self.now);
        let decision = match change {
            Some(LeaseChange::Set(lease)) if lease.state == LeaseState::Declined => {
                Decision::Quarantined(address)
            }
            _ => Decision::NotBelieved(address),
        };
        Answer { changes: change.into_iter().collect(), ..Answer::silence(decision) }
    }

    /// RFC 2131 §4.3.5: no address and no times.
    fn inform(&self) -> Answer {
        let ciaddr = self.packet.ciaddr;
        if ciaddr.is_unspecified() {
            return Answer::silence(Decision::Incomplete);
        }
        if !self.subnet.contains(ciaddr) {
            return Answer::silence(Decision::NotOurs(ciaddr));
        }
        let mut header = self.header(MessageType::Ack);
        header.ciaddr = ciaddr;
        let mut writer = Writer::new(self.packet, &header, self.server_identifier());
        self.parameters(&mut writer, &header.file);
        let (bytes, left_out) = writer.finish();
        let reply = Reply { bytes, to: Destination::Client(ciaddr) };
        Answer {
            reply: Some((MessageType::Ack, reply)),
            left_out,
            ..Answer::silence(Decision::Informed(ciaddr))
        }
    }

    /// An OFFER or an ACK of `address` (RFC 2131 §4.3.1, table 3).
    fn lease(
        &self,
        kind: MessageType,
        address: Ipv4Addr,
        decision: Decision,
        changes: Vec<LeaseChange>,
    ) -> Answer {
        let mut header = self.header(kind);
        header.yiaddr = address;
        if kind == MessageType::Ack {
            header.ciaddr = self.packet.ciaddr;
        }
        let mut writer = Writer::new(self.packet, &header, self.server_identifier());
        let time = self.lease_time();
        writer.push(DhcpOption::AddressLeaseTime(time));
        if time != u32::MAX {
            writer.push(DhcpOption::Renewal(time / 2));
            writer.push(DhcpOption::Rebinding(time - time / 8));
        }
        self.parameters(&mut writer, &header.file);
        let (bytes, left_out) = writer.finish();
        let reply = Reply { bytes, to: self.destination(address) };
        Answer { reply: Some((kind, reply)), changes, left_out, ..Answer::silence(decision) }
    }

    fn lease_time(&self) -> u32 {
        let time = self.settings.lease_time;
        if self.plan.client.is_some() { time } else { time.min(STRANGER_LEASE_TIME) }
    }

    fn expires(&self) -> u64 {
        match self.lease_time() {
            u32::MAX => u64::MAX,
            time => self.now.saturating_add(time.into()),
        }
    }

    /// The fixed part: who we are and what to boot in all the places where firmware was seen to look: without `siaddr`
    /// or option 54 some broadcasts to port 4011 instead (tinkerbell/smee, `dhcp.go`).
    fn header(&self, kind: MessageType) -> Header {
        let mut header = Header::new(kind);
        let program = self.plan.boot_program.as_ref().map(|program| &program.file);
        if let Some(file) = program.or(self.plan.script_url.as_ref()) {
            header.siaddr = self.iface.address;
            // An address rather than a name: it means the same to those who look it up and those who only parse it.
            header.sname = self.iface.address.to_string();
            header.file.clone_from(file);
        }
        header
    }

    /// What is the same in every answer but a NAK.
    fn parameters(&self, writer: &mut Writer, file: &str) {
        let Settings { router, dns, domain, mtu, .. } = self.settings;
        let asks = |code| self.packet.options.asks_for(code);
        // Whatever the site says of it: see below.
        let no_mtu = (self.asker.stage != Stage::Other).then_some(OptionCode::InterfaceMtu.into());
        writer.push_site(self.packet, &self.plan.options, no_mtu);
        writer.push(DhcpOption::SubnetMask(self.subnet.mask()));
        if let Some(router) = router.filter(|_| asks(OptionCode::Router)) {
            writer.push(DhcpOption::Router(vec![router]));
        }
        if !dns.is_empty() && asks(OptionCode::DomainNameServer) {
            writer.push(DhcpOption::DomainNameServer(dns.iter().take(MAX_SERVERS).copied().collect()));
        }
        if let Some(domain) = domain.as_ref().filter(|_| asks(OptionCode::DomainName)) {
            writer.push(DhcpOption::DomainName(domain.clone()));
        }
        if let Some(client) = self.plan.client.as_ref().filter(|_| asks(OptionCode::Hostname)) {
            writer.push(DhcpOption::Hostname(client.name.to_string()));
        }
        if asks(OptionCode::BroadcastAddr) {
            writer.push(DhcpOption::BroadcastAddr(self.subnet.broadcast()));
        }
        // Large frames were seen not to reach iPXE although it had set the MTU that it was told (ipxe/ipxe#690).
        if let Some(mtu) = mtu.filter(|_| self.asker.stage == Stage::Other && asks(OptionCode::InterfaceMtu))
        {
            writer.push(DhcpOption::InterfaceMtu(mtu));
        }
        if !file.is_empty() {
            self.boot(writer, file);
        }
        self.client_identifier(writer);
    }

    /// What only a machine that boots from here is told. Any other may still find a proxy DHCP server, so its iPXE is
    /// left to wait for one.
    fn boot(&self, writer: &mut Writer, file: &str) {
        let options = &self.packet.options;
        // UEFI HTTP boot takes no answer that isn't marked as meant for it (EDK2, `HttpBootDhcp4.c`).
        if self.asker.method == Method::Http && self.asker.stage == Stage::Firmware {
            writer.push(DhcpOption::ClassIdentifier(b"HTTPClient".to_vec()));
        }
        // With option 43 there must be 60, and only then: see above.
        if let Some(vendor) = self.asker.vendor_options() {
            writer.push(DhcpOption::ClassIdentifier(b"PXEClient".to_vec()));
            writer.push_raw(VENDOR_ENCAPSULATED, vendor);
        }
        writer.push_file(self.packet, self.iface.address, file);
        writer.push_uuid(self.packet);
        if self.asker.stage == Stage::Ipxe || options.raw(IPXE_ENCAPSULATED).is_some() {
            writer.push_raw(IPXE_ENCAPSULATED, &NO_PXEDHCP);
        }
    }

    /// RFC 6842: a client that named itself is told which answer is its own.
    fn client_identifier(&self, writer: &mut Writer) {
        if let Some(id) = self.packet.options.client_identifier() {
            writer.push(DhcpOption::ClientIdentifier(id.to_vec()));
        }
    }

    /// RFC 2131 §4.1.
    fn destination(&self, yiaddr: Ipv4Addr) -> Destination {
        let Packet { giaddr, ciaddr, mac, .. } = *self.packet;
        if !giaddr.is_unspecified() {
            Destination::Relay(giaddr)
        } else if !ciaddr.is_unspecified() {
            Destination::Client(ciaddr)
        } else if self.packet.wants_broadcast() {
            Destination::Broadcast
        } else {
            Destination::Unicast { ip: yiaddr, mac }
        }
    }
}
