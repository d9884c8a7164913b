//! Every wrong value is an error that names its place and its remedy; what is left away has its default.

use std::collections::BTreeMap;
use std::io::Write as _;
use std::net::Ipv4Addr;
use std::time::Duration;

use super::wire::EXAMPLES;
use netboot::{Mode, Unknown};

use super::{Config, ConfigError, Flags};
use crate::machine::{Machine, NetworkInterface};

fn machine() -> Machine {
    let with = |index, addresses| NetworkInterface { index, addresses, up: true };
    Machine {
        host_name: "AppServer1.example.org".into(),
        memory: 8 << 30,
        interfaces: BTreeMap::from([
            ("eth0".into(), with(2, vec![])),
            ("eth1".into(), with(3, vec![([10, 0, 0, 1].into(), 24)])),
            ("eth2".into(), with(4, vec![([10, 2, 0, 1].into(), 16)])),
        ]),
    }
}

fn load(text: &str) -> Result<Config, ConfigError> {
    let mut file = tempfile::NamedTempFile::new().unwrap();
    file.write_all(text.as_bytes()).unwrap();
    let flags = Flags { file: Some(file.path().to_owned()), ..Flags::default() };
    Config::load(&flags, &machine())
}

#[test]
fn every_wrong_value_has_its_place_and_its_remedy() {
    // the file, line:column, what is wrong, what would be right
    let table: &[(&str, &str, &str, &str)] = &[
        ("interface = \"eth9\"", "1:13", "no interface \"eth9\"", "eth1 (10.0.0.1/24)"),
        ("interface = \"eth0\"", "1:13", "has no IPv4 address", "ip address add"),
        ("interface = [\"eth1\", \"eth1\"]", "1:13", "twice", "once"),
        ("interface = 1", "1:13", "expected a string or a list", "interface = \"eth1\""),
        ("intreface = \"eth1\"", "1:1", "unknown field `intreface`", "spelling"),
        ("interface = \"eth1", "1:18", "invalid basic string", "interface = \"eth1\""),
        ("[dhcp\n", "1:6", "unclosed", "TOML"),
        ("\n\ndata = \"data\"", "3:8", "not an absolute path", "\"/\""),
        ("server = \"App Server\"", "1:10", "no server name", "server = \"appserver1\""),
        (
            "site = \"mysql://u:p@db/x\"",
            "1:8",
            "mysql://u:***@db/x",
            "postgres://bootd:PASSWORD@db.example.org/bootd",
        ),
        ("site = \"postgres://u:p@db\"", "1:8", "no database", "leave it away"),
        ("site = 1", "1:8", "expected a string", "site = \"postgres://"),
        ("domain = \"Lab_1\"", "1:10", "no domain", "domain = \"lab.example.org\""),
        (
            "domain = \"a-very-long-name-of-a-department.and-another-of-a-university.example\"",
            "1:10",
            "65 characters together",
            "shorter",
        ),
        ("iqn_date = \"2026-13\"", "1:12", "no year and month", "iqn_date = \"2026-01\""),
        ("iqn_date = \"26-1\"", "1:12", "no year and month", "iqn_date = \"2026-01\""),
        ("router_advertisement = \"yes\"", "1:24", "expected a boolean", "router_advertisement = true"),
        ("boot_programs = [\"ipxe\"]", "1:17", "not an absolute path", "/usr/lib/ipxe"),
        ("log = \"loud=very\"", "1:7", "no log level", "debug"),
        ("[dhcp]\nmode = true", "2:8", "expected a string", "mode = \"server\""),
        ("[dhcp]\nmode = \"on\"", "2:8", "no mode of DHCP", "\"proxy\""),
        ("[dhcp.interface.eth1]\nmode = \"on\"", "2:8", "no mode of DHCP", "\"proxy\""),
        ("[dhcp.interface.eth1]\nmode = true", "2:8", "expected a string", "mode = \"server\""),
        ("[dhcp.interface.eth7]\nmode = \"off\"", "1:17", "no interface that is served", "eth1, eth2"),
        (
            "[dhcp.interface.eth1]\npool = \"10.2.0.8-10.2.0.9\"",
            "2:8",
            "subnet 10.0.0.0/24",
            "10.0.0.1-10.0.0.254",
        ),
        ("[dhcp.interface.eth1]\nrouter = \"10.2.0.9\"", "2:10", "can reach a router", "10.0.0.254"),
        ("[dhcp.subnet.\"10.9.0.1/24\"]\ndns = []", "1:14", "first, 10.9.0.0", "10.9.0.0/24"),
        ("[dhcp.subnet.\"10.2.9.0/24\"]\ndns = []", "1:14", "of eth2 itself", "[dhcp.interface.eth2]"),
        ("[dhcp.subnet.\"10.9.0.0/24\"]\nmode = \"off\"", "2:8", "no mode of its own", "leave it away"),
        ("[dhcp.subnet.\"10.9.0.0/24\"]\npool = \"10.0.0.8-10.0.0.9\"", "2:8", "10.9.0.0/24", "10.9.0.254"),
        ("[engine]\nkind = \"dm\"", "2:8", "not known", "kind = \"embedded\" or kind = \"kernel\""),
        ("[engine]\noverlays = \"file\"", "2:12", "not known", "\"transient\" or overlays = \"files\""),
        (
            "[engine]\noverlays = \"files\"\nspace = \"/dev/sdx\"",
            "3:9",
            "lie in the overlays' directory",
            "overlays = \"thin\"",
        ),
        ("[engine]\noverlays = \"files\"\ncache = \"1GiB\"", "3:9", "the page cache", "leave it away"),
        ("[engine]\nfallback = \"sim\"", "2:12", "another engine's place", "fallback = \"embedded\""),
        ("[engine]\nspace = \"overlays\"", "2:9", "not an absolute path", "\"/\""),
        ("[engine]\nspace_size = \"1MiB\"", "2:14", "least that is of use", "space_size = \"100GiB\""),
        (
            "[engine]\nspace = \"ram\"\nspace_size = \"9GiB\"",
            "3:14",
            "this machine's 8 GiB",
            "space_size = \"8GiB\"",
        ),
        ("[engine]\nspace = \"ram\"\nwrite_cache = \"1GiB\"", "3:15", "no cache in RAM", "leave it away"),
        ("[engine]\ncache = \"10MiB\"", "2:9", "less than 64 MiB", "cache = \"4GiB\""),
        ("[engine]\ncache = \"5GiB\"\nwrite_cache = \"4GiB\"", "3:15", "would take 9 GiB", "smaller"),
        ("[dhcp]\npool = \"10.0.0.9\"", "2:8", "no range of addresses", "10.0.0.100-10.0.0.200"),
        ("[dhcp]\npool = \"10.0.0.9-10.0.0.8\"", "2:8", "no range of addresses", "first and the last"),
        (
            "[dhcp]\npool = \"10.9.0.8-10.9.0.9\"",
            "2:8",
            "not lie in the subnet",
            "10.0.0.1-10.0.0.254 (on eth1)",
        ),
        ("[dhcp]\npool = \"10.0.0.1-10.0.0.9\"", "2:8", "own address 10.0.0.1", "begin behind it"),
        ("[dhcp]\npool = \"10.0.0.9-10.0.0.255\"", "2:8", "not lie in the subnet", "10.0.0.254"),
        ("[dhcp]\nrouter = \"gw\"", "2:10", "no IPv4 address", "router = \"10.0.0.254\""),
        (
            "[dhcp]\ndns = [\"10.0.0.53\", \"::1\"]",
            "2:7",
            "\"::1\" is no IPv4 address",
            "dns = [\"10.0.0.53\"]",
        ),
        ("[dhcp]\nlease = \"12\"", "2:9", "no length of time", "lease = \"12h\""),
        ("[dhcp]\nlease = \"5s\"", "2:9", "too short", "60s"),
        ("[dhcp]\nlease = 12", "2:9", "expected a string", "lease = \"12h\""),
        ("[dhcp]\nunknown = \"boot\"", "2:11", "no way to treat", "\"lease\""),
        ("[dhcp]\nenabled = false", "2:1", "unknown field", "write mode = \"off\" for enabled = false"),
        ("[dhcp]\nnext-server = \"a\"", "2:1", "unknown field", "spelling"),
        ("[tftp]\nenabled = \"on\"", "2:11", "expected a boolean", "enabled = true"),
        (
            "[tftp]\nsingle_port = true",
            "2:15",
            "expected a string or a list",
            "single_port = [\"10.9.0.0/24\"]",
        ),
        ("[tftp]\nsingle_port = \"10.9.0.1\"", "2:15", "it is no subnet", "32 bits"),
        ("[tftp]\nsingle_port = [\"10.9.0.1/24\"]", "2:15", "first, 10.9.0.0", "10.9.0.0/24"),
        ("[http]\nport = 70000", "2:8", "no TCP port", "1 to 65535"),
        ("[iscsi]\nport = 0", "2:8", "no TCP port", "3260"),
        ("[iscsi]\nport = 80", "2:8", "can't share port 80", "each its own"),
        ("[cache]\nsize = \"lots\"", "2:8", "no size", "25%"),
        ("[cache]\nsize = \"1MiB\"", "2:8", "less than 16 MiB", "4GiB"),
        ("[cache]\nsize = \"9GiB\"", "2:8", "more than this machine's 8 GiB", "25%"),
        ("[overlay]\nlimit = \"0\"", "2:9", "less than 1 MiB", "limit = \"20GiB\""),
        ("[overlay]\nlimit = \"50%\"", "2:9", "no size", "limit = \"20GiB\""),
        ("[overlay]\ndirectory = \"overlays\"", "2:13", "not an absolute path", "\"/\""),
        ("[mirror]\nlimit = \"1MiB\"", "2:9", "less than 128 MiB", "limit = \"50GiB\""),
        ("[mirror]\ndirectory = \"mirror\"", "2:13", "not an absolute path", "\"/\""),
    ];
    for (text, place, what, remedy) in table {
        // An interface is needed to come as far as the wrong value, and must not shift its line.
        let whole = if text.starts_with('[') {
            format!("interface=[\"eth1\",\"eth2\"];\n{text}").replacen(";\n", "\n", 1)
        } else if text.contains("nter") || text.contains("ntre") {
            (*text).to_owned()
        } else {
            format!("{text}\ninterface = \"eth1\"")
        };
        let shifted = usize::from(text.starts_with('['));
        let message = load(&whole).expect_err(text).to_string();
        let (line, column) = place.split_once(':').unwrap();
        let place = format!(":{}:{column}: ", line.parse::<usize>().unwrap() + shifted);
        assert!(message.contains(&place), "{text}: wants {place}: {message}");
        assert!(message.contains(what), "{text}: wants {what:?}: {message}");
        assert!(message.lines().last().unwrap().contains(remedy), "{text}: wants {remedy:?}: {message}");
    }
}

