//! What clients may choose among, and where their scripts lead.

use netboot::{Asker, BootPlan, Firmware, MAX_OFFERED, Settings, Stage, Start, Unknown, plan, plan_as_usual};
use site::entity::{Edit, Values};
use site::{Client, Site};

use crate::lab::{client, image, interface, mac, settings};

/// A site in which client 1 is as given, with an image or not, and these choices: name, and variables as words.
fn site(own: &[&str], choices: &[(&str, &str)]) -> Site {
    let site = Site::new(1, vec![Client { image: None, ..client("lab01", 1) }], vec![image("debian")]);
    let mut edits = Vec::new();
    // All of them first: they name each other.
    for (name, _) in choices {
        edits.push(Edit::Create { entity: format!("choice/{name}").parse().unwrap() });
    }
    let all = choices.iter().map(|(name, words)| (format!("choice/{name}"), *words));
    let own = own.join(" ");
    for (entity, words) in all.chain([("client/lab01".to_owned(), own.as_str())]) {
        for word in words.split(' ').filter(|word| !word.is_empty()) {
            let (variable, values) = word.split_once('=').unwrap();
            edits.push(Edit::Set {
                entity: entity.parse().unwrap(),
                variable: variable.parse().unwrap(),
                values: values.split(',').collect::<Values>(),
                expect: None,
            });
        }
    }
    site.edit(&edits).unwrap().0
}

fn plan_on(site: &Site, firmware: Option<Firmware>) -> BootPlan {
    plan(&Asker::supposed(mac(1), Stage::Ipxe, firmware), &interface(), site, &settings())
}

fn why(plan: &BootPlan) -> String {
    plan.why.iter().map(ToString::to_string).collect::<Vec<_>>().join(" ")
}

/// Where it leads, in a word.
fn lead(plan: &BootPlan) -> String {
    match &plan.start {
        Start::Nothing => "nothing".to_owned(),
        Start::Image => "image".to_owned(),
        Start::Menu => "menu".to_owned(),
        Start::Register => "register".to_owned(),
        Start::Choice(choice) => choice.name.to_string(),
        Start::Once(choice) => format!("once {}", choice.name),
    }
}

const CHOICES: &[(&str, &str)] = &[
    ("disk", "kind=disk"),
    ("rescue", "kind=linux kernel=rescue/vmlinuz hidden=yes"),
    ("memtest", "kind=program program=memtest.bin firmware=bios"),
    ("local", "kind=local"),
    ("tools", "kind=menu choices=memtest,tools,more"),
    ("more", "kind=menu choices=tools,local"),
];

#[test]
fn a_client_without_choices_boots_its_image_as_ever() {
    let plan = plan_on(&site(&["image=debian", "menu_timeout=10"], &[]), None);
    assert_eq!(lead(&plan), "image");
    assert_eq!(plan.image.unwrap().name.as_str(), "debian");
    assert!(plan.offer.shown().is_empty());
    let plan = plan_on(&site(&[], &[]), None);
    assert!(!plan.may_boot() && why(&plan).contains("has no image"), "{}", why(&plan));
}

#[test]
fn where_it_leads() {
    for (own, wanted, because) in [
        ("image=debian choices=disk,local", "image", "It boots the image \"debian\""),
        ("image=debian choices=disk,local menu_timeout=0", "image", "It boots the image"),
        (
            "image=debian choices=disk,local menu_timeout=10",
            "menu",
            "waits for 10 s, then goes on with \"disk\"",
        ),
        (
            "image=debian choices=disk,local menu_timeout=10 default_choice=local",
            "menu",
            "then goes on with \"local\"",
        ),
        ("choices=local,memtest", "menu", "waits until somebody chooses"),
        ("choices=tools,local menu_timeout=0", "local", "boots \"local\" without a menu"),
        ("choices=tools,local menu_timeout=5", "menu", "goes on with \"local\""),
        ("image=debian choices=disk default_choice=local", "local", "boots \"local\" without a menu"),
        ("default_choice=rescue menu_timeout=10", "rescue", "boots \"rescue\" without a menu"),
        ("choices=rescue menu_timeout=10 default_choice=rescue", "rescue", "without a menu"),
        ("image=debian boot_once=rescue", "once rescue", "the next time, and only then"),
        ("boot_once=memtest", "once memtest", "the next time"),
        ("choices=disk", "nothing", "neither it nor the client names an image"),
        ("image=debian default_choice=tools", "image", "It boots the image"),
    ] {
        let plan = plan_on(&site(&[own], CHOICES), None);
        assert_eq!(lead(&plan), wanted, "{own}: {}", why(&plan));
        assert!(why(&plan).contains(because), "{own}: {}", why(&plan));
        assert_eq!(plan.script_url.is_some(), plan.may_boot(), "{own}");
    }
}

