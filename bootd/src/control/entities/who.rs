//! Who asks: the user at the other end of the socket, as the kernel knows it, and what they say of themselves.

use axum::extract::FromRequestParts;
use axum::extract::connect_info::{ConnectInfo, Connected};
use axum::serve::IncomingStream;
use hyper::HeaderMap;
use hyper::http::request::Parts;
use nix::unistd::{Uid, User};
use site::Author;
use tokio::net::UnixListener;

/// The header in which a command passes on on whose behalf it says it was run by sudo.
pub(crate) const SUDO_USER: &str = "x-bootd-sudo-user";

/// The header with what a change is for, in UTF-8.
pub(crate) const WHY: &str = "x-bootd-why";

/// The longest text of either, in characters. What is longer is cut off.
const LONGEST: usize = 500;

/// The longest claim, in characters: with the name before it, an author has room for it.
const LONGEST_CLAIM: usize = 32;

/// The process at the other end.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Peer {
    uid: Option<u32>,
}

impl Connected<IncomingStream<'_, UnixListener>> for Peer {
    fn connect_info(stream: IncomingStream<'_, UnixListener>) -> Self {
        Self { uid: stream.io().peer_cred().ok().map(|peer| peer.uid()) }
    }
}

/// The author of whatever the request changes.
pub(in crate::control) struct By(pub(in crate::control) Author);

impl<S: Send + Sync> FromRequestParts<S> for By {
    type Rejection = std::convert::Infallible;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Self::Rejection> {
        let peer = parts.extensions.get::<ConnectInfo<Peer>>().map(|ConnectInfo(peer)| *peer);
        let uid = peer.and_then(|peer| peer.uid);
        Ok(Self(author(uid, said(&parts.headers, SUDO_USER).as_deref(), said(&parts.headers, WHY))))
    }
}

fn said(headers: &HeaderMap, name: &str) -> Option<String> {
    let text = std::str::from_utf8(headers.get(name)?.as_bytes()).ok()?;
    let text: String = text.chars().filter(|c| !c.is_control()).take(LONGEST).collect();
    Some(text.trim().to_owned()).filter(|text| !text.is_empty())
}

fn author(uid: Option<u32>, sudo_user: Option<&str>, why: Option<String>) -> Author {
    let name = match uid {
        Some(uid) => match User::from_uid(Uid::from_raw(uid)) {
            Ok(Some(user)) => user.name,
            _ => format!("user {uid}"),
        },
        None => "unknown".to_owned(),
    };
    // Anyone may set a variable, so it is told as what it is.
    let who = match sudo_user.filter(|claim| *claim != name) {
        Some(claim) => {
            let claim: String = claim.chars().filter(char::is_ascii_graphic).take(LONGEST_CLAIM).collect();
            format!("{name} (SUDO_USER says {claim})")
        }
        None => name,
    };
    Author { who, why }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_author_is_who_the_kernel_says_and_a_claim_is_told_as_one() {
        assert_eq!(author(Some(0), None, None).who, "root");
        assert_eq!(author(Some(0), Some("alice"), None).who, "root (SUDO_USER says alice)");
        assert_eq!(author(Some(0), Some("root"), None).who, "root");
        assert_eq!(author(Some(4_000_000_000), None, None).who, "user 4000000000");
        let mut headers = HeaderMap::new();
        let long = format!(" für\tdie Klausur {}", "x".repeat(1000));
        headers.insert(WHY, hyper::header::HeaderValue::from_bytes(long.as_bytes()).unwrap());
        let why = said(&headers, WHY).unwrap();
        assert!(why.starts_with("fürdie Klausur xx") && why.chars().count() < LONGEST, "{why}");
    }
}
