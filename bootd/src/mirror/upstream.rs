//! A mirror as the site has it: where its files come from, what is known of them, and where it may be sent to.

use std::collections::HashMap;
use std::fmt;
use std::time::Duration;

use netboot::FilePath;
use site::Site;

use super::error::MirrorError;
use super::sums::{Sum, parse_sum};

/// The type of mirrors.
pub(crate) const MIRROR_TYPE: &str = "mirror";

/// How long what has no sum is taken for current, where the mirror does not say.
const FRESH: Duration = Duration::from_secs(300);

/// How long an upstream may say nothing.
const SILENCE: Duration = Duration::from_secs(30);

/// The longest URL that is asked for, in bytes.
const MAX_URL: usize = 2048;

/// The server that a mirror's files come from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Upstream {
    /// The mirror's name.
    pub(super) name: String,
    /// Where its files are.
    pub(super) base: Url,
    /// Lists of sums, as paths below it.
    pub(super) lists: Vec<String>,
    /// Sums that the site itself says.
    pub(super) pinned: HashMap<String, Sum>,
    /// Whether only files with a sum are served.
    pub(super) strict: bool,
    /// Hosts beside its own that it may send us to.
    pub(super) redirects: Vec<String>,
    /// How long what has no sum is taken for current.
    pub(super) fresh: Duration,
    /// How long it may say nothing, before its answer and in the midst of it.
    pub(super) silence: Duration,
}

impl Upstream {
    /// The mirror of that name, or `None` if the site has none.
    ///
    /// # Errors
    /// When what the site says of it makes no sense.
    pub(crate) fn of(site: &Site, name: &str) -> Option<Result<Self, MirrorError>> {
        let model = site.model();
        model.get(MIRROR_TYPE, name)?;
        let values = |variable: &str| -> Vec<String> {
            let found = model.effective(MIRROR_TYPE, name, variable);
            found.map(|found| found.values.iter().map(str::to_owned).collect()).unwrap_or_default()
        };
        let first = |variable: &str| values(variable).into_iter().next();
        let base = first("url").unwrap_or_default();
        let wrong = |what: String| MirrorError::Site { mirror: name.to_owned(), what };
        let build = || {
            let base =
                Url::parse(&base).ok_or_else(|| wrong(format!("url {base:?} is no URL of a folder")))?;
            let rows = model.rows(MIRROR_TYPE, name, "pinned");
            let pinned = rows.iter().filter_map(|row| {
                let column =
                    |wanted| row.iter().find(|(name, _)| name.as_str() == wanted).map(|(_, value)| *value);
                Some((column("path")?.to_owned(), column("sha256")?))
            });
            let pinned = pinned
                .map(|(path, sum)| match parse_sum(sum) {
                    Some(sum) => Ok((path, sum)),
                    None => Err(wrong(format!("{sum:?} is no SHA-256 sum"))),
                })
                .collect::<Result<_, _>>()?;
            Ok(Self {
                name: name.to_owned(),
                base,
                lists: values("sums"),
                pinned,
                strict: first("strict").is_some_and(|yes| yes == "yes"),
                redirects: values("redirects"),
                fresh: first("fresh").and_then(|text| text.parse().ok()).map_or(FRESH, Duration::from_secs),
                silence: SILENCE,
            })
        };
        Some(build())
    }

    /// The mirror of that name.
    ///
    /// # Errors
    /// When the site has none, or what it says of it makes no sense.
    pub(crate) fn named(site: &Site, name: &str) -> Result<Self, MirrorError> {
        Self::of(site, name).unwrap_or_else(|| Err(MirrorError::Unknown(name.to_owned())))
    }

    /// The names of all mirrors of the site.
    pub(crate) fn names(site: &Site) -> Vec<String> {
        site.model().entities(MIRROR_TYPE).map(|entity| entity.id().name.as_str().to_owned()).collect()
    }

    /// Where its files are.
    pub(crate) fn url(&self) -> String {
        self.base.to_string()
    }