#[test]
fn it_may_boot_what_it_is_offered_and_nothing_else() {
    let site = site(&["image=debian choices=disk,tools default_choice=rescue menu_timeout=5"], CHOICES);
    let plan = plan_on(&site, None);
    // Of the menus below as well, however they name each other.
    for name in ["disk", "tools", "memtest", "more", "local", "rescue"] {
        assert!(plan.choice(name).is_some(), "{name}");
    }
    assert_eq!(plan.choice("absent"), None);
    let shown: Vec<_> = plan.offer.shown().iter().map(|choice| choice.name.to_string()).collect();
    assert_eq!(shown, ["disk", "tools"], "what is hidden is not shown");
    let below: Vec<_> = plan.offer.below("more").unwrap().iter().map(|c| c.name.to_string()).collect();
    assert_eq!(below, ["tools", "local"]);

    let uefi = plan_on(&site, Some(Firmware::UefiX64));
    assert_eq!(uefi.choice("memtest"), None);
    assert!(why(&uefi).contains("\"memtest\" is left out: it is not for UEFI x64"), "{}", why(&uefi));

    let disabled = site.edit(&[Edit::Set {
        entity: "client/lab01".parse().unwrap(),
        variable: "enabled".parse().unwrap(),
        values: Values::one("no"),
        expect: None,
    }]);
    let plan = plan_on(&disabled.unwrap().0, None);
    assert!(!plan.may_boot() && plan.choice("disk").is_none());
}

#[test]
fn once_is_not_for_ever_nor_for_others() {
    let site = site(&["image=debian boot_once=local"], CHOICES);
    let asker = Asker::supposed(mac(1), Stage::Ipxe, None);
    let usual = plan_as_usual(&asker, &interface(), &site, &settings());
    assert_eq!(lead(&usual), "image");
    assert!(usual.choice("local").is_none(), "once is by its own script only");
    let refused = site.edit(&[
        Edit::Create { entity: "group/room".parse().unwrap() },
        Edit::Set {
            entity: "group/room".parse().unwrap(),
            variable: "boot_once".parse().unwrap(),
            values: Values::one("local"),
            expect: None,
        },
    ]);
    assert!(refused.is_err(), "a group can't use it up");
}

#[test]
fn a_choice_that_lacks_something_is_left_out_and_said_so() {
    let plan = plan_on(
        &site(&["image=debian choices=disk,odd menu_timeout=5"], &[("disk", "kind=disk"), ("odd", "")]),
        None,
    );
    assert_eq!(plan.choice("odd"), None);
    assert!(why(&plan).contains("bootd site show choice/odd"), "{}", why(&plan));
}

#[test]
fn no_menu_is_longer_than_is_served() {
    let names: Vec<String> = (0..MAX_OFFERED + 10).map(|number| format!("c{number}")).collect();
    let choices: Vec<(&str, &str)> = names.iter().map(|name| (name.as_str(), "kind=local")).collect();
    let own = format!("choices={} menu_timeout=5", names.join(","));
    let plan = plan_on(&site(&[&own], &choices), None);
    assert_eq!(plan.offer.choices.len(), MAX_OFFERED);
    assert!(why(&plan).contains("the others are left out"), "{}", why(&plan));
}

#[test]
fn strangers_get_what_guests_boot_and_nothing_that_makes_a_disk() {
    let site = site(&["image=debian"], CHOICES);
    let with_guest = |choice: &str| {
        let set = Edit::Set {
            entity: "site/defaults".parse().unwrap(),
            variable: "guest_choice".parse().unwrap(),
            values: Values::one(choice),
            expect: None,
        };
        site.edit(&[Edit::Create { entity: "site/defaults".parse().unwrap() }, set]).unwrap().0
    };
    let plan_of = |site: &Site, unknown, stage| {
        let settings = Settings { unknown, ..settings() };
        plan(&Asker::supposed(mac(90), stage, Some(Firmware::Bios)), &interface(), site, &settings)
    };
    for (unknown, guest, wanted) in [
        (Unknown::Lease, "memtest", "nothing"),
        (Unknown::Ignore, "memtest", "nothing"),
        (Unknown::Guest, "memtest", "memtest"),
        (Unknown::Guest, "disk", "nothing"),
        (Unknown::Guest, "tools", "nothing"),
        (Unknown::Register, "memtest", "register"),
        (Unknown::Register, "disk", "register"),
    ] {
        let site = with_guest(guest);
        let plan = plan_of(&site, unknown, Stage::Ipxe);
        assert_eq!(lead(&plan), wanted, "{unknown:?} {guest}: {}", why(&plan));
        assert_eq!(plan.script_url.is_some(), wanted != "nothing");
        assert!(plan.client.is_none() && plan.image.is_none() && plan.choice("disk").is_none());
        let program = plan_of(&site, unknown, Stage::Firmware).boot_program;
        assert_eq!(program.is_some(), wanted != "nothing", "{unknown:?} {guest}");
        assert_eq!(plan.choice("memtest").is_some(), wanted != "nothing" && guest == "memtest");
    }
}
