//! One TCP connection, from its first byte to its last.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use block::Segments;
use bytes::{Buf, Bytes, BytesMut};

use crate::event::{EndReason, Event, LoginStatus};
use crate::io::{Io, IoId, IoOutcome};
use crate::limits::{Limits, MAX_LOGIN_DATA};
use crate::link::{Link, Window};
use crate::login::{Agreed, Login, Refusal, Reply, Stage};
use crate::output::Output;
use crate::pdu::{BHS_LEN, Frame, LoginRequest, LoginResponse, Request, next_frame};
use crate::scsi::InitiatorPort;
use crate::session::{Beginning, Session};
use crate::target::{Directory, Entry, Membership, Target, Wake};

/// One connection of an initiator, which is one session.
///
/// It does no I/O and has no clock. Whoever has the socket calls, in a loop:
/// 1. [`handle_input`](Self::handle_input) with what was read, as long as [`wants_input`](Self::wants_input);
///    [`handle_io`](Self::handle_io) with outcomes; [`handle_wake`](Self::handle_wake) when `wake` was called;
///    [`handle_timeout`](Self::handle_timeout) when [`poll_timeout`](Self::poll_timeout) has come;
///    [`handle_disconnect`](Self::handle_disconnect) when the peer is gone;
/// 2. [`poll_io`](Self::poll_io) until there is nothing more to do on the disk;
/// 3. [`poll_transmit`](Self::poll_transmit), and writes what it gives;
/// 4. [`poll_event`](Self::poll_event) until there is none.
///
/// When [`is_closed`](Self::is_closed), the socket is closed and the connection dropped, not before: requests to
/// the disk that are under way belong to it, and a successor waits for them.
///
/// Times are since an arbitrary moment that must be the same for one connection.
pub struct Connection {
    directory: Arc<dyn Directory>,
    portal: SocketAddr,
    limits: Limits,
    wake: Wake,
    link: Link,
    phase: Phase,
    /// Length of the PDU of which a part has been read.
    needed: usize,
}

enum Phase {
    Login {
        login: Box<Login>,
        deadline: Duration,
    },
    /// The login is done, and the session waits for its predecessor to end.
    Entering {
        agreed: Box<Agreed>,
        response: LoginResponse,
        text: Vec<u8>,
        deadline: Duration,
    },
    Full(Box<Session>),
    /// What is in the output is the last.
    Closed,
}

impl Connection {
    /// A connection that was accepted at `portal`. `entropy` must be random and used for nothing else. `wake` is
    /// called when there is something to do that no input told of.
    #[must_use]
    pub fn new(
        directory: Arc<dyn Directory>,
        portal: SocketAddr,
        limits: Limits,
        entropy: [u8; 32],
        wake: Wake,
        now: Duration,
    ) -> Self {
        let login = Box::new(Login::new(limits.clone(), entropy));
        let deadline = now + limits.login_timeout;
        Self {
            directory,
            portal: SocketAddr::new(portal.ip().to_canonical(), portal.port()),
            limits,
            wake,
            link: Link::default(),
            phase: Phase::Login { login, deadline },
            needed: BHS_LEN,
        }
    }

    /// Takes whole PDUs off `input`, as many as there are and as can be taken now. Their data stays where it is
    /// and is shared.
    pub fn handle_input(&mut self, input: &mut BytesMut, now: Duration) {
        while self.wants_input() {
            let max_data = match self.phase {
                Phase::Full(_) => self.limits.max_recv_data_segment_length,
                Phase::Login { .. } | Phase::Entering { .. } | Phase::Closed => MAX_LOGIN_DATA,
            };
            match next_frame(input, self.link.digests, max_data as usize) {
                Ok(Ok(frame)) => self.handle_frame(frame, now),
                Ok(Err(needed)) => {
                    self.needed = needed;
                    break;
                }
                Err(error) => self.end(EndReason::ProtocolError(error.to_string())),
            }
        }
        self.settle();
        if matches!(self.phase, Phase::Closed) {
            input.clear();
        }
    }

    /// Length of the PDU that the input begins with, as far as can be seen: room that pays to have.
    #[must_use]
    pub fn input_needed(&self) -> usize {
        self.needed
    }

    /// Changes how many bytes may be in flight, where many connections share what there is. What is in flight
    /// already stays.
    pub fn limit_bytes_in_flight(&mut self, bytes: u64) {
        self.limits.bytes_in_flight = bytes;
        if let Phase::Full(session) = &mut self.phase {
            session.limit_bytes_in_flight(bytes);
        }
    }

    /// Whether more input can be taken. If not, the peer must wait until output has been written or I/O has ended.
    #[must_use]
    pub fn wants_input(&self) -> bool {
        match &self.phase {
            Phase::Login { .. } => true,
            Phase::Full(session) => {
                !session.is_closing() && self.link.output.remaining() < self.limits.output_backlog
            }
            Phase::Entering { .. } | Phase::Closed => false,
        }
    }

