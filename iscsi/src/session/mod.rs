//! The full feature phase: what a logged-in initiator may do (RFC 7143 4.2.2, 11).

mod command;
mod control;
mod data_in;
mod data_out;
mod order;
mod tasks;
mod text;
mod tmf;

use std::collections::VecDeque;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use control::Closing;
use order::{Early, Turn};
use tasks::{Slot, Tasks};
use text::Exchange;
use tmf::Function;

use crate::event::EndReason;
use crate::io::{Io, IoId};
use crate::limits::Limits;
use crate::link::Link;
use crate::params::Params;
use crate::pdu::{Frame, RejectReason, Request};
use crate::target::{Account, Directory, Errand, Membership, Target};

/// A session, which has this one connection.
pub(crate) struct Session {
    limits: Limits,
    params: Params,
    initiator: String,
    /// Who the initiator has proved to be.
    proved: Option<Account>,
    cid: u16,
    portal: SocketAddr,
    /// The target; `None` in a discovery session.
    disk: Option<Membership>,

    /// PDUs that came before their turn.
    early: VecDeque<Early>,
    early_bytes: u64,
    tasks: Tasks,
    immediate_open: u32,
    /// Ordered commands that have begun.
    ordered_open: u32,
    /// Commands that wait for others to end, in the order in which they came.
    deferred: VecDeque<Slot>,
    /// Requests to the disk that the shell has not fetched.
    io: VecDeque<(IoId, Io)>,
    /// Requests that the shell has, and has not answered.
    handed_out: usize,
    /// Bytes that commands read, wait for, or have yet to send.
    held: u64,
    /// Bytes that came unasked, with their commands, behind them or before their turn.
    unasked: u64,
    /// Commands with data to send, in their turn.
    ready: VecDeque<Slot>,
    /// Bytes of that data.
    ready_bytes: usize,
    waiting_for_r2t: VecDeque<Slot>,
    next_ttt: u32,
    pending_functions: VecDeque<Function>,
    /// Others wait until the disk is done with what was aborted for them.
    errands: Vec<Arc<Errand>>,
    exchange: Option<Exchange>,

    has_written: bool,
    /// Whether the initiator is one that answers a ping.
    answers_pings: bool,
    last_heard: Duration,
    pinged: Option<Duration>,
    /// A cold reset ends the session that asked for it too, once that was answered.
    close_when_sent: bool,
    closing: Option<Closing>,
}

/// What a session begins with.
pub(crate) struct Beginning {
    pub(crate) limits: Limits,
    pub(crate) params: Params,
    pub(crate) initiator: String,
    pub(crate) proved: Option<Account>,
    pub(crate) cid: u16,
    pub(crate) portal: SocketAddr,
    pub(crate) disk: Option<Membership>,
}

impl Session {
    pub(crate) fn new(beginning: Beginning, now: Duration) -> Self {
        let Beginning { limits, params, initiator, proved, cid, portal, disk } = beginning;
        Self {
            limits,
            params,
            initiator,
            proved,
            cid,
            portal,
            disk,
            early: VecDeque::new(),
            early_bytes: 0,
            tasks: Tasks::default(),
            immediate_open: 0,
            ordered_open: 0,
            deferred: VecDeque::new(),
            io: VecDeque::new(),
            handed_out: 0,
            held: 0,
            unasked: 0,
            ready: VecDeque::new(),
            ready_bytes: 0,
            waiting_for_r2t: VecDeque::new(),
            next_ttt: 0,
            pending_functions: VecDeque::new(),
            errands: Vec::new(),
            exchange: None,
            has_written: false,
            answers_pings: false,
            last_heard: now,
            pinged: None,
            close_when_sent: false,
            closing: None,
        }
    }

    /// Takes one PDU, and those that waited for it. Most of what can be wrong is answered; an error can't be.
    pub(crate) fn handle(
        &mut self,
        link: &mut Link,
        frame: Frame,
        directory: &dyn Directory,
    ) -> Result<(), EndReason> {
        // What another session has aborted must not be told apart from what comes behind it by chance.
        self.follow_orders(link);
        if self.is_closing() {
            return Ok(());
        }
        self.handle_one(link, frame, false, directory)?;
        while !self.is_closing()
            && let Some(frame) = self.next_in_turn(link)
        {
            self.handle_one(link, frame, true, directory)?;
        }
        Ok(())
    }

