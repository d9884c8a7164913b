//! What all PDUs of a connection go through on their way out: numbers, digests, and the window of commands.

use std::collections::VecDeque;

use block::Segments;

use crate::event::Event;
use crate::output::Output;
use crate::pdu::{Bhs, Digests, Numbers};
use crate::serial::CmdSn;

/// The commands that a session may send (RFC 7143 4.2.2.1).
#[derive(Debug, Default)]
pub(crate) struct Window {
    expected: CmdSn,
    size: u32,
    open: u32,
    /// Numbers ahead that no command will come with: their tasks were aborted before they were sent.
    forsaken: Vec<CmdSn>,
}

/// Where a CmdSN lies.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Received {
    /// It is the next.
    InOrder,
    /// It is outside the window, or came before: RFC 7143 has it dropped without a word.
    Outside,
    /// Commands before it are missing.
    Early,
}

impl Window {
    pub(crate) fn new(first: CmdSn, size: u32) -> Self {
        Self { expected: first, size: size.max(1), open: 0, forsaken: Vec::new() }
    }

    pub(crate) fn expected(&self) -> CmdSn {
        self.expected
    }

    /// The last number that is let in. One before [`expected`](Self::expected) when the window is shut.
    pub(crate) fn max(&self) -> CmdSn {
        self.expected.plus(self.size.saturating_sub(self.open)).plus(u32::MAX)
    }

    pub(crate) fn contains(&self, number: CmdSn) -> bool {
        let free = self.size.saturating_sub(self.open);
        number.since(self.expected).is_some_and(|ahead| ahead < free)
    }

    pub(crate) fn receive(&mut self, number: CmdSn) -> Received {
        if !self.contains(number) {
            return Received::Outside;
        }
        if number != self.expected {
            return Received::Early;
        }
        self.advance();
        Received::InOrder
    }

    /// A number that counts as received although its command never comes (RFC 7143 11.5.5).
    pub(crate) fn forsake(&mut self, number: CmdSn) {
        if self.contains(number) && !self.forsaken.contains(&number) {
            self.forsaken.push(number);
            self.skip_forsaken();
        }
    }

    fn advance(&mut self) {
        self.expected = self.expected.plus(1);
        self.skip_forsaken();
    }

    fn skip_forsaken(&mut self) {
        while let Some(at) = self.forsaken.iter().position(|number| *number == self.expected) {
            self.forsaken.swap_remove(at);
            self.expected = self.expected.plus(1);
        }
    }

    /// A command is open from now on, and narrows the window.
    pub(crate) fn open(&mut self) {
        self.open += 1;
    }

    /// A command has ended.
    pub(crate) fn close(&mut self) {
        self.open = self.open.saturating_sub(1);
    }
}

/// The way out of a connection.
#[derive(Debug, Default)]
pub(crate) struct Link {
    pub(crate) output: Output,
    pub(crate) digests: Digests,
    pub(crate) window: Window,
    pub(crate) events: VecDeque<Event>,
    stat_sn: u32,
}

impl Link {
    /// The numbers of a PDU without a status of its own.
    pub(crate) fn numbers(&self) -> Numbers {
        Numbers { stat_sn: self.stat_sn, exp_cmd_sn: self.window.expected(), max_cmd_sn: self.window.max() }
    }

    /// The numbers of a PDU that takes a StatSN.
    pub(crate) fn status_numbers(&mut self) -> Numbers {
        let numbers = self.numbers();
        self.stat_sn = self.stat_sn.wrapping_add(1);
        numbers
    }

    pub(crate) fn send(&mut self, bhs: Bhs, data: Segments) {
        self.output.push_pdu(bhs, data, self.digests);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_window_narrows_with_open_commands_and_never_goes_back() {
        let mut window = Window::new(CmdSn(u32::MAX), 2);
        assert_eq!(window.max(), CmdSn(0));
        assert_eq!(window.receive(CmdSn(u32::MAX)), Received::InOrder);
        window.open();
        assert_eq!(window.max(), CmdSn(0), "as before");
        assert_eq!(window.receive(CmdSn(u32::MAX)), Received::Outside, "a duplicate");
        assert_eq!(window.receive(CmdSn(1)), Received::Outside);
        assert_eq!(window.receive(CmdSn(0)), Received::InOrder);
        window.open();
        assert_eq!((window.expected(), window.max()), (CmdSn(1), CmdSn(0)), "shut");
        assert_eq!(window.receive(CmdSn(1)), Received::Outside);
        window.close();
        assert_eq!(window.max(), CmdSn(1));
        window.close();
        assert_eq!(window.receive(CmdSn(2)), Received::Early);
    }

    #[test]
    fn forsaken_numbers_are_skipped() {
        let mut window = Window::new(CmdSn(5), 8);
        window.forsake(CmdSn(6));
        window.forsake(CmdSn(7));
        assert_eq!(window.receive(CmdSn(5)), Received::InOrder);
        assert_eq!(window.expected(), CmdSn(8));
    }
}