#[test]
fn the_examples_in_errors_are_every_key_and_are_right() {
    for (key, example) in EXAMPLES {
        let text = match key.split_once('.') {
            _ if *key == "interface" => (*example).to_owned(),
            Some((section, _)) => format!("interface = \"eth1\"\n[{section}]\n{example}"),
            None => format!("interface = \"eth1\"\n{example}"),
        };
        load(&text).unwrap_or_else(|e| panic!("{key}: {e}"));
    }
    let sections = ["", "dhcp", "tftp", "http", "iscsi", "cache", "overlay", "mirror", "engine"];
    let tables = ["interface", "subnet"];
    for section in sections {
        let message = match section {
            "" => load("x = 1").unwrap_err().to_string(),
            _ => load(&format!("[{section}]\nx = 1")).unwrap_err().to_string(),
        };
        let listed = message.split_once("expected ").unwrap().1.lines().next().unwrap();
        for key in listed.split('`').skip(1).step_by(2).filter(|key| !sections.contains(key)) {
            if section == "dhcp" && tables.contains(&key) {
                continue;
            }
            let name = if section.is_empty() { key.to_owned() } else { format!("{section}.{key}") };
            assert!(EXAMPLES.iter().any(|(known, _)| *known == name), "{name} has no example");
        }
    }
}

