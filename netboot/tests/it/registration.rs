//! What strangers type, taken in bounds.

use netboot::{RegistrationError, RegistrationForm, Registrations};

use crate::lab::{ip, mac};

fn form(name: &str) -> RegistrationForm {
    RegistrationForm::parse(&format!("name={name}")).unwrap()
}

#[test]
fn a_form_is_read_as_ipxe_writes_it() {
    let query = "name=EN1018-07&group=en1018&uuid=4c4c4544-0042-3510-8052-b4c04f4e3732&serial=8NR5%2FX&\
                 manufacturer=Dell%20Inc.&product=Opti%0aPlex&more=x";
    let form = RegistrationForm::parse(query).unwrap();
    assert_eq!(form.name.as_str(), "en1018-07");
    assert_eq!(form.group.unwrap().as_str(), "en1018");
    assert_eq!((form.serial.as_str(), form.manufacturer.as_str()), ("8NR5/X", "Dell Inc."));
    assert_eq!(form.product, "OptiPlex", "what could break a line is left out");
    for (query, wanted) in [
        ("", RegistrationError::Name),
        ("name=", RegistrationError::Name),
        ("name=a%20b", RegistrationError::Name),
        ("name=%zz", RegistrationError::Name),
        ("name=a&group=../x", RegistrationError::Group),
    ] {
        assert_eq!(RegistrationForm::parse(query), Err(wanted), "{query}");
    }
    assert_eq!(RegistrationForm::parse("name=a&group=").unwrap().group, None);
    let long = RegistrationForm::parse(&format!("name=a&serial={}", "x".repeat(5000))).unwrap();
    assert_eq!(long.serial.len(), 64);
}

#[test]
fn no_more_wait_than_are_kept_and_no_two_for_one_name() {
    let mut all = Registrations::default();
    all.submit(mac(1), ip(1), form("pc1"), 1).unwrap();
    let taken = all.submit(mac(2), ip(2), form("pc1"), 2).unwrap_err();
    assert!(taken.to_string().contains("pc1"), "{taken}");
    all.submit(mac(1), ip(1), form("pc9"), 3).unwrap();
    assert_eq!(all.iter().count(), 1, "a machine that asks again has changed its mind");
    all.submit(mac(2), ip(2), form("pc1"), 2).unwrap();
    assert!(all.reject(mac(2), "not ours") && !all.reject(mac(3), "nobody"));
    all.submit(mac(3), ip(3), form("pc1"), 4).unwrap();

    let other = |n: u16| {
        let [high, low] = n.to_be_bytes();
        site::MacAddr::new([2, 0, 0, 9, high, low])
    };
    let mut number = 0_u16;
    let full = loop {
        number += 1;
        if let Err(error) = all.submit(other(number), ip(4), form(&format!("x{number}")), 5) {
            break error;
        }
        assert!(number < 2000, "there is no end to them");
    };
    assert_eq!(full, RegistrationError::TooMany);
    assert!(all.get(mac(2)).is_none(), "who was rejected made room");
    assert!(all.get(mac(1)).is_some() && all.get(mac(3)).is_some());
    let text = serde_json::to_string(&all).unwrap();
    assert_eq!(serde_json::from_str::<Registrations>(&text).unwrap(), all);
}