    /// Takes the outcome of a request that [`poll_io`](Self::poll_io) gave.
    pub fn handle_io(&mut self, id: IoId, outcome: IoOutcome) {
        if let Phase::Full(session) = &mut self.phase {
            session.handle_io(&mut self.link, id, outcome);
        }
        self.settle();
    }

    /// Looks what another connection, or the target's removal, wants of this one.
    pub fn handle_wake(&mut self, now: Duration) {
        if matches!(self.phase, Phase::Entering { .. }) {
            self.enter(now);
        }
        self.settle();
    }

    /// Does what is due.
    pub fn handle_timeout(&mut self, now: Duration) {
        match &mut self.phase {
            Phase::Login { deadline, .. } | Phase::Entering { deadline, .. } => {
                if now >= *deadline {
                    self.end(EndReason::LoginTimeout);
                }
            }
            Phase::Full(session) => session.handle_timeout(&mut self.link, now),
            Phase::Closed => {}
        }
        self.settle();
    }

    /// The peer has closed the connection, or it was lost.
    pub fn handle_disconnect(&mut self) {
        match &mut self.phase {
            Phase::Full(session) => session.disconnected(&mut self.link),
            Phase::Login { .. } | Phase::Entering { .. } | Phase::Closed => {
                self.link.output.clear();
                self.phase = Phase::Closed;
            }
        }
        self.settle();
    }

    /// When [`handle_timeout`](Self::handle_timeout) has something to do.
    #[must_use]
    pub fn poll_timeout(&self) -> Option<Duration> {
        match &self.phase {
            Phase::Login { deadline, .. } | Phase::Entering { deadline, .. } => Some(*deadline),
            Phase::Full(session) => session.poll_timeout(),
            Phase::Closed => None,
        }
    }

    /// The next thing to do on the disk. Requests that were given out at the same time may run at the same time.
    pub fn poll_io(&mut self) -> Option<(IoId, Io)> {
        match &mut self.phase {
            Phase::Full(session) => session.poll_io(),
            Phase::Login { .. } | Phase::Entering { .. } | Phase::Closed => None,
        }
    }

    /// How much waits to be sent, whether made into PDUs or not. Who does I/O by itself, and not elsewhere, does well
    /// to send what there is before reading more: it is still in the processor's cache.
    #[must_use]
    pub fn bytes_to_send(&self) -> usize {
        let ready = match &self.phase {
            Phase::Full(session) => session.ready_bytes(),
            Phase::Login { .. } | Phase::Entering { .. } | Phase::Closed => 0,
        };
        ready + self.link.output.remaining()
    }

    /// What is to be sent, made up to about `max_bytes`. What was written is taken off by
    /// [`advance`](Buf::advance).
    pub fn poll_transmit(&mut self, max_bytes: usize) -> &mut Output {
        if let Phase::Full(session) = &mut self.phase {
            session.produce(&mut self.link, max_bytes);
        }
        &mut self.link.output
    }

    /// The next fact for the log.
    pub fn poll_event(&mut self) -> Option<Event> {
        self.link.events.pop_front()
    }

    /// The target that the session is logged in to.
    #[must_use]
    pub fn target(&self) -> Option<&Arc<Target>> {
        match &self.phase {
            Phase::Full(session) => session.target(),
            Phase::Login { .. } | Phase::Entering { .. } | Phase::Closed => None,
        }
    }

    /// Whether the login is complete.
    #[must_use]
    pub fn is_logged_in(&self) -> bool {
        matches!(self.phase, Phase::Full(_))
    }

    /// Whether all is done and said.
    #[must_use]
    pub fn is_closed(&self) -> bool {
        matches!(self.phase, Phase::Closed) && !self.link.output.has_remaining()
    }

    fn handle_frame(&mut self, frame: Frame, now: Duration) {
        match &mut self.phase {
            Phase::Login { .. } => self.handle_login(&frame, now),
            Phase::Full(session) => {
                let handled = session.handle(&mut self.link, frame, &*self.directory);
                session.heard(now);
                if let Err(why) = handled {
                    self.end(why);
                }
            }
            Phase::Entering { .. } | Phase::Closed => {}
        }
    }

