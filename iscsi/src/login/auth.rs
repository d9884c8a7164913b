//! Security negotiation: AuthMethod and CHAP, one way or both (RFC 7143 12.1).

use bytes::Bytes;
use sha2::{Digest, Sha256};
use subtle::ConstantTimeEq;

use super::Refusal;
use super::chap::Algorithm;
use crate::event::LoginStatus;
use crate::target::Account;
use crate::text::{self, Answers};

/// Longest challenge that an initiator may send (RFC 7143 12.1.3).
const MAX_CHALLENGE: usize = 1024;

/// Longest response of any algorithm, and some more, so that a wrong one is told from an endless one.
const MAX_RESPONSE: usize = 64;

/// The keys of the security stage in one request.
#[derive(Debug, Default)]
pub(super) struct SecurityKeys<'a> {
    pub(super) auth_method: Option<&'a str>,
    pub(super) chap_a: Option<&'a str>,
    pub(super) chap_n: Option<&'a str>,
    pub(super) chap_r: Option<&'a str>,
    pub(super) chap_i: Option<&'a str>,
    pub(super) chap_c: Option<&'a str>,
}

impl<'a> SecurityKeys<'a> {
    /// Takes the pair if it is one of these.
    pub(super) fn take(&mut self, key: &str, value: &'a str) -> bool {
        let field = match key {
            "AuthMethod" => &mut self.auth_method,
            "CHAP_A" => &mut self.chap_a,
            "CHAP_N" => &mut self.chap_n,
            "CHAP_R" => &mut self.chap_r,
            "CHAP_I" => &mut self.chap_i,
            "CHAP_C" => &mut self.chap_c,
            _ => return false,
        };
        *field = Some(value);
        true
    }
}

#[derive(Debug)]
enum State {
    /// AuthMethod has yet to be offered.
    Method,
    /// CHAP it is; CHAP_A has yet to be offered.
    Algorithm,
    /// The challenge is out.
    Response { algorithm: Algorithm, identifier: u8, challenge: Bytes },
    /// Nothing more to prove.
    Done,
}

/// One login's authentication.
#[derive(Debug)]
pub(super) struct Authentication {
    /// Who the initiator must prove to be; `None` asks for no proof.
    account: Option<Account>,
    /// Who we are where the initiator wants proof too.
    mutual: Option<Account>,
    /// Random bytes of this connection alone.
    entropy: [u8; 32],
    state: State,
}

const fn refuse(why: &'static str) -> Refusal {
    Refusal { status: LoginStatus::AuthenticationFailure, why }
}

impl Authentication {
    pub(super) fn new(account: Option<Account>, mutual: Option<Account>, entropy: [u8; 32]) -> Self {
        Self { account, mutual, entropy, state: State::Method }
    }

    /// Whether the login may leave the security stage, or need not pass it.
    pub(super) fn is_satisfied(&self) -> bool {
        match self.state {
            State::Method => self.account.is_none(),
            State::Algorithm | State::Response { .. } => false,
            State::Done => true,
        }
    }

    /// Who the initiator has proved to be.
    pub(super) fn into_proved(self) -> Option<Account> {
        self.account.filter(|_| matches!(self.state, State::Done))
    }

    /// Whether nothing was offered so far.
    pub(super) fn is_untouched(&self) -> bool {
        matches!(self.state, State::Method)
    }

    pub(super) fn handle(&mut self, keys: &SecurityKeys<'_>, answers: &mut Answers) -> Result<(), Refusal> {
        if matches!(self.state, State::Method)
            && let Some(offer) = keys.auth_method
        {
            self.choose_method(offer, answers)?;
        }
        if matches!(self.state, State::Algorithm)
            && let Some(offer) = keys.chap_a
        {
            return self.challenge(offer, answers);
        }
        match std::mem::replace(&mut self.state, State::Done) {
            State::Response { algorithm, identifier, challenge } => {
                self.verify(keys, algorithm, identifier, &challenge)?;
                self.prove(keys, algorithm, &challenge, answers)
            }
            other => {
                self.state = other;
                Ok(())
            }
        }
    }

