//! Where the site's database is, and that nobody reads its password by the way.

use std::fmt;
use std::str::FromStr;

/// The address of a PostgreSQL database. Shown, it has no password.
#[derive(Clone, PartialEq, Eq)]
pub(crate) struct DatabaseUrl(String);

impl DatabaseUrl {
    /// With its password, to connect with.
    #[cfg_attr(not(feature = "postgres"), allow(dead_code))]
    pub(crate) fn reveal(&self) -> &str {
        &self.0
    }
}

impl FromStr for DatabaseUrl {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let rest = text.strip_prefix("postgres://").or_else(|| text.strip_prefix("postgresql://"));
        let Some(rest) = rest else {
            return Err(format!("{:?} is no address of a PostgreSQL database", masked(text)));
        };
        let (place, database) = rest.split_once('/').unwrap_or((rest, ""));
        if database.split('?').next().unwrap_or_default().is_empty() {
            return Err(format!("{:?} names no database behind the host", masked(text)));
        }
        if place.rsplit('@').next().unwrap_or_default().is_empty() && !database.contains("host=") {
            return Err(format!("{:?} names no host", masked(text)));
        }
        Ok(Self(text.to_owned()))
    }
}

impl fmt::Display for DatabaseUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&masked(&self.0))
    }
}

impl fmt::Debug for DatabaseUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// The text with stars for each password of an address in it: what stands between a `:` and the last `@` before the
/// host, and behind `password=`.
pub(super) fn masked(text: &str) -> String {
    let mut out = String::new();
    let mut rest = text;
    while let Some(at) = rest.find("://") {
        let (before, after) = rest.split_at(at + 3);
        out.push_str(before);
        // A password may hold a "/" that should have been written %2F: so up to the last "@".
        let end = after.find(['"', '\'', ' ']).unwrap_or(after.len());
        let (address, behind) = after.split_at(end);
        match address.rsplit_once('@').and_then(|(login, host)| Some((login.split_once(':')?.0, host))) {
            Some((user, host)) => out.push_str(&format!("{user}:***@{host}")),
            None => out.push_str(address),
        }
        rest = behind;
    }
    out.push_str(rest);
    match out.split_once("password=") {
        Some((before, after)) => {
            let end = after.find(['&', '"', '\'', ' ']).unwrap_or(after.len());
            format!("{before}password=***{}", after.get(end..).unwrap_or_default())
        }
        None => out,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_password_is_shown() {
        for (url, shown) in [
            ("postgres://bootd:s3cret@db/bootd", "postgres://bootd:***@db/bootd"),
            ("postgresql://bootd:s3/cr@et@db:5433/bootd?x=y", "postgresql://bootd:***@db:5433/bootd?x=y"),
            ("postgres://bootd@db/bootd?password=s3cret&x=y", "postgres://bootd@db/bootd?password=***&x=y"),
            ("postgres://bootd@db/bootd", "postgres://bootd@db/bootd"),
            ("postgres:///bootd?host=/run/postgresql", "postgres:///bootd?host=/run/postgresql"),
        ] {
            let read: DatabaseUrl = url.parse().unwrap();
            assert_eq!((read.to_string(), format!("{read:?}")), (shown.to_owned(), shown.to_owned()));
            assert_eq!(read.reveal(), url);
        }
        for (wrong, reason) in [
            ("mysql://u:s3cret@db/bootd", "no address"),
            ("/var/lib/x", "no address"),
            ("postgres://u:s3cret@db", "no database"),
            ("postgres://u:s3cret@/bootd", "no host"),
        ] {
            let error = wrong.parse::<DatabaseUrl>().unwrap_err();
            assert!(error.contains(reason) && !error.contains("s3cret"), "{error}");
        }
    }
}
