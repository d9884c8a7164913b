//! `bootd render`.

use std::io::{self, Write as _};

use super::args::Render;
use super::daemon::Daemon;
use super::{Failure, show};
use crate::control::api::Rendering;

pub(super) async fn run(render: Render) -> Result<(), Failure> {
    let daemon = Daemon::of(&render.common.place.flags())?;
    let path = format!("/render?file={}&client={}", escape(&render.file), render.client);
    let rendering: Rendering = daemon.get(&path).await?;
    if !render.common.json {
        // Not among what the client would get, which alone is printed.
        let _ = writeln!(io::stderr(), "{}", origin(&rendering));
    }
    show(render.common.json, &rendering, |rendering| rendering.text.clone())
}

fn origin(rendering: &Rendering) -> String {
    let Rendering { client, name, file, instance, shipped, masked, .. } = rendering;
    let whose = if *shipped { "shipped" } else { "of this site" };
    let masked = if *masked { "; the secret of a boot is masked" } else { "" };
    format!("{name} for client {client}: template {file}, instance {instance}, {whose}{masked}")
}

/// A name as it stands in a query.
fn escape(name: &str) -> String {
    let plain = |byte: &u8| byte.is_ascii_alphanumeric() || b"-._~/".contains(byte);
    name.bytes()
        .map(|byte| if plain(&byte) { char::from(byte).to_string() } else { format!("%{byte:02X}") })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_pass_through_a_query() {
        assert_eq!(escape("pxelinux.cfg/default"), "pxelinux.cfg/default");
        assert_eq!(escape("a b&c=d%\u{e9}+"), "a%20b%26c%3Dd%25%C3%A9%2B");
    }
}