    fn choose_method(&mut self, offer: &str, answers: &mut Answers) -> Result<(), Refusal> {
        let mut offered = offer.split(',');
        if self.account.is_some() {
            if !offered.any(|method| method == "CHAP") {
                return Err(refuse("the target asks for CHAP, which the initiator does not offer"));
            }
            answers.push("AuthMethod", "CHAP");
            self.state = State::Algorithm;
        } else {
            if !offered.any(|method| method == "None") {
                return Err(refuse(
                    "the initiator insists on authentication, and there is no account for it",
                ));
            }
            answers.push("AuthMethod", "None");
            self.state = State::Done;
        }
        Ok(())
    }

    fn challenge(&mut self, offer: &str, answers: &mut Answers) -> Result<(), Refusal> {
        let algorithm = offer
            .split(',')
            .filter_map(text::number)
            .find_map(Algorithm::from_number)
            .ok_or(refuse("none of the offered CHAP algorithms is known"))?;
        let random = Sha256::digest(self.entropy);
        let identifier = Sha256::digest(random).first().copied().unwrap_or_default();
        let challenge = Bytes::copy_from_slice(random.get(..algorithm.len()).unwrap_or_default());
        answers.push("CHAP_A", &(algorithm as u32).to_string());
        answers.push("CHAP_I", &identifier.to_string());
        answers.push("CHAP_C", &text::to_hexadecimal(&challenge));
        self.state = State::Response { algorithm, identifier, challenge };
        Ok(())
    }

    fn verify(
        &self,
        keys: &SecurityKeys<'_>,
        algorithm: Algorithm,
        identifier: u8,
        challenge: &[u8],
    ) -> Result<(), Refusal> {
        let (Some(name), Some(response)) = (keys.chap_n, keys.chap_r) else {
            return Err(refuse("CHAP_N or CHAP_R is missing"));
        };
        let Some(account) = &self.account else { return Err(refuse("there is no account")) };
        let response = text::binary(response, MAX_RESPONSE).unwrap_or_default();
        let expected = algorithm.response(identifier, account.secret.expose(), challenge);
        let is_right = name.as_bytes().ct_eq(account.user.as_bytes()) & response.ct_eq(&expected);
        if bool::from(is_right) { Ok(()) } else { Err(refuse("wrong CHAP name or secret")) }
    }

    /// Answers the initiator's own challenge, where it sent one.
    fn prove(
        &self,
        keys: &SecurityKeys<'_>,
        algorithm: Algorithm,
        our_challenge: &[u8],
        answers: &mut Answers,
    ) -> Result<(), Refusal> {
        let (identifier, challenge) = match (keys.chap_i, keys.chap_c) {
            (None, None) => return Ok(()),
            (Some(identifier), Some(challenge)) => (identifier, challenge),
            _ => return Err(refuse("CHAP_I or CHAP_C is missing")),
        };
        let Some(mutual) = &self.mutual else {
            return Err(refuse("the initiator wants proof, and there is no account for that"));
        };
        let identifier = text::number(identifier)
            .and_then(|number| u8::try_from(number).ok())
            .ok_or(refuse("CHAP_I is not a byte"))?;
        let challenge = text::binary(challenge, MAX_CHALLENGE)
            .filter(|challenge| !challenge.is_empty())
            .ok_or(refuse("CHAP_C is not a challenge"))?;
        // Whoever does not know the secret could have us answer our own question.
        if challenge == our_challenge {
            return Err(refuse("the initiator sent our own challenge back"));
        }
        if self.account.as_ref().is_some_and(|account| account.secret == mutual.secret) {
            return Err(refuse("both directions have the same secret, which RFC 7143 12.1.3 forbids"));
        }
        let response = algorithm.response(identifier, mutual.secret.expose(), &challenge);
        answers.push("CHAP_N", &mutual.user);
        answers.push("CHAP_R", &text::to_hexadecimal(&response));
        Ok(())
    }
}