    fn handle_one(
        &mut self,
        link: &mut Link,
        frame: Frame,
        has_waited: bool,
        directory: &dyn Directory,
    ) -> Result<(), EndReason> {
        let request = Request::parse(&frame.bhs, &frame.ahs);
        if !frame.data_intact {
            self.reject(link, &frame.bhs, RejectReason::DataDigestError);
            if !matches!(request, Request::DataOut(_)) {
                // Its number is lost with it, and at error recovery level 0 nobody brings it back.
                return Err(EndReason::ProtocolError("data digest error".into()));
            }
        }
        let Turn::Now(frame) = self.turn(link, &request, frame, has_waited)? else { return Ok(()) };
        let bhs = frame.bhs;
        match self.dispatch(link, &request, frame, directory) {
            Ok(()) => Ok(()),
            Err(Fault::Reject(reason)) => {
                self.reject(link, &bhs, reason);
                Ok(())
            }
            Err(Fault::End(why)) => Err(why),
        }
    }

    fn dispatch(
        &mut self,
        link: &mut Link,
        request: &Request,
        frame: Frame,
        directory: &dyn Directory,
    ) -> Result<(), Fault> {
        let Frame { data, data_intact, .. } = frame;
        let is_discovery = self.disk.is_none();
        match request {
            Request::Command(_) | Request::TaskManagement(_) | Request::DataOut(_) if is_discovery => {
                return Err(Fault::Reject(RejectReason::ProtocolError));
            }
            Request::Command(pdu) => self.handle_command(link, pdu, data)?,
            Request::DataOut(pdu) => self.handle_data_out(link, pdu, data, data_intact),
            Request::TaskManagement(pdu) => self.handle_task_management(link, pdu)?,
            Request::NopOut(pdu) => self.handle_nop_out(link, pdu, data),
            Request::Text(pdu) => self.handle_text(link, pdu, &data, directory)?,
            Request::Logout(pdu) => self.handle_logout(link, pdu)?,
            Request::Snack => return Err(Fault::Reject(RejectReason::SnackReject)),
            Request::Login(_) => {
                return Err(Fault::End(EndReason::ProtocolError("login in the full feature phase".into())));
            }
            Request::Unknown => return Err(Fault::Reject(RejectReason::CommandNotSupported)),
        }
        Ok(())
    }

    /// What must be done whenever anything happened: orders followed, R2Ts that had to wait sent.
    pub(crate) fn settle(&mut self, link: &mut Link) {
        self.follow_orders(link);
        if !self.deferred.is_empty() {
            self.start_deferred(link);
        }
        if !self.waiting_for_r2t.is_empty() {
            self.send_r2ts(link);
        }
        if !self.errands.is_empty() && !self.tasks.any_aborted() {
            self.errands.clear();
        }
        if !self.pending_functions.is_empty() {
            self.answer_functions(link);
        }
        if self.close_when_sent && self.pending_functions.is_empty() {
            self.closing.get_or_insert(Closing::Silently);
        }
    }

    pub(crate) fn limit_bytes_in_flight(&mut self, bytes: u64) {
        self.limits.bytes_in_flight = bytes;
    }

    pub(crate) fn target(&self) -> Option<&Arc<Target>> {
        self.disk.as_ref().map(Membership::target)
    }

    pub(crate) fn ready_bytes(&self) -> usize {
        self.ready_bytes
    }

    /// Hears from the initiator.
    pub(crate) fn heard(&mut self, now: Duration) {
        self.last_heard = now;
        self.pinged = None;
        // Firmware has one command at a time; who has more is an operating system.
        self.answers_pings |= self.tasks.len() > 1;
    }

    /// Whether no more can be taken from the initiator for now.
    pub(crate) fn is_closing(&self) -> bool {
        self.closing.is_some() || self.close_when_sent
    }

    pub(crate) fn poll_timeout(&self) -> Option<Duration> {
        if !self.answers_pings || self.closing.is_some() {
            return None;
        }
        Some(match self.pinged {
            None => self.last_heard + self.limits.ping_after,
            Some(at) => at + self.limits.ping_timeout,
        })
    }

    pub(crate) fn handle_timeout(&mut self, link: &mut Link, now: Duration) {
        if self.poll_timeout().is_none_or(|at| now < at) {
            return;
        }
        match self.pinged {
            None => self.ping(link, now),
            Some(_) => self.end(link, EndReason::PingTimeout),
        }
    }
}

/// A request that can't be done.
enum Fault {
    Reject(RejectReason),
    End(EndReason),
}

impl From<RejectReason> for Fault {
    fn from(reason: RejectReason) -> Self {
        Self::Reject(reason)
    }
}
