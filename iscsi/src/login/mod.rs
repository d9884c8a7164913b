//! The login phase (RFC 7143 6.3): stages, what each may hold, and when the initiator may leave it.

mod auth;
mod chap;

use std::sync::Arc;

use auth::{Authentication, SecurityKeys};

use crate::event::LoginStatus;
use crate::limits::{Limits, MAX_LOGIN_REQUESTS};
use crate::params::{Answer, Params};
use crate::pdu::LoginRequest;
use crate::target::{Account, Credentials, Directory, Target, may_log_in};
use crate::text::{self, Answers};

/// The only portal group there is.
const PORTAL_GROUP_TAG: &str = "1";

/// Longest iSCSI name (RFC 7143 4.2.7.1).
const MAX_NAME: usize = 223;

/// The keys that say who logs in to what.
const WHO: [&str; 4] = ["InitiatorName", "InitiatorAlias", "TargetName", "SessionType"];

/// A stage, by its number in CSG and NSG.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Stage {
    Security = 0,
    Operational = 1,
    FullFeature = 3,
}

impl Stage {
    const fn from_number(number: u8) -> Option<Self> {
        match number {
            0 => Some(Self::Security),
            1 => Some(Self::Operational),
            3 => Some(Self::FullFeature),
            _ => None,
        }
    }
}

/// Why a login is refused: what the initiator is told, and what people are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Refusal {
    pub(crate) status: LoginStatus,
    pub(crate) why: &'static str,
}

const fn refuse(status: LoginStatus, why: &'static str) -> Refusal {
    Refusal { status, why }
}

/// What answers a login request.
#[derive(Debug)]
pub(crate) struct Reply {
    pub(crate) csg: Stage,
    /// Where to the login goes, if it goes on to another stage.
    pub(crate) nsg: Option<Stage>,
    pub(crate) text: Vec<u8>,
}

/// Who logs in, from the first request.
#[derive(Debug)]
struct Parties {
    initiator: String,
    /// `None` in a discovery session.
    target: Option<Arc<Target>>,
    auth: Authentication,
}

/// A login, from the first request to the full feature phase.
#[derive(Debug)]
pub(crate) struct Login {
    limits: Limits,
    entropy: [u8; 32],
    stage: Stage,
    /// The first request, whose ISID, TSIH, CID and ITT hold for all.
    leading: Option<LoginRequest>,
    requests: u32,
    /// Text of requests that go on.
    text: Vec<u8>,
    /// Keys of the stages so far: none may be negotiated twice.
    seen: Vec<String>,
    named: (Option<String>, Option<String>),
    parties: Option<Parties>,
    params: Params,
    declared: bool,
}

/// What a login has agreed on.
#[derive(Debug)]
pub(crate) struct Agreed {
    pub(crate) initiator: String,
    pub(crate) target: Option<Arc<Target>>,
    /// Who the initiator has proved to be.
    pub(crate) proved: Option<Account>,
    pub(crate) params: Params,
    pub(crate) isid: [u8; 6],
    pub(crate) cid: u16,
}

impl Login {
    pub(crate) fn new(limits: Limits, entropy: [u8; 32]) -> Self {
        Self {
            limits,
            entropy,
            stage: Stage::Security,
            leading: None,
            requests: 0,
            text: Vec::new(),
            seen: Vec::new(),
            named: (None, None),
            parties: None,
            params: Params::default(),
            declared: false,
        }
    }

    /// The names of initiator and target, as far as they were said.
    pub(crate) fn named(&self) -> (Option<String>, Option<String>) {
        self.named.clone()
    }

    /// What was agreed on; for when a reply has gone to the full feature phase.
    pub(crate) fn take_agreed(&mut self) -> Option<Agreed> {
        let (leading, parties) = (self.leading.take()?, self.parties.take()?);
        Some(Agreed {
            initiator: parties.initiator,
            target: parties.target,
            proved: parties.auth.into_proved(),
            params: std::mem::take(&mut self.params).settled(),
            isid: leading.isid,
            cid: leading.cid,
        })
    }