    /// Where the file at `path` is.
    ///
    /// # Errors
    /// When the URL would be too long.
    pub(super) fn url_of(&self, path: &FilePath) -> Result<Url, MirrorError> {
        let mut url = self.base.clone();
        url.path.push_str(&escape(path.as_str()));
        if url.path.len() > MAX_URL {
            return Err(MirrorError::Site {
                mirror: self.name.clone(),
                what: "the URL would be too long".into(),
            });
        }
        Ok(url)
    }

    /// Where a redirection from `from` leads, if it may lead there: to the same host or one that the site allows, and
    /// never from HTTPS back to HTTP.
    pub(super) fn follow(&self, from: &Url, location: &str) -> Option<Url> {
        let to = from.join(location)?;
        let known =
            to.host == from.host || self.redirects.iter().any(|host| host.eq_ignore_ascii_case(&to.host));
        // Another port of the same host is another server.
        let port_is_plain = to.port == to.scheme.port();
        let same_server = to.host == from.host && to.port == from.port;
        let downgrade = from.scheme == Scheme::Https && to.scheme == Scheme::Http;
        (known && (port_is_plain || same_server) && !downgrade && to.path.len() <= MAX_URL).then_some(to)
    }
}

/// How an upstream is talked to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Scheme {
    /// In clear.
    Http,
    /// By TLS.
    Https,
}

impl Scheme {
    /// The port that a URL may leave out.
    fn port(self) -> u16 {
        match self {
            Self::Http => 80,
            Self::Https => 443,
        }
    }
}

/// A URL, as far as fetching files needs it: no user, no query of the base, no fragment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Url {
    pub(super) scheme: Scheme,
    /// A name or an address, an IPv6 one without its brackets.
    pub(super) host: String,
    pub(super) port: u16,
    /// As it is sent, with its query where a redirection had one. Begins with a slash; that of a mirror ends in one.
    pub(super) path: String,
}

impl Url {
    /// The URL of a folder.
    pub(super) fn parse(text: &str) -> Option<Self> {
        let mut url = Self::parse_any(text)?;
        if url.path.contains('?') {
            return None;
        }
        if !url.path.ends_with('/') {
            url.path.push('/');
        }
        Some(url)
    }

    fn parse_any(text: &str) -> Option<Self> {
        let (scheme, rest) = text.split_once("://")?;
        let scheme = match scheme.to_ascii_lowercase().as_str() {
            "http" => Scheme::Http,
            "https" => Scheme::Https,
            _ => return None,
        };
        let rest = rest.split('#').next().unwrap_or_default();
        let (authority, path) = match rest.find(['/', '?']) {
            Some(at) => rest.split_at(at),
            None => (rest, ""),
        };
        let (host, port) = match authority.strip_prefix('[') {
            Some(rest) => {
                let (host, rest) = rest.split_once(']')?;
                (host, rest.strip_prefix(':').or(rest.is_empty().then_some(""))?)
            }
            None => authority.split_once(':').unwrap_or((authority, "")),
        };
        let port =
            if port.is_empty() { scheme.port() } else { port.parse().ok().filter(|port| *port != 0)? };
        let good = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '-' | '_' | ':');
        if host.is_empty() || !host.chars().all(good) || !path.chars().all(|c| c.is_ascii_graphic()) {
            return None;
        }
        let path = if path.starts_with('/') { path.to_owned() } else { format!("/{path}") };
        Some(Self { scheme, host: host.to_ascii_lowercase(), port, path })
    }

    /// What a `Location` means that came from here (RFC 3986, section 5.2, as far as servers use it).
    fn join(&self, location: &str) -> Option<Self> {
        if location.contains("://") {
            return Self::parse_any(location);
        }
        if let Some(rest) = location.strip_prefix("//") {
            let scheme = if self.scheme == Scheme::Http { "http" } else { "https" };
            return Self::parse_any(&format!("{scheme}://{rest}"));
        }
        let path = if location.starts_with('/') {
            location.to_owned()
        } else {
            let folder = self.path.split('?').next().and_then(|path| path.rsplit_once('/'));
            format!("{}/{location}", folder.map_or("", |(folder, _)| folder))
        };
        let good =
            path.chars().all(|c| c.is_ascii_graphic()) && !path.split(['/', '?']).any(|part| part == "..");
        good.then(|| Self { path, ..self.clone() })
    }

    /// `Host`, as HTTP wants it.
    pub(super) fn authority(&self) -> String {
        let host = if self.host.contains(':') { format!("[{}]", self.host) } else { self.host.clone() };
        if self.port == self.scheme.port() { host } else { format!("{host}:{}", self.port) }
    }
}