#[test]
fn an_interface_alone_is_enough_and_flags_come_before_the_file() {
    let flags = Flags { interfaces: vec!["eth2".into()], file: None, ..Flags::default() };
    let config = Config::load(&flags, &machine()).unwrap();
    assert_eq!(config.server, "appserver1");
    let pool = config.interfaces[0].dhcp.pool.unwrap().to_string();
    assert!(pool.contains("10.2.128.0") && pool.contains("10.2.255.254"), "{pool}");
    assert_eq!(config.cache_size.0, (8 << 30) / 100 * 25);
    assert_eq!((config.http_port, config.iscsi_port), (80, 3260));
    assert_eq!(config.interfaces[0].dhcp.unknown, Unknown::Lease);
    assert_eq!(config.socket().to_str(), Some("/var/lib/bootd/bootd.sock"));

    let mut file = tempfile::NamedTempFile::new().unwrap();
    file.write_all(b"interface = \"eth1\"\ndata = \"/srv/a\"\nlog = \"warn\"").unwrap();
    let flags = Flags {
        file: Some(file.path().to_owned()),
        data: Some("/srv/b".into()),
        log: Some("debug".into()),
        ..flags
    };
    let config = Config::load(&flags, &machine()).unwrap();
    assert_eq!((config.interfaces[0].name.as_str(), config.interfaces.len()), ("eth2", 1));
    assert_eq!(config.overlay_directory.to_str(), Some("/srv/b/overlays"));
    assert_eq!(config.log, "debug");
}