    pub(crate) fn handle(
        &mut self,
        request: &LoginRequest,
        data: &[u8],
        directory: &dyn Directory,
    ) -> Result<Reply, Refusal> {
        self.check(request)?;
        let csg = self.stage;
        if self.text.len() + data.len() > self.limits.max_text {
            return Err(refuse(LoginStatus::InitiatorError, "too much text"));
        }
        self.text.extend_from_slice(data);
        if request.goes_on {
            return Ok(Reply { csg, nsg: None, text: Vec::new() });
        }
        let text = std::mem::take(&mut self.text);
        let pairs = text::pairs(&text)
            .map_err(|_| refuse(LoginStatus::InitiatorError, "text that is no list of keys"))?;
        self.remember(&pairs)?;
        let mut answers = Answers::default();
        if self.parties.is_none() {
            let parties = self.meet(request, &pairs, directory)?;
            if parties.target.is_some() {
                answers.push("TargetPortalGroupTag", PORTAL_GROUP_TAG);
            }
            self.parties = Some(parties);
        }
        self.negotiate(request, &pairs, &mut answers)?;
        let nsg = self.transit(request)?;
        Ok(Reply { csg, nsg, text: answers.into_bytes() })
    }

    /// What must hold for every request.
    fn check(&mut self, request: &LoginRequest) -> Result<(), Refusal> {
        const PROTOCOL_VERSION: u8 = 0;
        let illegal = |why| Err(refuse(LoginStatus::InitiatorError, why));
        if request.version_min > PROTOCOL_VERSION {
            return Err(refuse(LoginStatus::UnsupportedVersion, "a later version of the protocol"));
        }
        self.requests += 1;
        if self.requests > MAX_LOGIN_REQUESTS {
            return illegal("too many login requests");
        }
        let stage = match Stage::from_number(request.csg) {
            Some(stage @ (Stage::Security | Stage::Operational)) => stage,
            Some(Stage::FullFeature) | None => return illegal("no such login stage"),
        };
        match &self.leading {
            None => {
                self.stage = stage;
                self.leading = Some(request.clone());
            }
            Some(leading) => {
                let names = |it: &LoginRequest| (it.isid, it.tsih, it.cid, it.itt);
                if names(leading) != names(request) {
                    return illegal("ISID, TSIH, CID or task tag changed within a login");
                }
                if stage != self.stage {
                    return illegal("not the stage that the login is in");
                }
            }
        }
        if request.transit && request.goes_on {
            return illegal("text that goes on can't end a stage");
        }
        if request.transit && Stage::from_number(request.nsg).is_none_or(|next| next as u8 <= stage as u8) {
            return illegal("no such next stage");
        }
        Ok(())
    }

    /// Keys that say who logs in to what are exempt: only those of the first request count, and libiscsi repeats them
    /// in every stage.
    fn remember(&mut self, pairs: &[(&str, &str)]) -> Result<(), Refusal> {
        for (key, _) in pairs.iter().filter(|(key, _)| !WHO.contains(key)) {
            if self.seen.iter().any(|seen| seen == key) {
                return Err(refuse(LoginStatus::InitiatorError, "a key was negotiated twice"));
            }
            self.seen.push((*key).to_owned());
        }
        Ok(())
    }

    /// Finds out from the first request who wants to log in to what, and whether it may.
    fn meet(
        &mut self,
        request: &LoginRequest,
        pairs: &[(&str, &str)],
        directory: &dyn Directory,
    ) -> Result<Parties, Refusal> {
        let value = |key| pairs.iter().find(|(known, _)| *known == key).map(|(_, value)| *value);
        let missing = |why| refuse(LoginStatus::MissingParameter, why);
        let initiator = value("InitiatorName").filter(|name| !name.is_empty());
        let initiator = initiator.ok_or(missing("InitiatorName is missing"))?;
        if !is_name(initiator) {
            return Err(refuse(LoginStatus::InitiatorError, "InitiatorName is no iSCSI name"));
        }
        self.named.0 = Some(initiator.to_owned());
        let initiator = initiator.to_ascii_lowercase();

        if value("SessionType").is_some_and(|kind| kind == "Discovery") {
            return self.meet_for_discovery(request, initiator, value("AuthMethod"), directory);
        }
        if value("SessionType").is_some_and(|kind| kind != "Normal") {
            return Err(refuse(LoginStatus::SessionTypeNotSupported, "no such session type"));
        }
        let name = value("TargetName").ok_or(missing("TargetName is missing"))?;
        if !is_name(name) {
            return Err(refuse(LoginStatus::NotFound, "TargetName is no iSCSI name"));
        }
        self.named.1 = Some(name.to_owned());
        let target = directory
            .target(&name.to_ascii_lowercase())
            .ok_or(refuse(LoginStatus::NotFound, "there is no such target"))?;
        let credentials = target.credentials();
        if !may_log_in(credentials, &initiator) {
            return Err(refuse(LoginStatus::AuthorisationFailure, "the target is another initiator's"));
        }
        // A session has one connection, so none can be added, and there is nothing to reinstate one in.
        if request.tsih != 0 {
            return Err(if target.has_session(request.tsih, &initiator, request.isid) {
                refuse(LoginStatus::TooManyConnections, "a session has only one connection")
            } else {
                refuse(LoginStatus::SessionDoesNotExist, "there is no such session")
            });
        }
        let auth = Authentication::new(credentials.chap.clone(), credentials.mutual.clone(), self.entropy);
        Ok(Parties { initiator, target: Some(target), auth })
    }

