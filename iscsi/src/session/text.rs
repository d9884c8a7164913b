//! Text in the full feature phase: SendTargets, and what else may be said there (RFC 7143 11.10, appendix C).

use block::Segments;
use bytes::Bytes;

use super::Session;
use crate::link::Link;
use crate::params::Answer;
use crate::pdu::{NO_TAG, RejectReason, TextRequest, TextResponse};
use crate::target::Directory;
use crate::text::{self, Answers};

/// An exchange that takes more than one request and response.
#[derive(Debug)]
pub(super) struct Exchange {
    itt: u32,
    ttt: u32,
    received: Vec<u8>,
    to_send: Bytes,
}

impl Session {
    pub(super) fn handle_text(
        &mut self,
        link: &mut Link,
        pdu: &TextRequest,
        data: &[u8],
        directory: &dyn Directory,
    ) -> Result<(), RejectReason> {
        let mut exchange = match self.exchange.take() {
            Some(exchange) if pdu.ttt != NO_TAG => {
                if (exchange.ttt, exchange.itt) != (pdu.ttt, pdu.itt) {
                    return Err(RejectReason::InvalidPduField);
                }
                exchange
            }
            // A new exchange ends one that was left standing.
            _ if pdu.ttt == NO_TAG => {
                Exchange { itt: pdu.itt, ttt: NO_TAG, received: Vec::new(), to_send: Bytes::new() }
            }
            _ => return Err(RejectReason::InvalidPduField),
        };
        if exchange.received.len() + data.len() > self.limits.max_text {
            return Err(RejectReason::ProtocolError);
        }
        exchange.received.extend_from_slice(data);
        if !pdu.goes_on && exchange.to_send.is_empty() {
            let received = std::mem::take(&mut exchange.received);
            let pairs = text::pairs(&received).map_err(|_| RejectReason::ProtocolError)?;
            exchange.to_send = self.answer(&pairs, directory).into_bytes().into();
        }
        let most = self.params.max_send_data_segment_length as usize;
        let part = exchange.to_send.split_to(exchange.to_send.len().min(most));
        let goes_on = !exchange.to_send.is_empty();
        let is_final = pdu.is_final && !pdu.goes_on && !goes_on;
        if is_final {
            exchange.ttt = NO_TAG;
        } else {
            self.next_ttt = self.next_ttt.wrapping_add(1) % NO_TAG;
            exchange.ttt = self.next_ttt;
        }
        let response = TextResponse { is_final, goes_on, lun: pdu.lun, itt: pdu.itt, ttt: exchange.ttt };
        let numbers = link.status_numbers();
        link.send(response.encode(&numbers), Segments::from(part));
        self.exchange = (!is_final).then_some(exchange);
        Ok(())
    }

    fn answer(&mut self, pairs: &[(&str, &str)], directory: &dyn Directory) -> Answers {
        let mut answers = Answers::default();
        for &(key, value) in pairs {
            match key {
                "SendTargets" => self.send_targets(value, directory, &mut answers),
                "MaxRecvDataSegmentLength" => {
                    if let Some(answer) = self.params.negotiate(key, value, &self.limits).text() {
                        answers.push(key, answer);
                    }
                }
                // All others are settled by the login.
                _ => {
                    let answer = self.params.clone().negotiate(key, value, &self.limits);
                    let known = answer != Answer::NotUnderstood;
                    answers.push(key, if known { "Reject" } else { "NotUnderstood" });
                }
            }
        }
        answers
    }

    /// Lists the targets that this initiator may see: all of them, one of them, or the session's own.
    fn send_targets(&self, value: &str, directory: &dyn Directory, answers: &mut Answers) {
        let own = self.disk.as_ref().map(|disk| disk.target().name());
        let only = match (value, own) {
            ("All", _) => None,
            ("", Some(own)) => Some(own.to_owned()),
            (name, _) if name.contains('.') => Some(name.to_ascii_lowercase()),
            _ => {
                answers.push("SendTargets", "Reject");
                return;
            }
        };
        for target in directory.targets_for(&self.initiator) {
            if only.as_ref().is_none_or(|only| only == target.name()) && answers.len() < self.limits.max_text
            {
                answers.push("TargetName", target.name());
                answers.push("TargetAddress", &format!("{},1", self.portal));
            }
        }
    }
}
