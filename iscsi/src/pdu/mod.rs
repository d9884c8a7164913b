//! PDUs as they are on the wire (RFC 7143 11): a checked view of the header, then small structs of what a request
//! asks, and the headers of what the target answers.

mod frame;
mod header;
mod request;
mod response;

pub(crate) use frame::{Digests, Frame, next_frame};
pub(crate) use header::{BHS_LEN, Bhs};
pub(crate) use request::{
    Attribute, DataOut, LoginRequest, LogoutRequest, NopOut, Request, ScsiCommand, TaskManagement,
    TextRequest,
};
pub(crate) use response::{
    AsyncMessage, DataIn, LoginResponse, LogoutResponse, NopIn, Numbers, R2t, Reject, RejectReason, Residual,
    ScsiResponse, TaskManagementResponse, TextResponse,
};

/// A tag that names nothing: the ITT of a PDU that wants no answer, the TTT of data nobody asked for.
pub(crate) const NO_TAG: u32 = 0xffff_ffff;