    /// Whoever asks is shown its own targets and no others, and of those that ask for proof only the ones for which it
    /// has given that. An initiator that offers CHAP is met with the account of the first of them; one that does not
    /// may ask, and be shown the others.
    fn meet_for_discovery(
        &self,
        request: &LoginRequest,
        initiator: String,
        offer: Option<&str>,
        directory: &dyn Directory,
    ) -> Result<Parties, Refusal> {
        if request.tsih != 0 {
            return Err(refuse(LoginStatus::SessionDoesNotExist, "there is no such session"));
        }
        let offers_proof = offer.is_some_and(|offer| offer.split(',').any(|method| method == "CHAP"));
        let targets = if offers_proof { directory.targets_for(&initiator) } else { Vec::new() };
        let mut credentials = targets.iter().map(|target| target.credentials());
        let Credentials { chap, mutual, .. } =
            credentials.find(|credentials| credentials.chap.is_some()).cloned().unwrap_or_default();
        Ok(Parties { initiator, target: None, auth: Authentication::new(chap, mutual, self.entropy) })
    }

    fn negotiate(
        &mut self,
        request: &LoginRequest,
        pairs: &[(&str, &str)],
        answers: &mut Answers,
    ) -> Result<(), Refusal> {
        let Some(parties) = &mut self.parties else {
            return Err(refuse(LoginStatus::InitiatorError, "a login of nobody"));
        };
        let mut security = SecurityKeys::default();
        let mut offers: Vec<(&str, &str)> = Vec::with_capacity(pairs.len());
        for &(key, value) in pairs {
            match key {
                _ if WHO.contains(&key) => {}
                _ if security.take(key, value) => {
                    if self.stage != Stage::Security {
                        return Err(refuse(LoginStatus::InitiatorError, "a security key in another stage"));
                    }
                }
                _ => offers.push((key, value)),
            }
        }
        match self.stage {
            Stage::Security => {
                parties.auth.handle(&security, answers)?;
                if request.transit && parties.auth.is_untouched() && !parties.auth.is_satisfied() {
                    return Err(refuse(LoginStatus::AuthenticationFailure, "no authentication was offered"));
                }
                // Operational keys have their own stage (RFC 7143 13); unknown ones are unknown anywhere.
                for (key, value) in offers {
                    let answer = Params::default().negotiate(key, value, &self.limits);
                    let known = answer != Answer::NotUnderstood;
                    answers.push(key, if known { "Reject" } else { "NotUnderstood" });
                }
            }
            Stage::Operational | Stage::FullFeature => {
                if !parties.auth.is_satisfied() {
                    return Err(refuse(LoginStatus::AuthenticationFailure, "authentication was left out"));
                }
                offers.sort_by_key(|(key, _)| Params::rank(key));
                for (key, value) in offers {
                    if let Some(answer) = self.params.negotiate(key, value, &self.limits).text() {
                        answers.push(key, answer);
                    }
                }
                if !self.declared {
                    self.declared = true;
                    let ours = self.limits.max_recv_data_segment_length.to_string();
                    answers.push("MaxRecvDataSegmentLength", &ours);
                }
            }
        }
        Ok(())
    }

    /// Goes to the next stage if the initiator wants to and nothing is left to do in this one.
    fn transit(&mut self, request: &LoginRequest) -> Result<Option<Stage>, Refusal> {
        let may_go = self.parties.as_ref().is_some_and(|parties| parties.auth.is_satisfied());
        if !request.transit || !may_go {
            return Ok(None);
        }
        let next = Stage::from_number(request.nsg);
        let next = next.ok_or(refuse(LoginStatus::InitiatorError, "no such next stage"))?;
        self.stage = next;
        Ok(Some(next))
    }
}

/// Whether that can be an iSCSI name (RFC 7143 4.2.7.1). What passes may stand in a log.
fn is_name(name: &str) -> bool {
    name.len() <= MAX_NAME && name.chars().all(|c| c.is_ascii_graphic() || c.is_alphanumeric())
}