#[test]
fn each_interface_and_each_subnet_behind_a_relay_may_differ() {
    let text = r#"
        interface = ["eth1", "eth2"]
        [dhcp]
        mode = "proxy"
        router = "10.0.0.254"
        dns = "10.0.0.53"
        [dhcp.interface.eth2]
        mode = "server"
        pool = "10.2.0.100-10.2.0.110"
        lease = "infinite"
        [dhcp.subnet."10.9.0.0/24"]
        pool = "10.9.0.100-10.9.0.200"
        router = "10.9.0.254"
        unknown = "ignore"
        [dhcp.subnet."10.10.0.0/24"]
    "#;
    let config = load(text).unwrap();
    let [eth1, eth2] = &config.interfaces[..] else { panic!("two interfaces") };
    assert_eq!((eth1.dhcp.mode, eth2.dhcp.mode), (Mode::Proxy, Mode::Server));
    assert_eq!((eth1.dhcp.router, eth2.dhcp.router), (Some([10, 0, 0, 254].into()), None));
    assert_eq!(eth2.dhcp.pool.unwrap().to_string(), "10.2.0.100 to 10.2.0.110");
    assert_eq!((eth1.dhcp.lease, eth2.dhcp.lease), (Duration::from_secs(12 * 3600), Duration::MAX));
    assert_eq!(eth2.dhcp.dns, [Ipv4Addr::new(10, 0, 0, 53)]);
    let [bare, full] = &config.relayed[..] else { panic!("two subnets") };
    assert_eq!((full.subnet.to_string().as_str(), full.dhcp.unknown), ("10.9.0.0/24", Unknown::Ignore));
    assert_eq!(full.dhcp.router, Some([10, 9, 0, 254].into()));
    assert_eq!((bare.dhcp.pool, bare.dhcp.router), (None, None), "what is told of one link is no other's");
}

#[test]
fn without_an_interface_the_choices_are_named() {
    let message = load("").unwrap_err().to_string();
    assert!(message.contains("--interface") && message.contains("eth1 (10.0.0.1/24)"), "{message}");
}

#[test]
fn a_file_that_was_named_must_be_there() {
    let flags = Flags { file: Some("/nonexistent/bootd.toml".into()), ..Flags::default() };
    let message = Config::load(&flags, &machine()).unwrap_err().to_string();
    assert!(message.starts_with("/nonexistent/bootd.toml: can't be read"), "{message}");
}

/// The file of that name among the examples.
fn example(name: &str) -> String {
    let path = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../examples").join(name);
    std::fs::read_to_string(&path).unwrap_or_else(|e| panic!("{}: {e}", path.display()))
}

#[test]
fn the_example_files_are_right_and_the_long_one_has_every_key() {
    load(&example("two-clients/bootd.toml")).unwrap();
    let all = example("bootd.toml");
    let defaults = load(&all).unwrap();
    let bare = load("interface = \"eth1\"").unwrap();
    assert_eq!(defaults, bare, "what is not commented out is the default");

    // The keys' own lines have no space behind the mark, the explanations have one.
    let mut section = String::new();
    let mut keys = Vec::new();
    for line in all.lines() {
        if let Some(name) = line.strip_prefix('[') {
            section = format!("{}.", name.trim_end_matches(']'));
        } else if let Some((key, _)) = line.trim_start_matches('#').split_once(" = ")
            && !key.starts_with(' ')
        {
            keys.push(format!("{section}{key}"));
        }
    }
    for (key, _) in EXAMPLES {
        assert!(keys.iter().any(|there| there == key), "{key} is not in the example");
    }
    let uncommented: String = all
        .lines()
        .filter(|line| *line != "#interface = [\"eth1\", \"eth2\"]")
        .map(|line| match line.strip_prefix('#') {
            Some(rest) if !rest.starts_with(' ') => format!("{rest}\n"),
            _ => format!("{line}\n"),
        })
        .collect();
    let full = load(&uncommented).unwrap();
    assert_eq!(full.cache_size, bare.cache_size);
    assert_eq!((full.http_port, full.iscsi_port, full.overlay_limit), (80, 3260, bare.overlay_limit));
    assert_eq!((full.domain, full.names, full.boot_programs), (bare.domain, bare.names, bare.boot_programs));
}
