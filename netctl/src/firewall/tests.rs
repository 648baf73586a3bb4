use super::batch::{Family, Transaction};
use super::{Isolation, Publish, Zone, table};

fn port(host: Option<&str>, host_port: u16, to: &str) -> Publish {
    let host = host.map(|host| host.parse().unwrap());
    Publish { host, protocol: 6, host_port, to: to.parse().unwrap(), to_port: 80 }
}

fn hex(transaction: Transaction) -> String {
    transaction.finish().bytes().iter().map(|byte| format!("{byte:02x}")).collect()
}

#[test]
fn an_element_is_encoded_as_nft_does() {
    let mut transaction = Transaction::new("bulkhead");
    table::publish(&mut transaction, Family::V4, &[port(None, 8080, "10.90.0.2")]);
    let text = hex(transaction);
    // key: tcp . 8080; value: 10.90.0.2 . 80, each part padded to four bytes.
    assert!(text.contains("0c0001000600000001f90000".replace("01f9", "1f90").as_str()), "{text}");
    assert!(text.contains("0c0001000a5a000200500000"), "{text}");
}

#[test]
fn addresses_go_to_their_own_map_and_family() {
    let ports = [port(Some("127.0.0.1"), 1, "10.0.0.2"), port(None, 2, "fd00::2")];
    let (mut v4, mut v6) = (Transaction::new("bulkhead"), Transaction::new("bulkhead"));
    table::publish(&mut v4, Family::V4, &ports);
    table::publish(&mut v6, Family::V6, &ports);
    let at = "published_at\0".bytes().map(|byte| format!("{byte:02x}")).collect::<String>();
    assert!(hex(v4).contains(&at));
    assert!(!hex(v6).contains(&at));
}

#[test]
fn thousands_of_ports_stay_well_formed() {
    let ports: Vec<_> = (1..=5000).map(|number| port(None, number, "10.90.0.2")).collect();
    let mut transaction = Transaction::new("bulkhead");
    table::publish(&mut transaction, Family::V4, &ports);
    let batch = transaction.finish();
    let (mut bytes, mut messages) = (batch.bytes(), 0);
    while !bytes.is_empty() {
        let length = u32::from_ne_bytes(bytes[..4].try_into().unwrap()) as usize;
        bytes = &bytes[length..];
        messages += 1;
    }
    assert_eq!(messages, 12);
}

#[test]
fn a_family_without_a_subnet_has_no_table() {
    let zone = Zone {
        bridge: "b".into(),
        subnets: vec!["10.0.0.0/24".parse().unwrap()],
        masquerade: true,
        ..Zone::default()
    };
    assert!(Family::V4.is_used_by(std::slice::from_ref(&zone)) && !Family::V6.is_used_by(&[zone]));
}

/// Everything that the kernel is sent for a mixed set of networks and ports. `BLESS=1` writes the file anew.
#[test]
fn the_whole_table_is_the_golden_one() {
    let zone = |bridge: &str, subnets: &[&str]| Zone {
        bridge: bridge.into(),
        subnets: subnets.iter().map(|subnet| subnet.parse().unwrap()).collect(),
        masquerade: true,
        ..Zone::default()
    };
    let zones = [
        Zone { names: vec!["10.1.0.1".parse().unwrap()], ..zone("plain", &["10.1.0.0/16", "fd01::/64"]) },
        Zone { internal: true, ..zone("inner", &["10.2.0.0/24"]) },
        Zone {
            routed: true,
            masquerade: false,
            isolation: Isolation::Some,
            ..zone("open", &["10.3.0.0/24"])
        },
        Zone { isolation: Isolation::Strict, ..zone("strict", &["10.4.0.0/24"]) },
    ];
    let ports =
        [port(None, 53, "10.1.0.2"), port(Some("127.0.0.1"), 8080, "10.1.0.2"), port(None, 1, "fd01::2")];
    let text: String = super::whole("bulkhead", &zones, &ports).describe();
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/src/firewall/golden.txt");
    if std::env::var_os("BLESS").is_some() {
        std::fs::write(path, &text).unwrap();
    }
    let golden = std::fs::read_to_string(path).unwrap();
    for (line, (ours, theirs)) in text.lines().zip(golden.lines()).enumerate() {
        assert_eq!(ours, theirs, "line {} of {path}; BLESS=1 accepts what is new", line + 1);
    }
    assert_eq!(text, golden);
}