impl fmt::Display for Url {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let scheme = if self.scheme == Scheme::Http { "http" } else { "https" };
        write!(f, "{scheme}://{}{}", self.authority(), self.path)
    }
}

/// A path as a URL has it.
fn escape(path: &str) -> String {
    let mut out = String::with_capacity(path.len());
    for byte in path.bytes() {
        match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' => out.push(char::from(byte)),
            b'/' | b'-' | b'.' | b'_' | b'~' | b'+' | b':' | b'@' | b'=' | b',' => out.push(char::from(byte)),
            _ => out.push_str(&format!("%{byte:02X}")),
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use netboot::{Asked, parse_tftp_path};

    use super::*;

    fn upstream(base: &str) -> Upstream {
        Upstream {
            name: "debian".into(),
            base: Url::parse(base).unwrap(),
            lists: vec![],
            pinned: HashMap::new(),
            strict: false,
            redirects: vec!["cdn.example.org".into()],
            fresh: FRESH,
            silence: SILENCE,
        }
    }

    #[test]
    fn urls_are_read_and_written() {
        for (text, same) in [
            ("http://deb.debian.org/debian", "http://deb.debian.org/debian/"),
            ("HTTPS://Mirror.example.org:8443", "https://mirror.example.org:8443/"),
            ("http://10.77.0.9:80/x/", "http://10.77.0.9/x/"),
            ("http://[fd00::1]:81/x", "http://[fd00::1]:81/x/"),
        ] {
            assert_eq!(Url::parse(text).unwrap().to_string(), same);
        }
        for text in [
            "ftp://x/",
            "http://",
            "http://a b/",
            "http://u:p@h/",
            "http://h:0/",
            "http://h:x/",
            "//h/",
            "http://h/a?b",
            "http://h/\r\nX: y",
            "http://[fd00::1]x/",
            "file:///etc",
        ] {
            assert_eq!(Url::parse(text), None, "{text}");
        }
    }

    #[test]
    fn a_path_stays_below_the_base_whatever_is_in_it() {
        let url = |path: &str| match parse_tftp_path(path) {
            Asked::File(path) => upstream("http://h/debian").url_of(&path).unwrap().to_string(),
            _ => "nothing".to_owned(),
        };
        assert_eq!(url("dists/bookworm//g++_1:2~3.deb"), "http://h/debian/dists/bookworm/g++_1:2~3.deb");
        assert_eq!(url("a b/%2e?x#y"), "http://h/debian/a%20b/%252e%3Fx%23y");
        assert_eq!(url("http://evil/"), "http://h/debian/http:/evil");
        assert_eq!(url("../x"), "nothing");
        assert_eq!(url("a/..\\..\\x"), "nothing");
    }

    #[test]
    fn redirections_lead_to_known_hosts_only() {
        let upstream = upstream("http://h/debian");
        let from = Url::parse("http://h/debian").unwrap();
        let to = |location: &str| upstream.follow(&from, location).map(|url| url.to_string());
        assert_eq!(to("/other/x?y=1").as_deref(), Some("http://h/other/x?y=1"));
        assert_eq!(to("x").as_deref(), Some("http://h/debian/x"));
        assert_eq!(to("https://h/x").as_deref(), Some("https://h/x"));
        assert_eq!(to("//CDN.example.org/x").as_deref(), Some("http://cdn.example.org/x"));
        for refused in [
            "http://evil.example.org/x",
            "http://h:3260/x",
            "http://cdn.example.org:8080/",
            "../x",
            "file:///etc",
            "a\r\nb",
            "http://169.254.169.254/",
        ] {
            assert_eq!(to(refused), None, "{refused}");
        }
        let secure = Url::parse("https://h/").unwrap();
        assert_eq!(upstream.follow(&secure, "http://h/x"), None, "back to clear text");
    }
}