    fn handle_login(&mut self, frame: &Frame, now: Duration) {
        let Phase::Login { login, deadline } = &mut self.phase else { return };
        let Request::Login(request) = Request::parse(&frame.bhs, &frame.ahs) else {
            // RFC 7143 6.3.1: before the login nothing else may be sent, and nothing else is answered.
            return self.end(EndReason::ProtocolError("a request before the login".into()));
        };
        self.link.window = Window::new(request.cmd_sn, self.limits.command_window);
        match login.handle(&request, &frame.data, &*self.directory) {
            Err(refusal) => self.refuse(&request, refusal),
            Ok(Reply { csg, nsg, text }) => {
                let response = LoginResponse {
                    transit: nsg.is_some(),
                    csg: csg as u8,
                    nsg: nsg.map_or(0, |nsg| nsg as u8),
                    isid: request.isid,
                    tsih: 0,
                    itt: request.itt,
                    status: 0,
                };
                if nsg != Some(Stage::FullFeature) {
                    return self.answer_login(&response, text);
                }
                let (deadline, agreed) = (*deadline, login.take_agreed());
                if let Some(agreed) = agreed.map(Box::new) {
                    self.phase = Phase::Entering { agreed, response, text, deadline };
                    self.enter(now);
                }
            }
        }
    }

    /// Begins the session, unless its predecessor has yet to end.
    fn enter(&mut self, now: Duration) {
        let Phase::Entering { agreed, .. } = &self.phase else { return };
        let port = InitiatorPort { iqn: agreed.initiator.clone(), isid: agreed.isid };
        let entry = agreed.target.as_ref().map(|target| target.enter(&port, &self.wake));
        let refusal = match entry {
            Some(Entry::Wait) => return,
            Some(Entry::In(membership)) => return self.begin(Some(membership), now),
            None => return self.begin(None, now),
            Some(Entry::Full) => Refusal { status: LoginStatus::OutOfResources, why: "too many sessions" },
            Some(Entry::Removed) => {
                Refusal { status: LoginStatus::TargetRemoved, why: "the target was removed" }
            }
        };
        if let Phase::Entering { agreed, response, .. } = std::mem::replace(&mut self.phase, Phase::Closed) {
            let target = agreed.target.as_ref().map(|target| target.name().to_owned());
            self.send_refusal(&response, refusal, (Some(agreed.initiator), target));
        }
    }

    fn begin(&mut self, membership: Option<Membership>, now: Duration) {
        /// A discovery session has no other connection to be told from.
        const DISCOVERY_TSIH: u16 = 1;
        let phase = std::mem::replace(&mut self.phase, Phase::Closed);
        let Phase::Entering { agreed, mut response, text, .. } = phase else { return };
        response.tsih = membership.as_ref().map_or(DISCOVERY_TSIH, Membership::tsih);
        self.answer_login(&response, text);
        self.link.digests = agreed.params.digests;
        self.link.events.push_back(Event::LoggedIn {
            initiator: agreed.initiator.clone(),
            target: membership.as_ref().map(|it| it.target().name().to_owned()),
            isid: agreed.isid,
            authenticated: agreed.proved.is_some(),
        });
        let beginning = Beginning {
            limits: self.limits.clone(),
            params: agreed.params,
            initiator: agreed.initiator,
            proved: agreed.proved,
            cid: agreed.cid,
            portal: self.portal,
            disk: membership,
        };
        self.phase = Phase::Full(Box::new(Session::new(beginning, now)));
    }

    fn answer_login(&mut self, response: &LoginResponse, text: Vec<u8>) {
        let numbers = self.link.status_numbers();
        self.link.send(response.encode(&numbers), Segments::from(Bytes::from(text)));
    }

    fn refuse(&mut self, request: &LoginRequest, refusal: Refusal) {
        let named = match &self.phase {
            Phase::Login { login, .. } => login.named(),
            Phase::Entering { .. } | Phase::Full(_) | Phase::Closed => (None, None),
        };
        let response = LoginResponse {
            transit: false,
            csg: request.csg,
            nsg: 0,
            isid: request.isid,
            tsih: request.tsih,
            itt: request.itt,
            status: 0,
        };
        self.send_refusal(&response, refusal, named);
    }

    fn send_refusal(
        &mut self,
        response: &LoginResponse,
        refusal: Refusal,
        (initiator, target): (Option<String>, Option<String>),
    ) {
        let Refusal { status, why } = refusal;
        let response = LoginResponse { transit: false, nsg: 0, status: status.code(), ..*response };
        self.answer_login(&response, Vec::new());
        self.link.events.push_back(Event::LoginRefused { initiator, target, status, why });
        self.phase = Phase::Closed;
    }

    fn end(&mut self, why: EndReason) {
        match &mut self.phase {
            Phase::Full(session) => session.end(&mut self.link, why),
            Phase::Login { .. } | Phase::Entering { .. } => {
                self.link.events.push_back(Event::Ended { why });
                self.phase = Phase::Closed;
            }
            Phase::Closed => {}
        }
    }

    fn settle(&mut self) {
        if let Phase::Full(session) = &mut self.phase {
            session.settle(&mut self.link);
            if session.is_over(&mut self.link) {
                self.phase = Phase::Closed;
            }
        }
    }
}
